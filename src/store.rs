//! The durable log behind everything: the contract that every store keeps, and what all stores decide alike.

mod any;
mod append;
mod clock;
mod error;
pub mod floor;
mod format;
mod health;
mod keep;
mod keys;
mod page;
pub mod resume;
mod retention;
mod size;

use std::{future::Future, sync::Arc};

use futures_core::Stream;

#[cfg(feature = "nats")]
pub(crate) use self::keys::fingerprint_of;
pub use self::{
    any::AnyStore,
    append::{Append, Appended, Expect, Receipt},
    clock::Clock,
    error::{Source, StoreError},
    format::{Format, InvalidFormat, Use},
    health::Health,
    keys::fingerprint,
    page::{Entry, Head, Limit, Outcome, Page, Reason, Start},
    retention::Retention,
    size::Unit,
};
pub(crate) use self::{
    keep::Keep,
    keys::{Known, Prints, judge},
    size::{fits_append, fits_init, size_of},
};
use crate::{channel::Channel, event::Event};

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
/// entry went, and while one of its keys is remembered; then it goes, whether or not anybody uses the channel. Forgetting it, or [`delete`](Store::delete), raises a *floor*
/// above the channel's last `seq`; a new channel starts above the floor, in the place's epoch mixed with the channel's name
/// ([`epoch_of`](crate::cursor::epoch_of)). That epoch is drawn when the place is made, so that two places have two, also when one
/// is wiped and made again. A place (file, database, shard: what can fail alone) keeps a floor per bucket of channel
/// names, so that forgetting a channel leaves most absent ones as they are; each rises by a random step ([`floor`]). The
/// head of a channel that does not exist is `(epoch, floor, 0)`: that cursor continues when the first event comes, and is
/// `Trimmed` once the floor has moved. Reading or following an absent channel stores nothing. [`init`](Store::init) numbers on above
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
/// Keys are remembered per channel and epoch for [`Retention::key_window`] from their first append (at most twice as long,
/// however often they are repeated), independent of retention; [`init`](Store::init) clears them. Each event of a batch is judged alone, also against earlier events of the same batch;
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
/// [`health`](Store::health) tells what the store knows of itself, without waiting. It is [ready](Health::Ready) after an
/// append that succeeded, while nobody waits for changes, and it is not after one that failed because something is wrong
/// with what it stores in. When what was wrong has ended, the store is ready again within seconds, also if nobody does
/// anything but ask for its health.
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
    /// There is no error per channel. A channel whose record cannot be read may fail the whole call with
    /// [`StoreError::Corrupt`]; a caller that needs the other heads then asks for fewer channels at a time, as the hub does.
    /// A store may instead return, for such a channel among others, a head at `seq` 0 of an epoch that is drawn for each call
    /// and used by no cursor: a reader that continues there gets `Corrupt`, or a reset once the channel can be read again.
    /// A call for this channel alone must fail.
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

    /// Channels that have a record and whose names begin with `prefix`, in the order of the names' bytes: at most `limit` of
    /// those after `after`, each with its head. A page may hold fewer; only an empty one is the end. Another process's
    /// channels come a little later to some stores; a channel whose record cannot be read is left out, and logged.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    fn channels(
        &self,
        prefix: &str,
        after: Option<&Channel>,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<(Channel, Head)>, StoreError>> + Send;

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
}
