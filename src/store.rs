//! The durable log behind everything: the contract that every store keeps, and what all stores decide alike.

mod any;
mod clock;
mod error;
mod health;
mod keep;
mod keys;
pub mod resume;
mod retention;
mod size;

use std::{future::Future, sync::Arc};

use futures_core::Stream;

#[cfg(feature = "nats")]
pub(crate) use self::keys::fingerprint_of;
pub use self::{
    any::AnyStore,
    clock::Clock,
    error::{Source, StoreError},
    health::Health,
    keys::fingerprint,
    retention::Retention,
    size::Unit,
};
pub(crate) use self::{
    keep::Keep,
    keys::{Known, Prints, judge},
    size::{fits_append, fits_init, size_of},
};
use crate::{
    channel::Channel,
    cursor::Cursor,
    event::{Data, Event, EventName},
};

/// A log of events per channel. **This comment is the contract**; the suite in `tower_events::testing` (feature `testing`)
/// has a test for each clause, and a store that passes it can be put behind a [`Hub`](crate::Hub).
///
/// Implementors write plain `async fn`. Clones of a store, if it has them, share state. Users hold an [`AnyStore`].
///
/// # Read your writes, in order
/// What [`append`](Store::append) acknowledged is read by every later [`read`](Store::read) exactly once, in `seq` order,
/// until retention drops it. After `n` was seen nothing below `n` appears. A read from [`Start::Latest`], then from the
/// cursor that it gave, misses nothing. `seq` grows by exactly 1 per entry within an epoch. Events without a time of their
/// own get the time of the append.
///
/// # `Continued` only on proof
/// A resume is [`Outcome::Continued`] only if the entry at the cursor's `seq`, the predecessor mark of the oldest retained
/// entry, or the channel's record carries the cursor's tag, in the cursor's epoch. Otherwise it is [`Outcome::Reset`]:
/// another epoch is [`Reason::EpochChanged`], a `seq` above the head [`Reason::Ahead`], one below the oldest retained
/// entry's predecessor [`Reason::Trimmed`], and a tag that differs [`Reason::EpochChanged`] (a tail that was lost and grown
/// again is another history). After a reset the page starts at the oldest retained entry. [`resume::outcome`] decides this
/// for every store.
///
/// # Records outlive entries
/// A channel's record (epoch, last `seq` and tag, closed, keys) is kept for [`Retention::forget_after`] after its last
/// entry went, and while one of its keys is remembered. Forgetting it, or [`delete`](Store::delete), raises the *floor*
/// of the place (file, database, shard: what can fail alone) to the channel's last `seq`; a new channel starts above
/// the floor, in the place's epoch mixed with the channel's name ([`epoch_of`](crate::epoch_of)). The head of a channel
/// that does not exist is `(epoch, floor, 0)`: that cursor continues when the first event comes, and is `Trimmed` once
/// the floor has moved. Reading or following an absent channel stores nothing. [`init`](Store::init) numbers on above
/// the head that it replaces, so that the floor covers that log too; else a head of the absent channel could come back
/// with events lost in between.
///
/// # Starts
/// [`Start::Time`]`(t)`: the page holds the retained entries with `time > t` in `seq` order, from the lowest such `seq`.
/// The filter belongs to the start, not to the cursor: the page's `next` goes on by `seq`, unfiltered. It is `Trimmed` when
/// an entry with `time > t` was dropped that was also appended after `t` (the page is filtered all the same); the record
/// keeps the largest dropped time, each as [`resume::dropped_time`] counts it. So a back-dated entry counts with its own
/// time, and one that is dated ahead of its append does not make every later start `Trimmed` for ever: from the append
/// stamp of the newest dropped entry on, nothing is missed that was appended since.
/// [`Start::Last`]`(n)`, [`Start::Earliest`] and [`Start::Beginning`] never reset; of the last one the hub decides, by the tag
/// of the page's `from`: it is 0 only when nothing was dropped.
///
/// # Idempotency
/// Keys are remembered per channel and epoch for [`Retention::key_window`], independent of retention;
/// [`init`](Store::init) clears them. Each event of a batch is judged alone, also against earlier events of the same batch;
/// the new ones are appended atomically, and [`Appended`] says of each event which it was. An append that would change
/// nothing (no new event, and no close of an open channel) succeeds whatever its `expect`: repeating one that succeeded
/// succeeds.
///
/// A key stands for one event: the store keeps the event's [`fingerprint`] (datum, name, own time) beside it. The same key
/// with the same fingerprint is a duplicate; with another it fails the whole append with [`StoreError::KeyReused`], before
/// anything else of the channel's state is judged, so also on a closed channel, and nothing is appended. A key that was
/// stored without a fingerprint, by an older version, matches every event.
///
/// # Conditions and closing
/// An append or init whose `expect` does not hold fails with [`StoreError::Conflict`] and changes nothing.
/// [`Append::closing`] ends the channel in the same atomic step. After a close, appending new events fails with
/// [`StoreError::Closed`], whatever `expect` is; closing again succeeds. [`init`](Store::init) opens the channel again with
/// a new epoch. The order of the checks is: `KeyReused`, `Closed`, `Conflict`.
///
/// # Retention
/// By count, age and bytes per channel, and eventual: never below the limits, at most twice. An entry may go for bytes once
/// it and the newer ones together are over the limit; the newest may stay however large it is.
/// [`retention`](Store::retention) tells the limits. An append of more than half of them, by count or by bytes, fails with
/// [`StoreError::TooLarge`] whatever the state of the channel, so that a reader that is at most one append behind finds all
/// of it; one event is never too many. An [`init`](Store::init) of more than is kept keeps its newest events. Age uses the append stamp,
/// clamped to never decrease, so that a clock that steps back does no harm.
///
/// # Changes
/// [`changes`](Store::changes) yields hints and may lose them; **reads are truth**.
///
/// # Health
/// [`health`](Store::health) tells what the store knows of itself, without waiting. When what was wrong has ended, the
/// store is [ready](Health::Ready) again within seconds, also if nobody does anything but ask for its health.
///
/// # Cancel safety
/// Dropping any future is safe: a dropped append is applied whole or not at all.
pub trait Store: Send + Sync + 'static {
    /// Appends a batch, atomically and in order; `close` ends the channel in the same step. An empty append is a no-op that
    /// returns the head.
    ///
    /// # Errors
    /// [`StoreError::KeyReused`], [`StoreError::Closed`], [`StoreError::Conflict`], [`StoreError::TooLarge`],
    /// [`StoreError::Full`], [`StoreError::Unavailable`]; [`StoreError::Unknown`] when it may have happened.
    fn append(&self, channel: &Channel, append: Append) -> impl Future<Output = Result<Appended, StoreError>> + Send;

    /// Reads one consistent snapshot, bounded by count and bytes (at least one entry when one is due and `limit.events` is
    /// not 0; with `limit.events == 0` the page is a position only).
    ///
    /// # Errors
    /// [`StoreError::Unavailable`], [`StoreError::Corrupt`]. A cursor that cannot be honoured is an [`Outcome`].
    fn read(
        &self,
        channel: &Channel,
        start: Start,
        limit: Limit,
    ) -> impl Future<Output = Result<Page, StoreError>> + Send;

    /// The heads of many channels at once, in the order asked.
    ///
    /// # Errors
    /// As [`Store::read`].
    fn heads(&self, channels: &[Channel]) -> impl Future<Output = Result<Vec<Head>, StoreError>> + Send;

    /// Replaces the channel's history with `events`, under a new epoch, and opens it (the seed's `init`). Events older by
    /// time than others stay in the order given; keys are not remembered.
    ///
    /// # Errors
    /// As [`Store::append`], but neither `KeyReused` nor `Closed`.
    fn init(
        &self,
        channel: &Channel,
        events: Vec<Event>,
        expect: Expect,
    ) -> impl Future<Output = Result<Head, StoreError>> + Send;

    /// Forgets the channel and its data, and raises the floor.
    ///
    /// # Errors
    /// As [`Store::append`], but none of `KeyReused`, `Closed` and `Conflict`.
    fn delete(&self, channel: &Channel) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// What may have changed, from any process, this one's own appends included. Yields [`Change::Resync`] once armed and
    /// after every gap, never ends, coalesces while it is not polled (bounded memory), and stops its work when dropped.
    fn changes(&self) -> impl Stream<Item = Change> + Send + 'static;

    /// What the store keeps per channel, as it was set up: what is asked here costs nothing.
    fn retention(&self) -> Retention;

    /// How the store is, for statistics and health checks. A store that nothing can come between is always ready, as is
    /// said here.
    fn health(&self) -> Health {
        Health::Ready
    }
}

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
pub struct Appended {
    /// One per event of the append, in its order.
    pub receipts: Vec<Receipt>,
    /// The entries that are new, in order and contiguous; duplicates are left out.
    pub entries: Vec<Entry>,
    /// The head right after the append.
    pub head: Head,
}

