//! What every delivery to every reader changes. Each thread has a part of its own, in a cache line of its own, which it changes
//! without an atomic read-modify-write: that would take a tenth of the time of a delivery.

use std::{
    fmt,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use crate::hub::stats::{Counts, ReaderKind};

/// The part of a thread is written by that thread only, and read by all. Threads that find none left share the last.
#[derive(Default)]
pub(super) struct Deliveries([Part; PARTS]);

#[derive(Default)]
#[repr(align(128))]
struct Part {
    events: [AtomicU64; KINDS],
    bytes: [AtomicU64; KINDS],
    /// How far away the next delivery is whose lag is measured.
    until_sample: AtomicU64,
}

/// Whether to measure the lag of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sample {
    Measure,
    Skip,
}

/// How much a delivery counts towards the next sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Weight {
    /// One in 64 is measured.
    OneOfMany = 1,
    /// The first of its events: one in 8 is measured, so that events with few readers are measured, too.
    First = 8,
}

impl Deliveries {
    pub(super) fn add_events(&self, kind: ReaderKind, count: usize) {
        let add = |part: &Part, owner| add_to(part.events.get(kind as usize), count, owner);
        self.with_part(add);
    }

    pub(super) fn add_bytes(&self, kind: ReaderKind, count: usize) {
        self.with_part(|part, owner| add_to(part.bytes.get(kind as usize), count, owner));
    }

    /// Counts a delivery to a reader that keeps up.
    pub(super) fn sample(&self, weight: Weight) -> Sample {
        // That threads which share a part may disturb each other changes only which delivery is measured.
        self.with_part(|part, _| match part.until_sample.load(Relaxed).checked_sub(weight as u64) {
            Some(left) => {
                part.until_sample.store(left, Relaxed);
                Sample::Skip
            }
            None => {
                part.until_sample.store(SAMPLE_EVERY - 1, Relaxed);
                Sample::Measure
            }
        })
    }

    pub(super) fn events(&self) -> Counts<ReaderKind> {
        self.sum(|part| &part.events)
    }

    pub(super) fn bytes(&self) -> Counts<ReaderKind> {
        self.sum(|part| &part.bytes)
    }

    fn sum(&self, counters: impl Fn(&Part) -> &[AtomicU64; KINDS]) -> Counts<ReaderKind> {
        let of = |kind: ReaderKind, part| counters(part).get(kind as usize).map_or(0, |counter| counter.load(Relaxed));
        Counts::from_fn(|kind| self.0.iter().fold(0, |sum: u64, part| sum.wrapping_add(of(kind, part))))
    }

    fn with_part<T>(&self, change: impl FnOnce(&Part, Owner) -> T) -> T {
        let [owned @ .., shared] = &self.0;
        // A thread that ends may have none any more.
        match PLACE.try_with(|place| place.0).ok().and_then(|place| owned.get(place)) {
            Some(part) => change(part, Owner::ThisThread),
            None => change(shared, Owner::Several),
        }
    }
}

#[derive(Clone, Copy)]
enum Owner {
    ThisThread,
    Several,
}

fn add_to(counter: Option<&AtomicU64>, count: usize, owner: Owner) {
    let Some(counter) = counter else { return };
    match owner {
        // No other thread writes it in between.
        Owner::ThisThread => counter.store(counter.load(Relaxed).wrapping_add(count as u64), Relaxed),
        Owner::Several => _ = counter.fetch_add(count as u64, Relaxed),
    }
}

impl fmt::Debug for Deliveries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.events().fmt(f)
    }
}

thread_local! {
    static PLACE: Place = Place::take();
}

/// Which part belongs to this thread, in all hubs; given back when the thread ends. The lock orders what the thread before wrote
/// before what the next one reads.
struct Place(usize);

static PLACES: Mutex<Places> = Mutex::new(Places { next: 0, given_back: Vec::new() });

struct Places {
    next: usize,
    given_back: Vec<usize>,
}

impl Place {
    fn take() -> Self {
        let mut places = PLACES.lock().unwrap_or_else(PoisonError::into_inner);
        let place = places.given_back.pop().unwrap_or_else(|| {
            places.next += 1;
            places.next - 1
        });
        Self(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        PLACES.lock().unwrap_or_else(PoisonError::into_inner).given_back.push(self.0);
    }
}

const PARTS: usize = 32;

const KINDS: usize = 3;

const SAMPLE_EVERY: u64 = 64;

#[cfg(all(test, not(tower_events_loom)))]
mod tests {
    use std::{sync::Arc, thread};

    use super::*;

    #[test]
    fn nothing_is_lost_with_more_threads_than_parts_and_threads_that_follow_each_other() {
        let deliveries = Arc::new(Deliveries::default());
        for _ in 0..3 {
            let count = |deliveries: Arc<Deliveries>| {
                move || {
                    for _ in 0..1_000 {
                        deliveries.add_events(ReaderKind::Sse, 2);
                        deliveries.add_bytes(ReaderKind::LongPoll, 3);
                    }
                }
            };
            let threads: Vec<_> = (0..2 * PARTS).map(|_| thread::spawn(count(deliveries.clone()))).collect();
            threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
        }
        let times = 3 * 2 * PARTS as u64 * 1_000;
        let (events, bytes) = (deliveries.events(), deliveries.bytes());
        assert_eq!((events.of(ReaderKind::Sse), bytes.of(ReaderKind::LongPoll)), (2 * times, 3 * times));
        assert_eq!((events.sum(), bytes.sum()), (2 * times, 3 * times));
    }

    #[test]
    fn one_delivery_in_64_is_measured_and_more_of_those_that_are_the_first() {
        let deliveries = Deliveries::default();
        let measured = |weight| (0..640).filter(|_| deliveries.sample(weight) == Sample::Measure).count();
        assert!((10..=11).contains(&measured(Weight::OneOfMany)));
        assert!((79..=81).contains(&measured(Weight::First)));
        assert_eq!(Deliveries::default().sample(Weight::OneOfMany), Sample::Measure, "the first of all");
    }
}
