//! Fan-out in one process: follows the store and hands events to readers. Knows only the store's contract, never HTTP.
//!
//! A subscriber is a position and a waker: it pulls. While it keeps up it is served from its channel's ring of recent
//! entries, each encoded once for all; when it falls behind it reads the store in pages and rejoins. **Register, then read,
//! then wait**: nothing that is published in between is missed. Only a store read decides a reset.
//!
//! # Examples
//! The default:
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use tower_events::{Channel, Event, Hub, MemoryStore};
//!
//! let hub = Hub::new(MemoryStore::default());
//! let receipt = hub.publish(&Channel::new("room")?, Event::text("hello")).await?;
//! assert!(!receipt.duplicate);
//! # Ok(())
//! # }
//! ```
//! Customised, as the PHP package's server: events after a time, or none after five seconds.
//! ```
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::time::Duration;
//! use tower_events::{Channel, Hub, HubOptions, MemoryStore, Retention, Subscription, store::Start};
//!
//! let store = MemoryStore::new(Retention::default().events(100));
//! let hub = Hub::with_options(store, HubOptions::default().ring_bytes(64 << 10));
//! let wait = Subscription::new(Channel::new("room")?)
//!     .start(Start::Time(1_732_094_400_123))
//!     .wait(Duration::from_secs(5))
//!     .on_empty(|| println!("nothing yet"));
//! assert!(hub.listen(wait).await?.entries().is_empty());
//! # Ok(())
//! # }
//! ```

mod admission;
mod advance;
mod changes;
mod channel_reader;
mod channel_readers;
mod delivery;
mod drain;
mod encoded_entry;
mod encoding;
mod entry_run;
mod error;
mod follower;
mod follower_tasks;
mod head_requests;
mod heads;
mod lease;
mod listen;
mod membership;
mod options;
mod outage;
mod page_reads;
mod read_budgets;
mod recent;
mod ring;
mod shared;
mod shared_call;
mod shared_page;
mod shared_read;
mod stats;
mod store_calls;
mod subscriber;
mod subscription;
mod sweep;
mod sync;
mod topic;
mod topics;
mod turns;

use std::{
    fmt,
    future::{Future, poll_fn},
    pin::pin,
    sync::Arc,
    time::Duration,
};

pub use self::{
    delivery::{Closed, Delivery, Events, Failed, Reset},
    drain::Drained,
    error::SubscribeError,
    listen::Listened,
    options::HubOptions,
    stats::Stats,
    subscriber::Subscriber,
    subscription::Subscription,
};
pub(crate) use self::{
    encoding::{Delimiters, Encoding},
    entry_run::encode_joined,
    listen::Listening,
    turns::Turn,
};
use self::{heads::request_head, shared::Shared};
use crate::{
    channel::{Channel, Channels},
    cursor::Cursors,
    event::Event,
    store::{AnyStore, Append, Appended, Expect, Head, Receipt, Store, StoreError},
};

/// Handle of one process on one store: publish, listen, subscribe, drain. Clones are cheap and share everything.
///
/// Creating one needs no runtime; reading does, one of tokio's with its timers on (`enable_all` or `#[tokio::main]`).
pub struct Hub<S = AnyStore> {
    store: Arc<S>,
    shared: Arc<Shared>,
}

impl Hub {
    /// A hub on any store, with default options.
    pub fn new(store: impl Store) -> Self {
        Self::with_options(store, HubOptions::default())
    }

    /// A hub on any store.
    pub fn with_options(store: impl Store, options: HubOptions) -> Self {
        let store = AnyStore::new(store);
        Self { shared: Arc::new(Shared::new(store.clone(), options)), store: Arc::new(store) }
    }
}

impl<S: Store> Hub<S> {
    /// A hub that keeps the store's type, with default options.
    pub fn typed(store: S) -> Self {
        Self::typed_with(store, HubOptions::default())
    }

    /// A hub that keeps the store's type.
    pub fn typed_with(store: S, options: HubOptions) -> Self {
        let store = Arc::new(store);
        Self { shared: Arc::new(Shared::new(AnyStore::new(store.clone()), options)), store }
    }

    /// The store.
    #[must_use]
    pub fn store(&self) -> &S {
        &self.store
    }

    /// The options.
    #[must_use]
    pub fn options(&self) -> &HubOptions {
        &self.shared.options
    }

    /// What the hub holds now.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.shared.stats()
    }
}

