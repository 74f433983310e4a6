//! What a subscriber delivers, one update at a time, each with the position after it: for transports of one's own.

use std::{
    fmt,
    future::{Future, poll_fn},
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures_core::Stream;

use super::{
    delivery::{Batch, Closed, Delivery, Failed, Reset, Snapshot},
    error::SubscribeError,
    subscriber::Subscriber,
};
use crate::{channel::Channel, cursor::Cursors, store::Entry};

/// What a [`Subscriber`] delivers, one update at a time, each with the position to resume from: for gRPC, WebSocket and other
/// transports of your own. From [`Subscriber::updates`].
///
/// A client that sends the newest position that it has back, in [`Subscription::resume`](crate::Subscription::resume), misses
/// nothing and receives nothing twice. Send [`Updates::cursors`] before the first update, too: the connection may break before
/// anything is published.
///
/// The stream ends after an error, and after every channel was [`UpdateContent::Closed`]. A drain is the error
/// [`SubscribeError::Draining`].
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use tower_events::{Channel, Event, Hub, MemoryStore, Subscription, UpdateContent};
///
/// let hub = Hub::new(MemoryStore::default());
/// let room = Channel::new("room")?;
/// let mut updates = hub.subscribe(Subscription::new(&room)).await?.updates();
/// hub.publish_all(&room, [Event::text("one"), Event::text("two")]).await?;
/// let Some(one) = updates.next().await else { panic!() };
/// // The client has received "one" and sends its position.
/// let mut resumed = hub.subscribe(Subscription::new(&room).resume(&one?.cursors)).await?.updates();
/// let Some(Ok(two)) = resumed.next().await else { panic!() };
/// let UpdateContent::Event(entry) = two.content else { panic!() };
/// assert_eq!(entry.data.as_text(), Some("two"));
/// # Ok(())
/// # }
/// ```
pub struct Updates {
    subscriber: Subscriber,
    /// The events that are being handed out.
    batch: Option<PartialBatch>,
    position: Cursors,
    end: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    state: State,
}

/// One of [`Updates`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Update {
    /// Where a client resumes that has received this update and all before it.
    pub cursors: Cursors,
    /// What it is.
    pub content: UpdateContent,
}

/// What an [`Update`] is.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum UpdateContent {
    /// An event.
    Event(Entry),
    /// A channel could not be continued; what follows starts at its oldest retained event, or with a snapshot.
    Reset(Reset),
    /// The state of a channel; the events after it follow. Only with a [`snapshot`](crate::snapshot) provider.
    Snapshot(Snapshot),
    /// A channel is closed and read to its end.
    Closed(Closed),
    /// The stored data of a channel cannot be read. The other channels go on.
    Failed(Failed),
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    Open,
    Ended,
}

struct PartialBatch {
    batch: Batch,
    taken: usize,
}

impl Update {
    /// The channel that it is about.
    #[must_use]
    pub fn channel(&self) -> &Channel {
        match &self.content {
            UpdateContent::Event(entry) => &entry.channel,
            UpdateContent::Reset(reset) => &reset.channel,
            UpdateContent::Snapshot(snapshot) => snapshot.channel(),
            UpdateContent::Closed(closed) => &closed.channel,
            UpdateContent::Failed(failed) => &failed.channel,
        }
    }
}

impl Subscriber {
    /// The same, one update at a time, each with the position after it.
    #[must_use]
    pub fn updates(self) -> Updates {
        let position = self.cursors();
        Updates { subscriber: self, batch: None, position, end: None, state: State::Open }
    }
}

impl Updates {
    /// Ends the updates with [`SubscribeError::Ended`] when `signal` is ready, such as the time at which a token expires. Nothing
    /// is handed out after that. A second signal replaces the first.
    ///
    /// The signal is polled only when the stream is, and dropped with it.
    #[must_use]
    pub fn until(self, signal: impl Future<Output = ()> + Send + 'static) -> Self {
        Self { end: Some(Box::pin(signal)), ..self }
    }

    /// The next update; `None` when there will be none.
    ///
    /// # Errors
    /// [`SubscribeError`]. The updates have ended then.
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped.
    pub async fn next(&mut self) -> Option<Result<Update, SubscribeError>> {
        poll_fn(|cx| self.poll_update(cx)).await
    }

    /// The position after the updates so far, to resume from.
    #[must_use]
    pub fn cursors(&self) -> &Cursors {
        &self.position
    }

    fn poll_update(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Update, SubscribeError>>> {
        if self.state == State::Ended {
            return Poll::Ready(None);
        }
        let update = match self.end.as_mut().map(|signal| signal.as_mut().poll(cx)) {
            Some(Poll::Ready(())) => Some(Err(SubscribeError::Ended)),
            _ => ready!(self.poll_open(cx)),
        };
        if !matches!(update, Some(Ok(_))) {
            self.state = State::Ended;
        }
        Poll::Ready(update)
    }

    fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Update, SubscribeError>>> {
        loop {
            if let Some(update) = self.next_of_batch() {
                return Poll::Ready(Some(Ok(update)));
            }
            let content = match ready!(self.subscriber.poll_delivery(cx)) {
                Some(Ok(Delivery::Events(batch))) => {
                    self.batch = Some(PartialBatch { batch, taken: 0 });
                    continue;
                }
                Some(Ok(Delivery::Reset(reset))) => UpdateContent::Reset(reset),
                Some(Ok(Delivery::Snapshot(snapshot))) => UpdateContent::Snapshot(snapshot),
                Some(Ok(Delivery::Closed(closed))) => UpdateContent::Closed(closed),
                Some(Ok(Delivery::Failed(failed))) => UpdateContent::Failed(failed),
                Some(Ok(Delivery::Drained { retry })) => {
                    return Poll::Ready(Some(Err(SubscribeError::Draining { retry })));
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => return Poll::Ready(None),
            };
            self.position = self.subscriber.cursors();
            return Poll::Ready(Some(Ok(Update { cursors: self.position.clone(), content })));
        }
    }

    /// The next event of the batch. The last one has the subscriber's own position: a batch by time may end after its last event.
    fn next_of_batch(&mut self) -> Option<Update> {
        let partial = self.batch.as_mut()?;
        let entry = partial.batch.entries().nth(partial.taken)?.clone();
        partial.taken += 1;
        if partial.taken < partial.batch.len() {
            self.position.set(&entry.channel, entry.cursor);
        } else {
            self.batch = None;
            self.position = self.subscriber.cursors();
        }
        Some(Update { cursors: self.position.clone(), content: UpdateContent::Event(entry) })
    }
}

impl Stream for Updates {
    type Item = Result<Update, SubscribeError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().poll_update(cx)
    }
}

impl fmt::Debug for Updates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { subscriber, position, state, .. } = self;
        let mut debug = f.debug_struct("Updates");
        debug.field("subscriber", subscriber).field("position", position).field("state", state).finish_non_exhaustive()
    }
}
