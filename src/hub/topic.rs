//! What the subscribers of one channel share: the ring, and who waits. Synchronous; the store is the follower's business.
//!
//! # Invariants
//! 1. **Register, then read, then wait.** [`Topic::poll`] stores the waker and looks into the ring under one lock, and
//!    everything that changes the ring takes the wakers under the same lock: either the poll sees the change, or the change
//!    sees the waker.
//! 2. Wakers are called after the lock is released, and taken only with a new `version`: whoever registered at this one
//!    will be woken, and need not look again ([`Topic::is_parked`]).
//! 3. Only a store read decides a reset. The ring answers for positions that it holds; everything else is
//!    [`TopicLookup::NotInRing`] with the topic's `version`, and a subscriber whom the store confirmed *at that version* may wait:
//!    each change of the ring is a new version and wakes everybody.

mod waiters;

use std::{
    error::Error as _,
    sync::{
        Arc, PoisonError,
        atomic::{
            AtomicUsize,
            Ordering::{Acquire, Relaxed, Release},
        },
    },
    task::{Context, Waker},
};

pub(super) use self::waiters::WaiterSlot;
use self::waiters::{Upcoming, Waiters};
use super::{
    entry_run::EntryRun,
    error::ReadError,
    ring::{Ring, RingChange, RingLookup},
    shared_page::SharedPage,
    shared_read::SharedReads,
    sync::{AtomicU64, Mutex, lock},
};
use crate::{
    channel::Channel,
    cursor::Cursor,
    store::{Entry, Head, Outcome, Page},
};

#[derive(Debug)]
pub(super) struct Topic {
    channel: Channel,
    ring_bytes: usize,
    /// Reads of subscribers that others can share.
    pub(super) shared_reads: SharedReads,
    /// Changes under the lock of `state`, and is read without it.
    version: AtomicU64,
    /// Changes when the store was seen to have another history than the ring's: what was read before is then of no use.
    generation: std::sync::atomic::AtomicU64,
    /// What the rings of all topics hold.
    total_ring_bytes: Arc<AtomicUsize>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// `None` until a store read anchors it.
    ring: Option<Ring>,
    /// What of it is counted in the sum of all rings.
    accounted_bytes: usize,
    waiters: Waiters,
    /// Something was seen that the ring could not take: the store knows more.
    stale: bool,
    /// Somebody reads on the ring's behalf.
    advancing: bool,
    /// Reading it failed for a reason of its own, which was logged.
    unreadable: bool,
    /// Somebody waits although the ring is further on: a read told it that nothing follows, and must have been behind.
    parked_behind: bool,
}

/// What a poll saw.
#[derive(Debug)]
pub(super) enum TopicLookup {
    Run(Arc<EntryRun>),
    CaughtUp {
        closed: bool,
    },
    NotInRing {
        version: u64,
    },
    /// It lies before all that the ring holds.
    BeforeRing {
        version: u64,
    },
}

/// Whether anybody is left when a reader leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Occupancy {
    Occupied,
    Empty,
}

/// Whether somebody has to read the store on the ring's behalf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(super) enum Advance {
    Needed,
    NotNeeded,
}

impl Topic {
    pub(super) fn new(channel: Channel, ring_bytes: usize, total_ring_bytes: Arc<AtomicUsize>) -> Self {
        let state = Mutex::new(State::default());
        let (version, generation) = (AtomicU64::new(1), Default::default());
        Self { channel, ring_bytes, shared_reads: SharedReads::default(), version, generation, total_ring_bytes, state }
    }

    pub(super) fn channel(&self) -> &Channel {
        &self.channel
    }