/// Publishing.
impl<S: Store> Hub<S> {
    /// Appends one event.
    ///
    /// # Errors
    /// As [`Store::append`].
    ///
    /// # Cancel safety
    /// The event is appended or not; readers learn of it in any case.
    pub async fn publish(&self, channel: &Channel, event: Event) -> Result<Receipt, StoreError> {
        let appended = self.append(channel, Append::new([event])).await?;
        let receipt = appended.receipts.first().copied();
        receipt.ok_or_else(|| StoreError::Corrupt("the store gave no receipt".into()))
    }

    /// Appends a batch, atomically and in order.
    ///
    /// # Errors
    /// As [`Store::append`].
    ///
    /// # Cancel safety
    /// As [`Hub::publish`].
    pub async fn publish_all(
        &self,
        channel: &Channel,
        events: impl IntoIterator<Item = Event>,
    ) -> Result<Appended, StoreError> {
        self.append(channel, Append::new(events)).await
    }

    /// Appends under a condition, or as the last append of the channel.
    ///
    /// # Errors
    /// As [`Store::append`].
    ///
    /// # Cancel safety
    /// As [`Hub::publish`].
    pub async fn append(&self, channel: &Channel, append: Append) -> Result<Appended, StoreError> {
        let result = self.store.append(channel, append).await;
        changes::append_finished(&self.shared, channel, &result);
        result
    }

    /// Ends the channel: readers get what is left, then its end. Only [`Hub::init`] opens it again.
    ///
    /// # Errors
    /// As [`Store::append`], but not `Closed`: closing again succeeds.
    pub async fn close(&self, channel: &Channel) -> Result<Head, StoreError> {
        Ok(self.append(channel, Append::new([]).closing()).await?.head)
    }

    /// Replaces the channel's history; its readers are reset.
    ///
    /// # Errors
    /// As [`Store::init`].
    pub async fn init(&self, channel: &Channel, events: Vec<Event>) -> Result<Head, StoreError> {
        let head = self.store.init(channel, events, Expect::Any).await?;
        changes::replaced(&self.shared, channel, Some(head));
        Ok(head)
    }

