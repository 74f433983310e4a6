//! What the readers of one channel share: its ring, and the wakers of those that wait. Synchronous; reading the store is
//! left to others.
//!
//! # Invariants
//! 1. **Register, then read, then wait.** [`Topic::poll`] registers the waker and looks into the ring under one lock, and
//!    everything that changes the ring takes the wakers under the same lock: either the poll sees the change, or the change
//!    sees the waker.
//! 2. Wakers are called after the lock is released, and taken only together with a new `version`: a reader that registered
//!    at the current version will be woken, and need not look again ([`Topic::is_parked`]).
//! 3. Only a store read decides a reset. The ring answers for positions that it holds. For any other position
//!    [`TopicLookup`] carries the topic's `version`, and a reader may wait if the store confirmed *at that version* that
//!    nothing follows: each change of the ring is a new version and wakes every reader.

mod ring_state;
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

pub(super) use self::{ring_state::Advance, waiters::WaiterSlot};
use self::{
    ring_state::RingState,
    waiters::{Upcoming, Waiters},
};
use super::{
    entry_run::EntryRun,
    error::ReadError,
    ring::{RingChange, RingLookup},
    shared_page::SharedPage,
    shared_read::SharedReads,
    sync::{AtomicU64, Mutex, lock},
};
use crate::{
    channel::Channel,
    cursor::Cursor,
    store::{Entry, Head, Outcome, Page, log_pace::LogBudget},
};

#[derive(Debug)]
pub(super) struct Topic {
    channel: Channel,
    pub(super) shared_reads: SharedReads,
    /// Written under the lock of `state`, read without it.
    version: AtomicU64,
    /// Changes when the store turned out to have another history than the ring: pages read before are useless then.
    generation: std::sync::atomic::AtomicU64,
    /// The size of the rings of all topics.
    total_ring_bytes: Arc<AtomicUsize>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    ring: RingState,
    /// This ring's part of `total_ring_bytes`.
    counted_bytes: usize,
    waiters: Waiters,
}

/// What the topic knows about a position.
#[derive(Debug)]
pub(super) enum TopicLookup {
    /// These entries follow.
    Run(Arc<EntryRun>),
    CaughtUp {
        closed: bool,
    },
    /// Only the store can tell.
    NotInRing {
        version: u64,
    },
    /// It lies before all that the ring holds.
    BeforeRing {
        version: u64,
    },
}

/// Whether any reader is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Occupancy {
    Occupied,
    Empty,
}

impl Topic {
    pub(super) fn new(channel: Channel, ring_bytes: usize, total_ring_bytes: Arc<AtomicUsize>) -> Self {
        let state = State { ring: RingState::new(ring_bytes), counted_bytes: 0, waiters: Waiters::default() };
        Self {
            channel,
            shared_reads: SharedReads::default(),
            version: AtomicU64::new(1),
            generation: Default::default(),
            total_ring_bytes,
            state: Mutex::new(state),
        }
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
}

/// Readers.
impl Topic {
    pub(super) fn join(&self) -> WaiterSlot {
        lock(&self.state).waiters.join()
    }

    pub(super) fn leave(&self, slot: &WaiterSlot) -> Occupancy {
        let mut state = lock(&self.state);
        let waker = state.waiters.leave(slot, self.version());
        let occupancy = if state.waiters.readers() == 0 { Occupancy::Empty } else { Occupancy::Occupied };
        drop(state);
        drop(waker);
        occupancy
    }

    pub(super) fn has_readers(&self) -> bool {
        self.readers() > 0
    }

    pub(super) fn has_several_readers(&self) -> bool {
        self.readers() > 1
    }

    pub(super) fn readers(&self) -> usize {
        lock(&self.state).waiters.readers()
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
            TopicLookup::Run(run) if state.ring.is_at_open_head(run.next()) => Upcoming::OneRun,
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

    /// Looks up `position` without waiting.
    pub(super) fn peek(&self, position: Cursor) -> TopicLookup {
        self.lookup(&mut lock(&self.state), position)
    }

    /// Has `cx` woken at the next change, whatever it is.
    pub(super) fn register(&self, slot: &mut WaiterSlot, cx: &Context<'_>) {
        let replaced = lock(&self.state).waiters.register(slot, self.version(), cx.waker());
        drop(replaced);
        slot.upcoming = Upcoming::Unknown;
    }

    /// Records that a reader at `position`, which the ring does not hold, waits because a read found nothing after it. If the
    /// ring is ahead, the next comparison of heads wakes it to ask again.
    pub(super) fn park_outside_ring(&self, position: Cursor) {
        lock(&self.state).ring.park_outside_ring(position);
    }

    /// Whether the ring holds `position`.
    pub(super) fn holds(&self, position: Cursor) -> bool {
        lock(&self.state).ring.holds(position)
    }

    /// The ring's head, once a read anchored it.
    pub(super) fn head(&self) -> Option<Head> {
        lock(&self.state).ring.head()
    }

    /// Wakes every reader, without a change.
    pub(super) fn wake_all(&self) {
        let wakers = self.take_wakers(&mut lock(&self.state));
        wakers.for_each(Waker::wake);
    }

    fn lookup(&self, state: &mut State, position: Cursor) -> TopicLookup {
        match state.ring.lookup(position) {
            RingLookup::Run(run) => TopicLookup::Run(run),
            RingLookup::CaughtUp { closed } => TopicLookup::CaughtUp { closed },
            RingLookup::NotInRing => TopicLookup::NotInRing { version: self.version() },
            RingLookup::BeforeRing => TopicLookup::BeforeRing { version: self.version() },
        }
    }
}

/// The ring.
impl Topic {
    /// Offers entries that the store assigned, and the head after them if it is known.
    pub(super) fn feed(&self, entries: &[Entry], head: Option<Head>) -> Advance {
        self.change(|ring| ring.feed(entries, head))
    }

