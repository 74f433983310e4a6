//! The durable log behind everything: the contract that every store fulfils, and the decisions that all stores share.

mod any;
mod append;
pub(crate) mod checksum;
mod clock;
mod error;
pub mod floor;
mod format;
mod health;
mod keys;
pub mod kit;
pub(crate) mod log_pace;
mod open_error;
mod page;
pub mod resume;
mod retention;
mod upkeep;

use std::{future::Future, sync::Arc};

use futures_core::Stream;

#[cfg(feature = "nats")]
pub(crate) use self::keys::fingerprint_of;
#[cfg(any(feature = "file", feature = "nats", feature = "postgres", feature = "redis"))]
pub(crate) use self::upkeep::UpkeepNotes;
pub use self::{
    any::AnyStore,
    append::{Append, Appended, Expect, Receipt},
    clock::Clock,
    error::{Source, StoreError, Unit, Use},
    format::{Format, InvalidFormat},
    health::Health,
    keys::fingerprint,
    open_error::{OpenError, OpenErrorKind},
    page::{Entry, Head, Limit, Outcome, Page, Reason, Start},
    retention::Retention,
    upkeep::Upkeep,
};
use crate::{channel::Channel, event::Event};

/// A log of events per channel. **This comment is the contract**; the suite in `tower_events::testing` (feature `testing`)
/// has a test for each clause, and a store that passes it works behind a [`Hub`](crate::Hub).
///
/// Implementations are plain `async fn`. If a store can be cloned, its clones share state. Users mostly hold an [`AnyStore`].
/// [`kit`] has what every store needs, and explains how to write one.
///
/// # Read your writes, in order
/// What [`append`](Store::append) acknowledged is returned by every later [`read`](Store::read) exactly once, in `seq` order,
/// until retention drops it. Once a reader has seen `n`, no new entry appears below `n`. Reading from [`Start::Latest`], and
/// then from the cursor that this returned, misses nothing. `seq` grows by exactly 1 per entry within an epoch. Events without
/// an explicit time get the time of the append.
///
/// # `Continued` only on proof
/// A resume is [`Outcome::Continued`] only if the entry at the cursor's `seq`, the predecessor mark of the oldest retained
/// entry, or the channel's record carries the cursor's tag, in the cursor's epoch. Otherwise it is [`Outcome::Reset`]:
/// another epoch is [`Reason::EpochChanged`], a `seq` above the head [`Reason::Ahead`], one below the oldest retained
/// entry's predecessor [`Reason::Trimmed`], and a tag that differs [`Reason::EpochChanged`] (a tail that was lost and then
/// written anew is a different history). After a reset the page starts at the oldest retained entry. [`resume::outcome`]
/// implements this decision.
///
/// # Records outlive entries
/// A channel's record (epoch, last `seq` and tag, whether it is closed, keys) is kept for [`Retention::forget_after`] after its
/// last entry was dropped, and for as long as one of its keys is remembered; then it is forgotten, whether or not the channel is
/// in use. Forgetting a record, or [`delete`](Store::delete), raises a *floor* above the channel's last `seq`. A new channel
/// starts above the floor, with an epoch that mixes the place's epoch and the channel's name
/// ([`epoch_of`](crate::cursor::epoch_of)).
///
/// A *place* is what can fail on its own: a file, a database, a shard. Its epoch is drawn at random when the place is created, so
/// that no two places share one, nor a place that was wiped and created again. A place keeps one floor per bucket of channel
/// names, so that forgetting a channel leaves most absent channels unaffected; each floor rises by a random step ([`floor`]).
/// The head of a channel that does not exist is `(epoch, floor, 0)`: that cursor continues when the first event is appended, and
/// is `Trimmed` once the floor has moved. Reading or following an absent channel stores nothing. [`init`](Store::init) continues
/// the numbering of the log that it replaces, so that the floor covers that log too; otherwise the same head of the absent
/// channel could be returned again after events were lost.
///
/// # Starts
/// [`Start::Time`]`(t)`: the page holds the retained entries with `time > t` in `seq` order, from the lowest such `seq`.
/// The filter belongs to the start, not to the cursor: reading continues from the page's `next` by `seq`, unfiltered. The outcome
/// is `Trimmed` if an entry was dropped that has `time > t` and was appended after `t` (the page is filtered nevertheless). For
/// this the record keeps the largest time of a dropped entry, as [`resume::dropped_time`] counts it: an entry dated before its
/// append counts with its own time, and one dated after its append with the timestamp of its append, so that it does not make
/// every later start `Trimmed` for ever.
///
/// [`Start::Last`]`(n)`, [`Start::Earliest`] and [`Start::Beginning`] never reset. For `Beginning` the hub decides, by the tag of
/// the page's `from`, which is 0 only if nothing was dropped.
///
/// # Idempotency
/// Keys are remembered per channel and epoch for [`Retention::key_window`] from their first append (at most twice as long,
/// however often they are repeated), independently of the entries; [`init`](Store::init) clears them. Each event of a batch is
/// checked on its own, also against earlier events of the same batch; the new ones are appended atomically, and [`Appended`]
/// says for each event whether it is new. An append that would change nothing (no new event, and no close of an open channel)
/// succeeds whatever its `expect`, so that repeating a successful append succeeds.
///
/// A key identifies one event: the store keeps the event's [`fingerprint`] (data, name, explicit time) with it. The same key
/// with the same fingerprint is a duplicate. The same key with a different fingerprint fails the whole append with
/// [`StoreError::KeyReused`] before any other check, hence also on a closed channel, and nothing is appended. A key that an
/// older version stored without a fingerprint matches every event.
///
/// # Conditions and closing
/// An append or init whose `expect` does not hold fails with [`StoreError::Conflict`] and changes nothing.
/// [`Append::closing`] closes the channel in the same atomic step. Afterwards, appending new events fails with
/// [`StoreError::Closed`], whatever `expect` is; closing again succeeds. [`init`](Store::init) reopens the channel with a new
/// epoch. The order of the checks is: `KeyReused`, `Closed`, `Conflict`.
///
/// # Retention
/// By count, age and bytes per channel. Retention is eventual: a store never keeps less than the limits, and at most twice as
/// much. An entry may be dropped because of the limit in bytes once it and all newer entries together exceed it; the newest entry
/// may stay however large it is. [`retention`](Store::retention) returns the limits. An append of more than half of them, by count
/// or by bytes, fails with [`StoreError::TooLarge`] whatever the state of the channel, so that a reader that is at most one append
/// behind finds all of it; a single event is never too many. An [`init`](Store::init) with more than is kept keeps its newest
/// events. Age is measured by the timestamps of appends, which never decrease within a channel, so that a clock that steps back
/// does no harm.
///
/// # Changes
/// [`changes`](Store::changes) yields hints and may lose them; **reads are truth**.
///
/// # Health
/// [`health`](Store::health) returns what the store knows about its own state, without waiting. It is [ready](Health::Ready) after
/// a successful append while nothing watches [`changes`](Store::changes), and it is not ready after an append that failed because
/// of the medium it stores in. Once the cause is gone, the store is ready again within seconds, even if nothing is called
/// but `health`.
///
/// # Cancel safety
/// Dropping any future is safe: a dropped append is applied whole or not at all.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a store",
    label = "this type does not implement `Store`",
    note = "a hub takes the store itself, not a reference: to go on using the store, give the hub a clone or an `Arc` of it"
)]
pub trait Store: Send + Sync + 'static {
    /// Appends a batch, atomically and in order; `close` closes the channel in the same step. An empty append is a no-op that
    /// returns the head.
    ///
    /// # Errors
    /// [`StoreError::KeyReused`], [`StoreError::Closed`], [`StoreError::Conflict`], [`StoreError::TooLarge`],
    /// [`StoreError::Full`], [`StoreError::Unavailable`]; [`StoreError::Unknown`] if the events may have been appended.
    fn append(&self, channel: &Channel, append: Append) -> impl Future<Output = Result<Appended, StoreError>> + Send;

    /// Reads one consistent snapshot, bounded by count and bytes (at least one entry when one is due and `limit.events` is
    /// not 0; with `limit.events == 0` the page is a position only).
    ///
    /// # Errors
    /// [`StoreError::Unavailable`], [`StoreError::Corrupt`]. A cursor that cannot be continued is not an error but an
    /// [`Outcome::Reset`].
    fn read(
        &self,
        channel: &Channel,
        start: Start,
        limit: Limit,
    ) -> impl Future<Output = Result<Page, StoreError>> + Send;

    /// The heads of many channels at once, in the order of `channels`.
    ///
    /// There is no error per channel. A channel whose record cannot be read may fail the whole call with
    /// [`StoreError::Corrupt`]; a caller that needs the other heads then asks for fewer channels at a time, as the hub does.
    /// Alternatively, among other channels, a store may return for such a channel a head at `seq` 0 of an epoch that is drawn for
    /// each call and that no cursor has: a reader that continues there gets `Corrupt`, or a reset once the channel is readable
    /// again. A call for this channel alone must fail.
    ///
    /// # Errors
    /// As [`Store::read`].
    fn heads(&self, channels: &[Channel]) -> impl Future<Output = Result<Vec<Head>, StoreError>> + Send;

    /// Replaces the channel's history with `events`, under a new epoch, and opens the channel. The events keep the order given,
    /// whatever their times; their keys are not remembered.
    ///
    /// # Errors
    /// As [`Store::append`], but neither `KeyReused` nor `Closed`.
    fn init(
        &self,
        channel: &Channel,
        events: Vec<Event>,
        expect: Expect,
    ) -> impl Future<Output = Result<Head, StoreError>> + Send;

    /// Deletes the channel with its record and entries, and raises the floor.
    ///
    /// # Errors
    /// As [`Store::append`], but none of `KeyReused`, `Closed` and `Conflict`.
    fn delete(&self, channel: &Channel) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Channels that have a record and whose names begin with `prefix`, in the order of the names' bytes: at most `limit` of
    /// those after `after`, each with its head. A page may have fewer; only an empty page is the end. Some stores list the
    /// channels of other processes a little later. A channel whose record cannot be read is left out, and logged.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    fn channels(
        &self,
        prefix: &str,
        after: Option<&Channel>,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<(Channel, Head)>, StoreError>> + Send;

    /// Hints of what may have changed, by any process, including this one's own appends. Yields [`Change::Resync`] once hints
    /// arrive and after every gap in them, and never ends. Each append, close, init and delete then leads to a hint: of the new
    /// entries, of the head after it, or a resync; within seconds, while nothing is lost.
    ///
    /// While the stream is not polled, changes are coalesced: a store holds at most 16 MiB of them per stream, and what it yields
    /// instead still leads to the head of each channel. The waker of the last poll is woken. Dropping the stream ends its work,
    /// and drops that waker. [`kit::Watchers`] does all this.
    fn changes(&self) -> impl Stream<Item = Change> + Send + 'static;

    /// The limits of what the store keeps per channel. Costs nothing.
    fn retention(&self) -> Retention;

    /// The store's state, for statistics and health checks. The default is for stores that cannot become unavailable.
    fn health(&self) -> Health {
        Health::Ready
    }

    /// What the store does besides calls, for statistics. The default is for stores that are always done, and share nothing with
    /// other processes.
    fn upkeep(&self) -> Upkeep {
        Upkeep::default()
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

    fn channels(
        &self,
        prefix: &str,
        after: Option<&Channel>,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<(Channel, Head)>, StoreError>> + Send {
        S::channels(self, prefix, after, limit)
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

    fn upkeep(&self) -> Upkeep {
        S::upkeep(self)
    }
}