    pub(super) fn version(&self) -> u64 {
        self.version.load(Acquire)
    }

    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Acquire)
    }

    /// A slot for a waker.
    pub(super) fn join(&self) -> WaiterSlot {
        lock(&self.state).waiters.join()
    }

    pub(super) fn leave(&self, slot: &WaiterSlot) -> Occupancy {
        let mut state = lock(&self.state);
        let waker = state.waiters.leave(slot, self.version());
        let occupancy = if state.waiters.count() == 0 { Occupancy::Empty } else { Occupancy::Occupied };
        drop(state);
        drop(waker);
        occupancy
    }

    pub(super) fn has_readers(&self) -> bool {
        lock(&self.state).waiters.count() > 0
    }

    pub(super) fn has_several_readers(&self) -> bool {
        lock(&self.state).waiters.count() > 1
    }

    /// Whether nothing follows what was taken since the last [`Topic::poll`], and `cx` will be woken when that changes.
    pub(super) fn is_parked(&self, slot: &WaiterSlot, cx: &Context<'_>) -> bool {
        slot.is_parked(self.version(), cx.waker())
    }

    /// Looks up `position`; unless more than one run follows it, `cx` is woken at the next change.
    pub(super) fn poll(&self, slot: &mut WaiterSlot, position: Cursor, cx: &Context<'_>) -> TopicLookup {
        let mut state = lock(&self.state);
        let found = self.lookup(&mut state, position);
        let upcoming = match &found {
            TopicLookup::Run(run) if state.is_at_open_head(run.next()) => Upcoming::OneRun,
            TopicLookup::CaughtUp { closed: false } => Upcoming::Nothing,
            _ => Upcoming::Unknown,
        };
        let replaced = match found {
            TopicLookup::Run(_) if upcoming == Upcoming::Unknown => [None, None],
            _ => state.waiters.register(slot, self.version(), cx.waker()),
        };
        drop(state);
        drop(replaced);
        slot.upcoming = upcoming;
        found
    }

    /// Whether the ring holds `position`.
    pub(super) fn holds(&self, position: Cursor) -> bool {
        lock(&self.state).ring.as_ref().is_some_and(|ring| ring.holds(position))
    }

    /// The ring's head, once a read anchored it.
    pub(super) fn head(&self) -> Option<Head> {
        lock(&self.state).ring.as_ref().map(Ring::head)
    }

    /// Looks up `position` without waiting.
    pub(super) fn peek(&self, position: Cursor) -> TopicLookup {
        self.lookup(&mut lock(&self.state), position)
    }

    fn lookup(&self, state: &mut State, position: Cursor) -> TopicLookup {
        match state.ring.as_mut().map_or(RingLookup::NotInRing, |ring| ring.lookup(position)) {
            RingLookup::Run(run) => TopicLookup::Run(run),
            RingLookup::CaughtUp { closed } => TopicLookup::CaughtUp { closed },
            RingLookup::NotInRing => TopicLookup::NotInRing { version: self.version() },
            RingLookup::BeforeRing => TopicLookup::BeforeRing { version: self.version() },
        }
    }

    /// Has `cx` woken at the next change, whatever it is.
    pub(super) fn register(&self, slot: &mut WaiterSlot, cx: &Context<'_>) {
        let replaced = lock(&self.state).waiters.register(slot, self.version(), cx.waker());
        drop(replaced);
        slot.upcoming = Upcoming::Unknown;
    }

    /// Notes that a subscriber at `position`, which the ring does not hold, waits on the word of a read. If the ring is further
    /// on, the next comparison of heads has it ask again.
    pub(super) fn park_outside_ring(&self, position: Cursor) {
        let mut state = lock(&self.state);
        let head = state.ring.as_ref().map(|ring| ring.head().cursor);
        state.parked_behind |= head.is_some_and(|head| head.epoch != position.epoch || head.seq > position.seq);
    }

    /// Offers entries that the store assigned, and the head after them if it is known.
    pub(super) fn feed(&self, entries: &[Entry], head: Option<Head>) -> Advance {
        self.change(|state| {
            // An unanchored ring will be anchored by a read that may have been taken before these entries.
            let Some(ring) = &mut state.ring else { return RingChange::Gap };
            let fed = ring.feed(entries);
            match (fed, head) {
                (RingChange::Gap, _) | (_, None) => fed,
                (fed, Some(head)) if head.closed => match ring.close(head) {
                    RingChange::Unchanged => fed,
                    closed => closed,
                },
                (fed, Some(_)) => fed,
            }
        })
    }

    /// Takes notice of the head that the store has now. One that is older than the ring's counts too: the log may have
    /// lost its tail.
    pub(super) fn confirm_head(&self, head: Head) -> Advance {
        self.change(|state| match &state.ring {
            Some(ring) if ring.head() == head => {
                state.unreadable = false;
                match std::mem::take(&mut state.parked_behind) {
                    true => RingChange::Changed,
                    false => RingChange::Unchanged,
                }
            }
            Some(_) => RingChange::Gap,
            None => {
                state.ring = Some(Ring::new(head, self.ring_bytes));
                RingChange::Changed
            }
        })
    }

    /// Takes notice of a head that may be outdated.
    pub(super) fn hint_head(&self, head: Head) -> Advance {
        self.change(|state| match &state.ring {
            Some(ring) if !is_news(head, ring.head()) => RingChange::Unchanged,
            _ => RingChange::Gap,
        })
    }

    /// Takes notice of a read on a subscriber's behalf: the first one anchors the ring.
    pub(super) fn anchor(&self, head: Head) -> Advance {
        self.change(|state| match &state.ring {
            Some(ring) if !is_news(head, ring.head()) => RingChange::Unchanged,
            Some(_) => RingChange::Gap,
            None => {
                state.ring = Some(Ring::new(head, self.ring_bytes));
                RingChange::Changed
            }
        })
    }

    /// Keeps what a reader had to read for the others who come back to the same place. One that is alone would be the only
    /// one to use it, and with a channel for each user that would be the history of all of them.
    pub(super) fn backfill(&self, page: &SharedPage) {
        let mut state = lock(&self.state);
        if state.waiters.count() > 1 {
            if let Some(ring) = &mut state.ring {
                ring.backfill(page.newest_first());
            }
        }
        self.account(&mut state);
    }

    fn account(&self, state: &mut State) {
        let bytes = state.ring.as_ref().map_or(0, Ring::bytes);
        let before = std::mem::replace(&mut state.accounted_bytes, bytes);
        self.total_ring_bytes.fetch_add(bytes.wrapping_sub(before), Relaxed); // wraps as a subtraction does
    }

    /// Takes what a read after the ring's own head gave.
    pub(super) fn apply_read(&self, page: &Page) {
        let _ = self.change(|state| {
            if page.outcome != Outcome::Continued {
                self.generation.fetch_add(1, Release);
            }
            state.unreadable = false;
            let ring = state.ring.get_or_insert_with(|| Ring::new(page.head, self.ring_bytes));
            let whole = page.outcome == Outcome::Continued && page.next == page.head.cursor;
            let before = ring.head();
            // Another history, or more than a ring is for: everybody goes on from a position of their own.
            if !whole || ring.feed(&page.entries) == RingChange::Gap || ring.close(page.head) == RingChange::Gap {
                let outdated = page.outcome == Outcome::Continued && !is_news(page.head, ring.head());
                if !outdated {
                    *ring = Ring::new(page.head, self.ring_bytes);
                    return RingChange::Changed;
                }
            }
            // What was read may have come by itself meanwhile.
            if ring.head() == before { RingChange::Unchanged } else { RingChange::Changed }
        });
    }

    /// Claims the right to read on the ring's behalf, from the position returned. Whoever gets it calls
    /// [`Topic::continue_advance`] or [`Topic::abandon_advance`].
    pub(super) fn begin_advance(&self) -> Option<Cursor> {
        let mut state = lock(&self.state);
        let from = state.ring.as_ref()?.head().cursor;
        if !state.stale || state.advancing {
            return None;
        }
        state.stale = false;
        state.advancing = true;
        Some(from)
    }

    /// After one read on the ring's behalf: where the next one starts, if something was seen meanwhile; else the right to
    /// read is given back in the same step, so that whatever is seen from now on finds nobody reading.
    pub(super) fn continue_advance(&self) -> Option<Cursor> {
        let mut state = lock(&self.state);
        state.advancing = std::mem::take(&mut state.stale);
        let from = state.ring.as_ref().map(|ring| ring.head().cursor);
        from.filter(|_| state.advancing)
    }

    /// Gives the right to read back without having read.
    pub(super) fn abandon_advance(&self) {
        lock(&self.state).advancing = false;
    }

    /// Notes that what the ring holds may not be the channel's history any more.
    pub(super) fn invalidate(&self) -> Advance {
        self.change(|_| RingChange::Gap)
    }

    /// Takes notice that the channel's data cannot be read: logged once, until they can.
    pub(super) fn note_unreadable(&self, error: &ReadError) {
        let Some(error) = error.corrupt() else { return };
        if !std::mem::replace(&mut lock(&self.state).unreadable, true) {
            tracing::warn!(channel = %self.channel, %error, source = error.source(), "a channel cannot be followed");
        }
    }

    /// Wakes everybody, without a change.
    pub(super) fn wake_all(&self) {
        let wakers = self.take_wakers(&mut lock(&self.state));
        wakers.for_each(Waker::wake);
    }

    /// Everybody is to look again.
    fn take_wakers(&self, state: &mut State) -> impl Iterator<Item = Waker> + use<> {
        self.version.fetch_add(1, Release);
        state.waiters.take().into_iter().flatten()
    }

    fn change(&self, apply: impl FnOnce(&mut State) -> RingChange) -> Advance {
        let mut state = lock(&self.state);
        let fed = apply(&mut state);
        self.account(&mut state);
        state.stale |= fed == RingChange::Gap;
        let wakers = (fed == RingChange::Changed).then(|| self.take_wakers(&mut state));
        let needed = state.stale && !state.advancing && state.ring.is_some();
        drop(state);
        wakers.into_iter().flatten().for_each(Waker::wake);
        if needed { Advance::Needed } else { Advance::NotNeeded }
    }
}

