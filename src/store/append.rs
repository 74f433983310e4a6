//! What is appended, under which condition, and the result.

use super::page::{Entry, Head};
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
    /// Whether the append closes the channel.
    pub close: bool,
    /// The condition.
    pub expect: Expect,
}

impl Append {
    /// Appends `events` unconditionally, and leaves the channel open.
    pub fn new(events: impl IntoIterator<Item = Event>) -> Self {
        Self { events: events.into_iter().collect(), close: false, expect: Expect::Any }
    }

    /// Closes the channel with this append.
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

/// The result of an append.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Appended {
    /// One per event of the append, in its order.
    pub receipts: Vec<Receipt>,
    /// The new entries, in order and contiguous, without duplicates.
    pub entries: Vec<Entry>,
    /// The head right after the append.
    pub head: Head,
}

impl Appended {
    /// One receipt per event of the append in its order, the new entries, and the head right after the append.
    #[must_use]
    pub fn new(receipts: Vec<Receipt>, entries: Vec<Entry>, head: Head) -> Self {
        Self { receipts, entries, head }
    }
}

/// The result for one event of an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Receipt {
    /// The entry's cursor; for a duplicate, that of the first append of its key.
    pub cursor: Cursor,
    /// The entry's time in Unix milliseconds.
    pub time: u64,
    /// Whether the key had been appended before, so that nothing was appended now.
    pub duplicate: bool,
}

impl Receipt {
    /// The receipt of an event that was appended now; `time` in Unix milliseconds.
    #[must_use]
    pub fn appended(cursor: Cursor, time: u64) -> Self {
        Self { cursor, time, duplicate: false }
    }

    /// The receipt of an event whose key had been appended before; `time` in Unix milliseconds.
    #[must_use]
    pub fn duplicate(cursor: Cursor, time: u64) -> Self {
        Self { cursor, time, duplicate: true }
    }
}
