//! Where a read starts, its limits, and what it returns.

use crate::{
    channel::Channel,
    cursor::Cursor,
    event::{Data, EventName},
};

/// Where reading starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Start {
    /// At the first event that the channel ever had. A [`Hub`](crate::Hub) resets with [`Reason::Trimmed`] if any event was
    /// dropped since the channel's record was created (by its first append, [`init`](super::Store::init), a delete, or because the
    /// record was forgotten); a store treats it as [`Start::Earliest`].
    Beginning,
    /// At the oldest retained entry, whether or not older ones were dropped.
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

/// The limits of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Limit {
    /// Maximum number of entries; 0 asks for the position only.
    pub events: usize,
    /// Maximum number of bytes, by [`Entry::size`]; one entry is returned even if it alone is larger.
    pub bytes: usize,
}

impl Limit {
    /// The position only.
    pub const POSITION: Self = Self { events: 0, bytes: 0 };

    /// Limits of entries and bytes. [`Limit::default`] has 100 and 1 MiB; [`Limit::events`] and [`Limit::bytes`] change one of
    /// the two.
    #[must_use]
    pub const fn new(events: usize, bytes: usize) -> Self {
        Self { events, bytes }
    }

    /// Sets the maximum number of entries.
    #[must_use]
    pub const fn events(self, events: usize) -> Self {
        Self { events, ..self }
    }

    /// Sets the maximum number of bytes.
    #[must_use]
    pub const fn bytes(self, bytes: usize) -> Self {
        Self { bytes, ..self }
    }
}

impl Default for Limit {
    /// 100 events, 1 MiB.
    fn default() -> Self {
        Self { events: 100, bytes: 1 << 20 }
    }
}

/// What a read returns: a consistent snapshot.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Page {
    /// Whether the start was continued or reset.
    pub outcome: Outcome,
    /// The position that the page starts after: after a reset, just before the oldest retained entry.
    pub from: Cursor,
    /// The entries, in `seq` order.
    pub entries: Vec<Entry>,
    /// The position after this page: that of the last entry that was examined, or `from` if none was.
    pub next: Cursor,
    /// The head at the moment of the read. `next == head.cursor` means that nothing is left.
    pub head: Head,
}

impl Page {
    /// A page without entries that starts and ends at `from`.
    #[must_use]
    pub fn new(outcome: Outcome, from: Cursor, head: Head) -> Self {
        Self { outcome, from, entries: Vec::new(), next: from, head }
    }

    /// The page with these entries, in `seq` order; it ends at the last of them.
    #[must_use]
    pub fn with_entries(self, entries: Vec<Entry>) -> Self {
        let next = entries.last().map_or(self.from, |entry| entry.cursor);
        Self { entries, next, ..self }
    }

    /// The page that ends at `next`, which is behind its last entry if more entries were examined than are in it.
    #[must_use]
    pub fn ending_at(self, next: Cursor) -> Self {
        Self { next, ..self }
    }
}

/// The newest position of a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Head {
    /// The newest entry's cursor, or the position after which the first entry will be appended.
    pub cursor: Cursor,
    /// Whether the channel is closed: nothing follows `cursor` in this epoch.
    pub closed: bool,
}

impl Head {
    /// The head of a channel that can be appended to.
    #[must_use]
    pub const fn open(cursor: Cursor) -> Self {
        Self { cursor, closed: false }
    }

    /// The head of a channel that is closed.
    #[must_use]
    pub const fn closed(cursor: Cursor) -> Self {
        Self { cursor, closed: true }
    }
}

/// The result of a resume. Every resume has exactly one, so that no loss is silent.
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
    /// The position is newer than the head: the log has lost its newest entries.
    Ahead,
    /// A different log, or a different history of this log.
    EpochChanged,
    /// Not a cursor of this crate, or one that does not name the channel. Stores never return this.
    Unknown,
    /// Further behind the head than the subscription allows
    /// ([`Subscription::max_behind`](crate::Subscription::max_behind)): what follows are the newest events. Stores never return
    /// this.
    Behind,
    /// The position was reached under another [`Filter`](crate::Filter), which may have hidden what this one shows. Stores never
    /// return this.
    FilterChanged,
}

impl Reason {
    /// The reason on the wire: `trimmed`, `ahead`, `epoch-changed`, `unknown`, `behind` or `filter-changed`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Trimmed => "trimmed",
            Self::Ahead => "ahead",
            Self::EpochChanged => "epoch-changed",
            Self::Unknown => "unknown",
            Self::Behind => "behind",
            Self::FilterChanged => "filter-changed",
        }
    }
}

/// An event as it is stored, without its idempotency key.
///
/// ```
/// use tower_events::{Channel, Cursor, Data, EventName, store::Entry};
///
/// let cursor = Cursor { epoch: 7, seq: 1, tag: 4711 };
/// let entry = Entry::new(Channel::new("room")?, cursor, Data::text("hello"))
///     .appended(1_732_094_400_123) // also its time, until it has another
///     .named(Some(EventName::new("message")?));
/// assert_eq!((entry.time, entry.prev_tag), (1_732_094_400_123, 0));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Entry {
    /// The channel.
    pub channel: Channel,
    /// The entry's position.
    pub cursor: Cursor,
    /// The tag of its predecessor; 0 for the first entry of a log.
    pub prev_tag: u32,
    /// When it was appended, in Unix milliseconds; never less than the predecessor's.
    pub appended: u64,
    /// The event's time in Unix milliseconds.
    pub time: u64,
    /// The event's name.
    pub name: Option<EventName>,
    /// The event's data.
    pub data: Data,
}

impl Entry {
    /// An entry without a name or a predecessor, appended at Unix time 0; the other methods change these.
    #[must_use]
    pub fn new(channel: Channel, cursor: Cursor, data: Data) -> Self {
        Self { channel, cursor, prev_tag: 0, appended: 0, time: 0, name: None, data }
    }

    /// Sets the tag of the predecessor.
    #[must_use]
    pub fn after(self, prev_tag: u32) -> Self {
        Self { prev_tag, ..self }
    }

    /// Sets the time of the append, in Unix milliseconds. It is also the event's time, unless [`Entry::at`] sets that
    /// afterwards.
    #[must_use]
    pub fn appended(self, unix_ms: u64) -> Self {
        Self { appended: unix_ms, time: unix_ms, ..self }
    }

    /// Sets the event's time, in Unix milliseconds.
    #[must_use]
    pub fn at(self, unix_ms: u64) -> Self {
        Self { time: unix_ms, ..self }
    }

    /// Sets the event's name.
    #[must_use]
    pub fn named(self, name: Option<EventName>) -> Self {
        Self { name, ..self }
    }

    /// The position just before this entry.
    #[must_use]
    pub fn prev(&self) -> Cursor {
        Cursor { seq: self.cursor.seq.saturating_sub(1), tag: self.prev_tag, ..self.cursor }
    }

    /// The size that counts in limits and retention, in bytes: the data, the names, and 64 for the rest.
    #[must_use]
    pub fn size(&self) -> usize {
        let name = self.name.as_ref().map_or(0, |name| name.as_str().len());
        self.data.len() + self.channel.as_str().len() + name + ENTRY_BYTES
    }
}

/// What an entry counts in addition to its data and names, in bytes.
pub(super) const ENTRY_BYTES: usize = 64;