impl Drop for Topic {
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        self.total_ring_bytes.fetch_sub(state.accounted_bytes, Relaxed);
    }
}

impl State {
    /// Whether nothing follows `position`, and something may.
    fn is_at_open_head(&self, position: Cursor) -> bool {
        self.ring.as_ref().is_some_and(|ring| ring.head() == Head { cursor: position, closed: false })
    }
}

/// Whether `head` can be news to a ring at `known`: not when it lies further back in the same epoch, as that of a snapshot
/// does that was taken before the ring's newest entries came.
fn is_news(head: Head, known: Head) -> bool {
    let further_back = head.cursor.epoch == known.cursor.epoch && head.cursor.seq < known.cursor.seq;
    head != known && !further_back
}

#[cfg(all(test, tower_events_loom))]
mod race;

#[cfg(all(test, not(tower_events_loom)))]
mod tests {
    use std::{
        sync::atomic::{AtomicUsize, Ordering::Relaxed},
        task::Wake,
    };

    use super::*;
    use crate::event::Data;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Relaxed);
        }
    }

    fn head(seq: u64) -> Head {
        Head { cursor: Cursor { epoch: 1, seq, tag: seq as u32 }, closed: false }
    }

    fn page(from: u64, to: u64) -> Page {
        let (from, head) = (head(from).cursor, head(to));
        Page { outcome: Outcome::Continued, from, entries: Vec::new(), next: head.cursor, head }
    }

    #[test]
    fn a_read_wakes_readers_only_when_it_changes_the_ring() {
        let topic = Topic::new(Channel::new("a").unwrap(), 1 << 20, Arc::default());
        assert_eq!(topic.anchor(head(1)), Advance::NotNeeded);
        let (mut slot, count) = (topic.join(), Arc::new(Count::default()));
        let mut park = || topic.poll(&mut slot, head(1).cursor, &Context::from_waker(&count.clone().into()));
        for (read, woken) in [(page(1, 1), 0), (page(0, 0), 0), (page(1, 3), 1)] {
            assert!(matches!(park(), TopicLookup::CaughtUp { closed: false }));
            topic.apply_read(&read);
            assert_eq!(count.0.load(Relaxed), woken, "{read:?}");
        }
        assert_eq!((topic.has_readers(), topic.leave(&slot)), (true, Occupancy::Empty));
    }

    #[test]
    fn who_is_parked_looks_again_after_any_wake_and_for_another_waker() {
        let entry = |seq| Entry {
            channel: Channel::new("a").unwrap(),
            cursor: head(seq).cursor,
            prev_tag: seq as u32 - 1,
            appended: 0,
            time: 0,
            name: None,
            data: Data::text("x".repeat(40 << 10)),
        };
        let topic = Topic::new(Channel::new("a").unwrap(), 1 << 20, Arc::default());
        let _ = topic.anchor(head(0));
        let [one, other] = [(); 2].map(|()| Waker::from(Arc::new(Count::default())));
        let (one, other) = (&Context::from_waker(&one), &Context::from_waker(&other));
        let mut slot = topic.join();
        let _ = topic.feed(&[entry(1), entry(2)], None);
        let mut lookup = |seq, cx: &Context<'_>, change: &dyn Fn()| {
            if let TopicLookup::Run(_) = topic.poll(&mut slot, head(seq).cursor, cx) {
                assert!(!topic.is_parked(&slot, cx), "it was not taken yet");
                slot.take_run();
            }
            change();
            (topic.is_parked(&slot, one), topic.is_parked(&slot, other))
        };
        assert_eq!(lookup(0, one, &|| ()), (false, false), "the second entry follows");
        assert_eq!(lookup(1, one, &|| ()), (true, false), "it took the last");
        assert_eq!(lookup(2, other, &|| ()), (false, true), "another task reads now");
        assert_eq!(lookup(2, one, &|| topic.wake_all()), (false, false));
        assert_eq!(lookup(2, one, &|| assert_eq!(topic.feed(&[entry(3)], None), Advance::NotNeeded)), (false, false));
        let _ = topic.feed(&[], Some(Head { closed: true, ..head(3) }));
        assert_eq!(lookup(2, one, &|| ()), (false, false), "the close follows");
        assert_eq!(lookup(3, one, &|| ()), (false, false), "nothing ever will");
    }
}
