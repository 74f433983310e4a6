//! Reading through a hub: heads, lists of channels, single waits and subscriptions.

use std::{
    future::{Future, poll_fn},
    pin::pin,
};

use super::{
    error::{SubscribeError, limit_retry},
    handle::Hub,
    heads::request_head,
    listen::{Listen, Listened},
    listening::Listening,
    stats::{ReaderKind, RefusedBy},
    subscriber::Subscriber,
    subscription::Subscription,
};
use crate::{
    channel::{Channel, Channels},
    cursor::Cursors,
    store::{Head, Store, StoreError},
};

/// Reading.
impl<S: Store> Hub<S> {
    /// The heads of these channels, in their order. All callers that ask at once share a call to the store.
    ///
    /// # Errors
    /// As [`Store::heads`]. `Unavailable` also when it takes longer than
    /// [`HubOptions::read_timeout`](crate::HubOptions::read_timeout), or when too many heads are requested at once.
    ///
    /// # Cancel safety
    /// Safe to drop at any point.
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

    /// Channels that have a record and whose names begin with `prefix`, in byte order of their names, each with its head: at
    /// most `limit` of those after `after`. A page may hold fewer; only an empty one is the end.
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
    ///
    /// # Cancel safety
    /// Safe to drop at any point.
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
    ///
    /// # Cancel safety
    /// Safe to drop at any point.
    pub async fn exists(&self, channel: &Channel) -> Result<bool, StoreError> {
        // Among the names that begin with its own, a channel's is the first.
        let first = self.store.channels(channel.as_str(), None, 1).await?;
        Ok(first.first().is_some_and(|(first, _)| first == channel))
    }

    /// The position after everything that these channels hold now, to resume from: "the page was rendered from the state as
    /// of here".
    ///
    /// # Errors
    /// As [`Hub::heads`].
    ///
    /// # Cancel safety
    /// Safe to drop at any point.
    pub async fn position(&self, channels: &Channels) -> Result<Cursors, StoreError> {
        let heads = self.heads(channels).await?;
        Ok(match heads.as_slice() {
            [head] => Cursors::from(head.cursor),
            heads => Cursors::of(channels.iter().zip(heads).map(|(channel, head)| (channel, head.cursor))),
        })
    }

    /// Waits for events after the subscription's start; returns none when the wait is over. A [`Subscription`] alone waits 25 s
    /// for at most 100 events; [`Listen`] sets both.
    ///
    /// # Errors
    /// [`SubscribeError`].
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped: the position moves only with what is returned.
    pub async fn listen(&self, listen: impl Into<Listen>) -> Result<Listened, SubscribeError> {
        let listen = listen.into();
        let mut listening = pin!(self.listening(&listen, ReaderKind::InProcess)?);
        let on_empty = || {
            if let Some(observe) = &listen.on_empty {
                observe();
            }
        };
        poll_fn(|cx| listening.as_mut().poll(on_empty, cx)).await
    }

    pub(crate) fn listening(&self, listen: &Listen, kind: ReaderKind) -> Result<Listening, SubscribeError> {
        Ok(Listening::new(self.subscriber(&listen.subscription, listen.limit, kind)?, listen))
    }

    /// Subscribes. When it returns, every channel's start is decided: whatever is published from now on is delivered.
    ///
    /// # Errors
    /// [`SubscribeError`].
    ///
    /// # Cancel safety
    /// Dropping the future unsubscribes.
    pub async fn subscribe(&self, subscription: Subscription) -> Result<Subscriber, SubscribeError> {
        self.subscribing(&subscription, ReaderKind::InProcess).await
    }

    /// Joins the channels at once; the future waits until every channel's start is decided.
    pub(crate) fn subscribing(
        &self,
        subscription: &Subscription,
        kind: ReaderKind,
    ) -> impl Future<Output = Result<Subscriber, SubscribeError>> + Send + use<S> {
        let subscriber = self.subscriber(subscription, usize::MAX, kind);
        async move {
            let mut subscriber = subscriber?;
            poll_fn(|cx| subscriber.poll_started(cx)).await?;
            Ok(subscriber)
        }
    }

    fn subscriber(
        &self,
        subscription: &Subscription,
        page_events: usize,
        kind: ReaderKind,
    ) -> Result<Subscriber, SubscribeError> {
        if let Some(retry) = self.shared.drain_hint() {
            self.shared.counters.refused(RefusedBy::Drain);
            return Err(SubscribeError::Draining { retry });
        }
        let Some(guard) = self.shared.admit(kind) else {
            return Err(SubscribeError::TooManyReaders { retry: limit_retry() });
        };
        Subscriber::new(&self.shared, guard, kind, subscription, page_events)
    }
}
