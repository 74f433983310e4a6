//! A topic's ring, and what is known about how current it is. Pure state transitions under the topic's lock.

use std::mem;

use crate::{
    cursor::Cursor,
    hub::{
        ring::{Ring, RingChange, RingLookup},
        shared_page::SharedPage,
    },
    store::{Entry, Head, Outcome, Page},
};

#[derive(Debug)]
pub(super) struct RingState {
    /// `None` until a store read anchors it.
    ring: Option<Ring>,
    max_bytes: usize,
    /// What the store has and the ring could not take.
    missing: Option<Missing>,
    /// A task reads on the ring's behalf.
    advancing: bool,
    /// The data is corrupt, which was logged.
    unreadable: bool,
    /// A reader is parked although the ring is ahead of it: the read that told it that nothing follows was outdated.
    parked_behind: bool,
}

/// What the store has and a ring does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Missing {
    /// What leads up to this head. It may come without a read: appends of this process are answered in any order, and the store's
    /// hints bring what came before them.
    UpTo(Head),
    /// Only a read can tell.
    Unknown,
}

/// Whether the store has to be read on the ring's behalf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(in crate::hub) enum Advance {
    Needed,
    NotNeeded,
}

impl RingState {
    pub(super) fn new(max_bytes: usize) -> Self {
        Self { ring: None, max_bytes, missing: None, advancing: false, unreadable: false, parked_behind: false }
    }

    pub(super) fn lookup(&mut self, position: Cursor) -> RingLookup {
        self.ring.as_mut().map_or(RingLookup::NotInRing, |ring| ring.lookup(position))
    }

    pub(super) fn holds(&self, position: Cursor) -> bool {
        self.ring.as_ref().is_some_and(|ring| ring.holds(position))
    }

    pub(super) fn head(&self) -> Option<Head> {
        self.ring.as_ref().map(Ring::head)
    }

    pub(super) fn bytes(&self) -> usize {
        self.ring.as_ref().map_or(0, Ring::bytes)
    }

    /// Whether nothing follows `position` yet, and something may.
    pub(super) fn is_at_open_head(&self, position: Cursor) -> bool {
        self.head() == Some(Head { cursor: position, closed: false })
    }

    pub(super) fn park_outside_ring(&mut self, position: Cursor) {
        let is_ahead = |head: Head| head.cursor.epoch != position.epoch || head.cursor.seq > position.seq;
        self.parked_behind |= self.head().is_some_and(is_ahead);
    }

    pub(super) fn backfill(&mut self, page: &SharedPage) {
        if let Some(ring) = &mut self.ring {
            ring.backfill(page.newest_first());
        }
    }

    /// Returns whether this is new.
    pub(super) fn mark_unreadable(&mut self) -> bool {
        !mem::replace(&mut self.unreadable, true)
    }
}

/// New information.
impl RingState {
    pub(super) fn feed(&mut self, entries: &[Entry], head: Option<Head>) -> RingChange {
        let change = self.offer(entries, head);
        let head = head.or_else(|| entries.last().map(|last| Head::open(last.cursor)));
        self.note(change, head.map_or(Missing::Unknown, Missing::UpTo))
    }

    fn offer(&mut self, entries: &[Entry], head: Option<Head>) -> RingChange {
        // The read that will anchor the ring may have been answered before these entries.
        let Some(ring) = &mut self.ring else { return RingChange::Gap };
        let fed = ring.feed(entries);
        match (fed, head) {
            (RingChange::Gap, _) | (_, None) => fed,
            (fed, Some(head)) if head.closed => match ring.close(head) {
                RingChange::Unchanged => fed,
                closed => closed,
            },
            (fed, Some(_)) => fed,
        }
    }

    pub(super) fn confirm_head(&mut self, head: Head) -> RingChange {
        let change = match &self.ring {
            Some(ring) if ring.head() == head => {
                self.unreadable = false;
                match mem::take(&mut self.parked_behind) {
                    true => RingChange::Changed,
                    false => RingChange::Unchanged,
                }
            }
            Some(_) => RingChange::Gap,
            None => self.restart(head),
        };
        // The head may be lower than the ring's.
        self.note(change, Missing::Unknown)
    }