/// What became of one event of an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The entry's cursor: of the first append of its key, for a duplicate.
    pub cursor: Cursor,
    /// The entry's time in Unix milliseconds.
    pub time: u64,
    /// Whether its key had been appended before, so that nothing was appended now.
    pub duplicate: bool,
}

/// Where reading starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Start {
    /// At the first event that the channel ever had. A [`Hub`](crate::Hub) tells [`Reason::Trimmed`] when any event was
    /// dropped since the channel's record was made (its first append, [`init`](Store::init), a delete, or the record's
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

/// A hint of what may have changed.
#[derive(Clone, Debug)]
pub enum Change {
    /// Anything may have changed: hints were not watched, or were lost.
    Resync,
    /// A channel's head may be this now.
    Head(Channel, Head),
    /// These entries of one channel were appended, contiguous and in order, as the store assigned them.
    Entries(Vec<Entry>),
}

impl<S: Store> Store for Arc<S> {
    fn append(&self, channel: &Channel, append: Append) -> impl Future<Output = Result<Appended, StoreError>> + Send {
        S::append(self, channel, append)
    }

    fn read(
        &self,
        channel: &Channel,
        start: Start,
        limit: Limit,
    ) -> impl Future<Output = Result<Page, StoreError>> + Send {
        S::read(self, channel, start, limit)
    }

    fn heads(&self, channels: &[Channel]) -> impl Future<Output = Result<Vec<Head>, StoreError>> + Send {
        S::heads(self, channels)
    }

    fn init(
        &self,
        channel: &Channel,
        events: Vec<Event>,
        expect: Expect,
    ) -> impl Future<Output = Result<Head, StoreError>> + Send {
        S::init(self, channel, events, expect)
    }

    fn delete(&self, channel: &Channel) -> impl Future<Output = Result<(), StoreError>> + Send {
        S::delete(self, channel)
    }

    fn changes(&self) -> impl Stream<Item = Change> + Send + 'static {
        S::changes(self)
    }

    fn retention(&self) -> Retention {
        S::retention(self)
    }

    fn health(&self) -> Health {
        S::health(self)
    }
}
