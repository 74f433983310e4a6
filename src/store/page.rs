//! Where a read starts, how far it goes, and what it returns.

use super::size;
use crate::{
    channel::Channel,
    cursor::Cursor,
    event::{Data, EventName},
};

/// Where reading starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Start {
    /// At the first event that the channel ever had. A [`Hub`](crate::Hub) tells [`Reason::Trimmed`] when any event was
    /// dropped since the channel's record was made (its first append, [`init`](super::Store::init), a delete, or the record's
    /// end); a store answers it as [`Start::Earliest`].
    Beginning,
    /// At the oldest retained entry: what is left, without a word about what was dropped before.
    Earliest,
    /// After the newest entry.
    Latest,
    /// After this position: a resume.
    After(Cursor),
    /// At the entries with a time above this one, in Unix milliseconds.
    Time(u64),
    /// At the last `n` entries.
    Last(u64),
}

/// Bounds of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Limit {
    /// Most entries; 0 asks for the position only.
    pub events: usize,
    /// Most bytes, by [`Entry::size`]; one entry comes even if it alone is larger.
    pub bytes: usize,
}

impl Limit {
    /// The position only.
    pub const POSITION: Self = Self { events: 0, bytes: 0 };
}

impl Default for Limit {
    /// 100 events, 1 MiB.
    fn default() -> Self {
        Self { events: 100, bytes: 1 << 20 }
    }
}

/// What a read returns: a consistent snapshot.
#[derive(Clone, Debug)]
pub struct Page {
    /// How the start was honoured.
    pub outcome: Outcome,
    /// The position that the page starts from: after a reset, just before the oldest retained entry.
    pub from: Cursor,
    /// The entries, in `seq` order.
    pub entries: Vec<Entry>,
    /// The position after this page: of the last entry that was looked at, or `from` when none was.
    pub next: Cursor,
    /// The head at the moment of the read. `next == head.cursor` means that nothing is left.
    pub head: Head,
}

/// The newest position of a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// The newest entry's cursor, or that of the place where the first one will come.
    pub cursor: Cursor,
    /// Whether the channel is closed: nothing follows `cursor` in this epoch.
    pub closed: bool,
}

/// How a resume ended. Every resume ends in exactly one; loss is never silent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Proven: nothing was missed.
    Continued,
    /// Events may have been missed; the page starts at the oldest retained entry.
    Reset(Reason),
}

/// Why a resume could not be continued.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// The position is older than what is kept.
    Trimmed,
    /// The position is newer than the head: the log lost its tail.
    Ahead,
    /// Another log, or another history of this one.
    EpochChanged,
    /// Not a cursor of ours, or one that does not name the channel. Stores never answer this.
    Unknown,
}

impl Reason {
    /// The reason on the wire: `trimmed`, `ahead`, `epoch-changed` or `unknown`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Trimmed => "trimmed",
            Self::Ahead => "ahead",
            Self::EpochChanged => "epoch-changed",
            Self::Unknown => "unknown",
        }
    }
}

/// An event as it is stored. Its idempotency key is not part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The channel.
    pub channel: Channel,
    /// Its own position.
    pub cursor: Cursor,
    /// The tag of its predecessor; 0 for the first entry of a log.
    pub prev_tag: u32,
    /// When it was appended, in Unix milliseconds; never less than its predecessor's.
    pub appended: u64,
    /// The event's time in Unix milliseconds.
    pub time: u64,
    /// The event's name.
    pub name: Option<EventName>,
    /// The event's datum.
    pub data: Data,
}

impl Entry {
    /// The position just before this entry.
    #[must_use]
    pub fn prev(&self) -> Cursor {
        Cursor { seq: self.cursor.seq.saturating_sub(1), tag: self.prev_tag, ..self.cursor }
    }

    /// What the entry counts in limits and retention, in bytes: its datum, its names, and 64 for the rest.
    #[must_use]
    pub fn size(&self) -> usize {
        let name = self.name.as_ref().map_or(0, |name| name.as_str().len());
        self.data.len() + self.channel.as_str().len() + name + size::ENTRY_BYTES
    }
}
