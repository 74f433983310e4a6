//! What is appended, under which condition, and what became of it.

use super::{Entry, Head};
use crate::{cursor::Cursor, event::Event};

/// What to append and under which condition.
///
/// ```
/// use tower_events::{Event, store::{Append, Expect}};
///
/// let plain = Append::new([Event::text("a")]);
/// let last = Append::new([Event::text("b")]).expecting(Expect::NeverUsed).closing();
/// assert!(last.close && !plain.close);
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Append {
    /// The events, in order.
    pub events: Vec<Event>,
    /// Whether the channel ends with this append.
    pub close: bool,
    /// Under which condition.
    pub expect: Expect,
}

impl Append {
    /// Appends `events` whatever the channel holds; leaves it open.
    pub fn new(events: impl IntoIterator<Item = Event>) -> Self {
        Self { events: events.into_iter().collect(), close: false, expect: Expect::Any }
    }

    /// Ends the channel with this append.
    #[must_use]
    pub fn closing(self) -> Self {
        Self { close: true, ..self }
    }

    /// Appends only if `expect` holds.
    #[must_use]
    pub fn expecting(self, expect: Expect) -> Self {
        Self { expect, ..self }
    }
}

/// The condition of an append or init.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// None.
    Any,
    /// The channel has no record: it never existed, or was deleted or forgotten.
    NeverUsed,
    /// The channel's head is exactly this (epoch, `seq` and tag).
    At(Cursor),
}

/// What an append did.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Appended {
    /// One per event of the append, in its order.
    pub receipts: Vec<Receipt>,
    /// The entries that are new, in order and contiguous; duplicates are left out.
    pub entries: Vec<Entry>,
    /// The head right after the append.
    pub head: Head,
}

impl Appended {
    /// What a store answers: one receipt per event of the append in its order, the entries that are new, and the head right
    /// after the append.
    #[must_use]
    pub fn new(receipts: Vec<Receipt>, entries: Vec<Entry>, head: Head) -> Self {
        Self { receipts, entries, head }
    }
}

/// What became of one event of an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Receipt {
    /// The entry's cursor: of the first append of its key, for a duplicate.
    pub cursor: Cursor,
    /// The entry's time in Unix milliseconds.
    pub time: u64,
    /// Whether its key had been appended before, so that nothing was appended now.
    pub duplicate: bool,
}

impl Receipt {
    /// The receipt of an event that was appended now, at this position and with this time in Unix milliseconds.
    #[must_use]
    pub fn appended(cursor: Cursor, time: u64) -> Self {
        Self { cursor, time, duplicate: false }
    }

    /// The receipt of an event whose key had been appended before, at this position and with this time in Unix milliseconds.
    #[must_use]
    pub fn duplicate(cursor: Cursor, time: u64) -> Self {
        Self { cursor, time, duplicate: true }
    }
}