    pub(super) fn hint_head(&mut self, head: Head) -> RingChange {
        let change = match &self.ring {
            Some(ring) if !is_news(head, ring.head()) => RingChange::Unchanged,
            _ => RingChange::Gap,
        };
        self.note(change, Missing::UpTo(head))
    }

    pub(super) fn anchor(&mut self, head: Head) -> RingChange {
        let change = match &self.ring {
            Some(ring) if !is_news(head, ring.head()) => RingChange::Unchanged,
            Some(_) => RingChange::Gap,
            None => self.restart(head),
        };
        self.note(change, Missing::UpTo(head))
    }

    pub(super) fn invalidate(&mut self) -> RingChange {
        self.note(RingChange::Gap, Missing::Unknown)
    }

    pub(super) fn apply_read(&mut self, page: &Page) -> RingChange {
        self.unreadable = false;
        let ring = self.ring.get_or_insert_with(|| Ring::new(page.head, self.max_bytes));
        let before = ring.head();
        // The head of a page that is incomplete, or of another history, is not what the ring then has.
        let is_taken = ring.feed(&page.entries) != RingChange::Gap && ring.close(page.head) != RingChange::Gap;
        let is_outdated = || page.outcome == Outcome::Continued && !is_news(page.head, ring.head());
        if !is_taken && !is_outdated() {
            // Another history, or more than a ring holds: each reader goes on from its own position.
            let change = self.restart(page.head);
            return self.note(change, Missing::Unknown);
        }
        // The entries may have been fed while the store was read.
        let change = if ring.head() == before { RingChange::Unchanged } else { RingChange::Changed };
        self.note(change, Missing::Unknown)
    }

    fn restart(&mut self, head: Head) -> RingChange {
        self.ring = Some(Ring::new(head, self.max_bytes));
        RingChange::Changed
    }

    /// Remembers what is missing after a gap, and forgets what was missing and has come.
    fn note(&mut self, change: RingChange, missing: Missing) -> RingChange {
        self.missing = match (change, self.missing) {
            (RingChange::Gap, Some(known)) => Some(known.and(missing)),
            (RingChange::Gap, None) => Some(missing),
            (_, known) => known.filter(|known| !self.ring.as_ref().is_some_and(|ring| known.is_in(ring))),
        };
        change
    }
}

impl Missing {
    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::UpTo(one), Self::UpTo(two)) if one.cursor.epoch == two.cursor.epoch => {
                let is_higher = (two.cursor.seq, two.closed) > (one.cursor.seq, one.closed);
                Self::UpTo(if is_higher { two } else { one })
            }
            _ => Self::Unknown,
        }
    }

    /// Whether it has come: a ring that holds a position holds one unbroken history up to its head.
    fn is_in(self, ring: &Ring) -> bool {
        match self {
            Self::UpTo(head) => ring.holds(head.cursor) && (!head.closed || ring.head() == head),
            Self::Unknown => false,
        }
    }
}

/// Reading the store on the ring's behalf.
impl RingState {
    pub(super) fn advance(&self) -> Advance {
        match self.missing.is_some() && !self.advancing && self.ring.is_some() {
            true => Advance::Needed,
            false => Advance::NotNeeded,
        }
    }

    pub(super) fn claim_advance(&mut self) -> Advance {
        let advance = self.advance();
        self.advancing |= advance == Advance::Needed;
        advance
    }

    pub(super) fn next_advance(&mut self) -> Option<Cursor> {
        self.advancing = self.missing.take().is_some();
        self.head().filter(|_| self.advancing).map(|head| head.cursor)
    }

    pub(super) fn abandon_advance(&mut self) {
        self.advancing = false;
    }
}

/// Whether `head` can be newer than a ring whose head is `known`. A lower one in the same epoch is not: it belongs to a snapshot
/// that was taken before the ring's newest entries came.
fn is_news(head: Head, known: Head) -> bool {
    let is_older = head.cursor.epoch == known.cursor.epoch && head.cursor.seq < known.cursor.seq;
    head != known && !is_older
}

#[cfg(all(test, not(tower_events_loom)))]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests;
