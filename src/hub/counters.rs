//! Counts what happens in a hub, for its statistics. Relaxed atomics that change per batch or per change of state, never per
//! waker: what every delivery changes lies in a cache line of its thread.

use std::{
    fmt,
    sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use super::{
    delivery::Batch,
    error::SubscribeError,
    stats::{
        AtomicHistogram, Counts, EndReason, LabelledCounters, PublishFailure, ReadPurpose, ReaderKind, RefusedBy,
        Totals,
    },
};
use crate::store::{Appended, Reason, StoreError};

#[derive(Debug, Default)]
pub(super) struct Counters {
    deliveries: Deliveries,
    pub(super) open_readers: LabelledCounters<ReaderKind>,
    pub(super) readers: LabelledCounters<ReaderKind>,
    pub(super) resumes: LabelledCounters<ReaderKind>,
    ended_readers: LabelledCounters<EndReason>,
    resets: LabelledCounters<Reason>,
    refusals: LabelledCounters<RefusedBy>,
    publishes: AtomicU64,
    published_events: AtomicU64,
    duplicates: AtomicU64,
    publish_failures: LabelledCounters<PublishFailure>,
    catch_up_reads: AtomicHistogram,
    advancing_reads: AtomicHistogram,
    head_reads: AtomicHistogram,
    read_failures: LabelledCounters<ReadPurpose>,
    catch_up_pages: AtomicU64,
    ring_misses: AtomicU64,
    revoked_pages: AtomicU64,
    delivery_lag: AtomicHistogram,
}

/// Readers.
impl Counters {
    pub(super) fn delivered(&self, kind: ReaderKind, events: &Batch) {
        self.deliveries.add_events(kind, events.len() as u64);
    }

    /// As [`Counters::delivered`], to a reader that keeps up.
    pub(super) fn delivered_live(&self, kind: ReaderKind, events: &Batch) {
        let is_sampled = self.deliveries.add_events(kind, events.len() as u64);
        // The clock is read for few of them: that takes as long as a delivery.
        if events.is_first_delivery() || is_sampled {
            let appended = events.entries().next().map_or(0, |entry| entry.appended);
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            self.delivery_lag.record(now.saturating_sub(Duration::from_millis(appended)));
        }
    }

    pub(super) fn sent(&self, kind: ReaderKind, bytes: usize) {
        self.deliveries.add_bytes(kind, bytes as u64);
    }

    pub(super) fn reset(&self, reason: Reason) {
        self.resets.add(reason, 1);
    }

    pub(super) fn ended(&self, reason: EndReason) {
        self.ended_readers.add(reason, 1);
    }

    pub(super) fn ended_with(&self, error: &SubscribeError) {
        self.ended(match error {
            SubscribeError::Store(_) => EndReason::StoreFailed,
            SubscribeError::Stalled => EndReason::Stalled,
            SubscribeError::Draining { .. } => EndReason::Drained,
            SubscribeError::Overloaded { .. } | SubscribeError::TooManyReaders { .. } => EndReason::Overloaded,
        });
    }

    pub(super) fn refused(&self, by: RefusedBy) {
        self.refusals.add(by, 1);
    }

    pub(super) fn ring_missed(&self) {
        self.ring_misses.fetch_add(1, Relaxed);
    }

    pub(super) fn pages_revoked(&self, count: usize) {
        self.revoked_pages.fetch_add(count as u64, Relaxed);
    }
}

/// The store.
impl Counters {
    pub(super) fn append_finished(&self, result: &Result<Appended, StoreError>) {
        let appended = match result {
            Ok(appended) => appended,
            Err(error) => return self.publish_failures.add(PublishFailure::of(error), 1),
        };
        self.publishes.fetch_add(1, Relaxed);
        self.published_events.fetch_add(appended.entries.len() as u64, Relaxed);
        let duplicates = appended.receipts.iter().filter(|receipt| receipt.duplicate).count();
        if duplicates > 0 {
            self.duplicates.fetch_add(duplicates as u64, Relaxed);
        }
    }

    pub(super) fn read_finished<T, E>(&self, purpose: ReadPurpose, took: Duration, result: &Result<T, E>) {
        match (result, purpose) {
            (Err(_), purpose) => self.read_failures.add(purpose, 1),
            (Ok(_), ReadPurpose::CatchUp) => self.catch_up_reads.record(took),
            (Ok(_), ReadPurpose::Advance) => self.advancing_reads.record(took),
            (Ok(_), ReadPurpose::Heads) => self.head_reads.record(took),
        }
    }

    pub(super) fn caught_up_by_a_page(&self) {
        self.catch_up_pages.fetch_add(1, Relaxed);
    }

    pub(super) fn totals(&self) -> Totals {
        Totals {
            readers: self.readers.load(),
            resumes: self.resumes.load(),
            ended_readers: self.ended_readers.load(),
            deliveries: self.deliveries.events(),
            bytes: self.deliveries.bytes(),
            resets: self.resets.load(),
            refusals: self.refusals.load(),
            publishes: self.publishes.load(Relaxed),
            published_events: self.published_events.load(Relaxed),
            duplicates: self.duplicates.load(Relaxed),
            publish_failures: self.publish_failures.load(),
            catch_up_reads: self.catch_up_reads.load(),
            advancing_reads: self.advancing_reads.load(),
            head_reads: self.head_reads.load(),
            read_failures: self.read_failures.load(),
            catch_up_pages: self.catch_up_pages.load(Relaxed),
            ring_misses: self.ring_misses.load(Relaxed),
            revoked_pages: self.revoked_pages.load(Relaxed),
            delivery_lag: self.delivery_lag.load(),
        }
    }
}

/// What every delivery changes.
#[derive(Default)]
struct Deliveries([Shard; SHARDS]);

/// The part of some threads, in cache lines of its own: those of other threads do not wait for it.
#[derive(Default)]
#[repr(align(128))]
struct Shard {
    events: [AtomicU64; KINDS],
    bytes: [AtomicU64; KINDS],
}

impl Deliveries {
    /// Returns whether this passes a multiple of [`SAMPLE_EVERY`].
    fn add_events(&self, kind: ReaderKind, count: u64) -> bool {
        let Some(events) = self.shard().and_then(|shard| shard.events.get(kind as usize)) else { return false };
        let before = events.fetch_add(count, Relaxed);
        before / SAMPLE_EVERY != before.wrapping_add(count) / SAMPLE_EVERY
    }

    fn add_bytes(&self, kind: ReaderKind, count: u64) {
        if let Some(bytes) = self.shard().and_then(|shard| shard.bytes.get(kind as usize)) {
            bytes.fetch_add(count, Relaxed);
        }
    }

    fn events(&self) -> Counts<ReaderKind> {
        self.sum(|shard| &shard.events)
    }

    fn bytes(&self) -> Counts<ReaderKind> {
        self.sum(|shard| &shard.bytes)
    }

    fn sum(&self, counters: impl Fn(&Shard) -> &[AtomicU64; KINDS]) -> Counts<ReaderKind> {
        let of =
            |kind: ReaderKind, shard| counters(shard).get(kind as usize).map_or(0, |counter| counter.load(Relaxed));
        Counts::from_fn(|kind| self.0.iter().map(|shard| of(kind, shard)).sum())
    }

    fn shard(&self) -> Option<&Shard> {
        self.0.get(THREAD.with(|thread| *thread) % SHARDS)
    }
}

impl fmt::Debug for Deliveries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.events().fmt(f)
    }
}

thread_local! {
    /// The number of this thread.
    static THREAD: usize = NEXT_THREAD.fetch_add(1, Relaxed);
}

static NEXT_THREAD: AtomicUsize = AtomicUsize::new(0);

const SHARDS: usize = 16;

const KINDS: usize = 3;

/// The lag of one of so many deliveries is measured.
const SAMPLE_EVERY: u64 = 64;