    /// Compares the store's current head. One that is lower than the ring's counts too: the log may have lost its tail.
    pub(super) fn confirm_head(&self, head: Head) -> Advance {
        self.change(|ring| ring.confirm_head(head))
    }

    /// Compares a head that may be outdated.
    pub(super) fn hint_head(&self, head: Head) -> Advance {
        self.change(|ring| ring.hint_head(head))
    }

    /// Compares the head that a reader's own read returned: the first one anchors the ring.
    pub(super) fn anchor(&self, head: Head) -> Advance {
        self.change(|ring| ring.anchor(head))
    }

    /// Records that the ring may no longer hold the channel's history.
    pub(super) fn invalidate(&self) -> Advance {
        self.change(RingState::invalidate)
    }

    /// Applies a page that was read from the ring's head.
    pub(super) fn apply_read(&self, page: &Page) {
        let _ = self.change(|ring| {
            if page.outcome != Outcome::Continued {
                self.generation.fetch_add(1, Release);
            }
            ring.apply_read(page)
        });
    }

    /// Keeps a page that one reader needed for others that come back to the same position. Not for a lone reader: no other
    /// would use it, and with a channel per user all their histories would be kept.
    pub(super) fn backfill(&self, page: &SharedPage) {
        let mut state = lock(&self.state);
        if state.waiters.readers() > 1 {
            state.ring.backfill(page);
        }
        self.count_bytes(&mut state);
    }

    /// Claims the right to read on the ring's behalf, if that is needed. It ends when [`Topic::next_advance`] returns `None`, or
    /// with [`Topic::abandon_advance`].
    pub(super) fn claim_advance(&self) -> Advance {
        lock(&self.state).ring.claim_advance()
    }

    /// Where the next read on the ring's behalf starts, if anything is missing. Otherwise the claim is released in the same step,
    /// so that the next caller that finds something missing can claim it.
    pub(super) fn next_advance(&self) -> Option<Cursor> {
        lock(&self.state).ring.next_advance()
    }

    /// Releases the claim without having read.
    pub(super) fn abandon_advance(&self) {
        lock(&self.state).ring.abandon_advance();
    }

    /// Records whether it is the channel's data that cannot be read; logged once until it can.
    pub(super) fn note_unreadable(&self, error: &ReadError, log: &LogBudget) {
        let Some(error) = error.corrupt() else { return };
        // As a string, whose characters that change the direction of writing subscribers escape.
        let channel = self.channel.as_str();
        if lock(&self.state).ring.mark_unreadable() && log.is_left() {
            tracing::error!(channel, %error, source = error.source(), "a channel cannot be followed");
        }
    }

    fn change(&self, apply: impl FnOnce(&mut RingState) -> RingChange) -> Advance {
        let mut state = lock(&self.state);
        let change = apply(&mut state.ring);
        self.count_bytes(&mut state);
        let wakers = match change {
            RingChange::Changed => Some(self.take_wakers(&mut state)),
            RingChange::Unchanged | RingChange::Gap => None,
        };
        let advance = state.ring.advance();
        drop(state);
        wakers.into_iter().flatten().for_each(Waker::wake);
        advance
    }

    /// Every reader has to look again.
    fn take_wakers(&self, state: &mut State) -> impl Iterator<Item = Waker> + use<> {
        self.version.fetch_add(1, Release);
        state.waiters.take().into_iter().flatten()
    }

    fn count_bytes(&self, state: &mut State) {
        let bytes = state.ring.bytes();
        let before = std::mem::replace(&mut state.counted_bytes, bytes);
        // Wraps as a subtraction does.
        self.total_ring_bytes.fetch_add(bytes.wrapping_sub(before), Relaxed);
    }
}

impl Drop for Topic {
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        self.total_ring_bytes.fetch_sub(state.counted_bytes, Relaxed);
    }
}

#[cfg(all(test, tower_events_loom))]
mod race;

#[cfg(all(test, not(tower_events_loom)))]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests;