    /// Fills the channel if it has never been used; of several processes that do so at once, one succeeds. `None` when it
    /// had been used.
    ///
    /// # Errors
    /// As [`Store::init`], but not `Conflict`.
    pub async fn init_if_unused(&self, channel: &Channel, events: Vec<Event>) -> Result<Option<Head>, StoreError> {
        match self.store.init(channel, events, Expect::NeverUsed).await {
            Ok(head) => {
                changes::replaced(&self.shared, channel, Some(head));
                Ok(Some(head))
            }
            Err(StoreError::Conflict { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Forgets the channel and its data; its readers are reset.
    ///
    /// # Errors
    /// As [`Store::delete`].
    pub async fn delete(&self, channel: &Channel) -> Result<(), StoreError> {
        self.store.delete(channel).await?;
        changes::replaced(&self.shared, channel, None);
        Ok(())
    }
}

/// Reading.
impl<S: Store> Hub<S> {
    /// The heads of these channels, in their order. All who ask at once share a call to the store.
    ///
    /// # Errors
    /// As [`Store::heads`]; `Unavailable` also when it takes longer than [`HubOptions::read_timeout`], or too many are asked
    /// for at once.
    pub async fn heads(&self, channels: &Channels) -> Result<Vec<Head>, StoreError> {
        let requests: Vec<_> = channels.iter().map(|channel| request_head(&self.shared, channel)).collect();
        let mut heads = Vec::with_capacity(requests.len());
        for request in requests {
            let mut slot = None;
            let head = poll_fn(|cx| request.poll(&mut slot, cx)).await;
            heads.push(head.map_err(StoreError::from)?);
        }
        Ok(heads)
    }

    /// Channels that have a record and whose names begin with `prefix`, in the order of the names' bytes: at most `limit` of
    /// those after `after`, each with its head. A page may hold fewer; only an empty one is the end.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use tower_events::{Channel, Event, Hub, MemoryStore};
    ///
    /// let hub = Hub::new(MemoryStore::default());
    /// for name in ["room:1", "room:2", "user:1"] {
    ///     hub.publish(&Channel::new(name)?, Event::text("hello")).await?;
    /// }
    /// let mut rooms: Vec<Channel> = Vec::new();
    /// loop {
    ///     let page = hub.channels("room:", rooms.last(), 100).await?;
    ///     if page.is_empty() {
    ///         break;
    ///     }
    ///     rooms.extend(page.into_iter().map(|(channel, _)| channel));
    /// }
    /// assert_eq!(rooms, [Channel::new("room:1")?, Channel::new("room:2")?]);
    /// assert!(!hub.exists(&Channel::new("room:3")?).await?);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Store::channels`].
    pub async fn channels(
        &self,
        prefix: &str,
        after: Option<&Channel>,
        limit: usize,
    ) -> Result<Vec<(Channel, Head)>, StoreError> {
        self.store.channels(prefix, after, limit).await
    }

    /// Whether the channel has a record: it was appended to, filled or closed, and has been neither deleted nor forgotten.
    ///
    /// # Errors
    /// As [`Store::channels`].
    pub async fn exists(&self, channel: &Channel) -> Result<bool, StoreError> {
        // Of all names that begin with this one, it is the first.
        let first = self.store.channels(channel.as_str(), None, 1).await?;
        Ok(first.first().is_some_and(|(first, _)| first == channel))
    }

    /// The resume position after everything that these channels hold now: "the page was rendered from state as of here".
    ///
    /// # Errors
    /// As [`Hub::heads`].
    pub async fn position(&self, channels: &Channels) -> Result<Cursors, StoreError> {
        let heads = self.heads(channels).await?;
        Ok(match heads.as_slice() {
            [head] => Cursors::from(head.cursor),
            heads => Cursors::of(channels.iter().zip(heads).map(|(channel, head)| (channel, head.cursor))),
        })
    }

    /// Waits for events after the subscription's start, or returns none when its wait is over.
    ///
    /// # Errors
    /// [`SubscribeError`].
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped: the position moves only with what is returned.
    pub async fn listen(&self, subscription: Subscription) -> Result<Listened, SubscribeError> {
        let mut listening = pin!(self.listening(&subscription)?);
        let on_empty = || {
            if let Some(observe) = &subscription.on_empty {
                observe();
            }
        };
        poll_fn(|cx| listening.as_mut().poll(on_empty, cx)).await
    }

    pub(crate) fn listening(&self, subscription: &Subscription) -> Result<Listening, SubscribeError> {
        Ok(Listening::new(self.enter(subscription, subscription.events)?, subscription))
    }

    /// Subscribes. When it returns, every channel's start is decided: what is published from now on comes.
    ///
    /// # Errors
    /// [`SubscribeError`].
    ///
    /// # Cancel safety
    /// Dropping the future unsubscribes.
    pub async fn subscribe(&self, subscription: Subscription) -> Result<Subscriber, SubscribeError> {
        self.subscribing(&subscription).await
    }

    /// Enters at once; the future waits until every channel's start is decided.
    pub(crate) fn subscribing(
        &self,
        subscription: &Subscription,
    ) -> impl Future<Output = Result<Subscriber, SubscribeError>> + Send + use<S> {
        let entered = self.enter(subscription, usize::MAX);
        async move {
            let mut subscriber = entered?;
            poll_fn(|cx| subscriber.poll_started(cx)).await?;
            Ok(subscriber)
        }
    }

    fn enter(&self, subscription: &Subscription, page_events: usize) -> Result<Subscriber, SubscribeError> {
        if let Some(retry) = self.shared.drain_hint() {
            return Err(SubscribeError::Draining { retry });
        }
        let Some(reader) = self.shared.admit() else {
            return Err(SubscribeError::TooManyReaders { retry: Duration::from_secs(1 + fastrand::u64(..4)) });
        };
        Ok(Subscriber::new(&self.shared, reader, subscription, page_events)?)
    }

    /// How long those should stay away whom a failing store sends away now: 1 s at first, and doubling up to 30 s for as long
    /// as reads fail.
    #[must_use]
    pub fn failure_backoff(&self) -> Duration {
        self.shared.store_calls.outage.backoff()
    }

    /// Ends every parked poll and open stream at an event boundary, at once and for good, and tells each to come back at a
    /// moment of its own page_position `window`, but not before [`HubOptions::drain_floor`]. Publishing goes on. The drain starts with the call; what is returned only tells
    /// when the last reader is gone.
    pub fn drain(&self, window: Duration) -> Drained {
        self.shared.drain(window);
        Drained::new(self.shared.clone())
    }
}

impl<S> Clone for Hub<S> {
    fn clone(&self) -> Self {
        Self { store: self.store.clone(), shared: self.shared.clone() }
    }
}

impl<S> fmt::Debug for Hub<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub").field("stats", &self.shared.stats()).finish_non_exhaustive()
    }
}
