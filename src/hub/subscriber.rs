//! A reader of one or several channels, inside the process.

use std::{
    future::poll_fn,
    ops::{Deref, DerefMut},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures_core::Stream;

use super::{
    channel_reader::{ChannelReader, PageSlot, Peeked},
    delivery::Delivery,
    error::SubscribeError,
    membership::Membership,
    shared::{ReaderGuard, Shared},
    subscription::Subscription,
    turns::Turn,
};
use crate::{
    channel::{Channel, Channels},
    cursor::Cursors,
    store::{Limit, StoreError},
};

/// A stream of deliveries: positions and wakers, no task and no queue. It ends after [`Delivery::Drained`], after an error,
/// and after every channel was [`Delivery::Closed`]. After an error or a drain, go on from [`Subscriber::cursors`]. What
/// other channels have comes before an error; a channel that is [`Delivery::Failed`] ends the stream with an error only when
/// no other is left.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use tower_events::{Channel, Delivery, Event, Hub, MemoryStore, Subscription};
///
/// let hub = Hub::new(MemoryStore::default());
/// let room = Channel::new("room")?;
/// let mut subscriber = hub.subscribe(Subscription::new(&room)).await?;
/// hub.publish(&room, Event::text("hello")).await?;
/// let Some(Ok(Delivery::Events(events))) = subscriber.next().await else { panic!() };
/// assert_eq!(events.entries().next().and_then(|entry| entry.data.as_text()), Some("hello"));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Subscriber {
    channel_readers: ChannelReaders,
    channels: Channels,
    /// Most events of one read. Of all channels one at a time has a page, in turn.
    page_events: u32,
    /// The channel reader that is looked at first, so that a busy channel does not starve the others. They are at most
    /// [`Channels::MAX`].
    turn: u8,
    ended: bool,
    reader: ReaderGuard,
}

impl Subscriber {
    /// Enters every channel; reads at most `page_events` at a time.
    pub(super) fn new(
        shared: &Arc<Shared>,
        reader: ReaderGuard,
        subscription: &Subscription,
        page_events: usize,
    ) -> Result<Self, StoreError> {
        let start = |channel| subscription.from.of(channel);
        let (channel_readers, channels) = match subscription.channels.as_slice() {
            [channel] => {
                let channel_reader = ChannelReader::only(Membership::join(shared, channel)?, start(channel));
                // The name that all its readers share, so that the request's own can go.
                let channels = channel_reader.channel().into();
                (ChannelReaders::One(channel_reader), channels)
            }
            several => {
                let channel_reader =
                    |channel| Ok(ChannelReader::one_of_several(Membership::join(shared, channel)?, start(channel)));
                let channel_readers = several.iter().map(channel_reader).collect::<Result<_, StoreError>>()?;
                (ChannelReaders::Several(channel_readers), subscription.channels.clone())
            }
        };
        let turn = u8::try_from(fastrand::usize(..channels.len().max(1))).unwrap_or(0);
        let page_events = u32::try_from(page_events).unwrap_or(u32::MAX);
        Ok(Self { channel_readers, channels, page_events, turn, ended: false, reader })
    }

    /// The next delivery; `None` when there will be none.
    ///
    /// # Errors
    /// When the store failed, or too many reads of it wait. The subscriber has ended.
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped.
    pub async fn next(&mut self) -> Option<Result<Delivery, SubscribeError>> {
        poll_fn(|cx| self.poll_delivery(cx)).await
    }

    /// The resume position after what was handed out so far.
    #[must_use]
    pub fn cursors(&self) -> Cursors {
        let positions = || self.channels.iter().zip(self.channel_readers.iter().map(ChannelReader::position));
        match (&self.channel_readers, self.channel_readers.first().and_then(ChannelReader::position)) {
            (ChannelReaders::One(_), Some(cursor)) => Cursors::from(cursor),
            _ => Cursors::of(positions().filter_map(|(channel, cursor)| Some((channel, cursor?)))),
        }
    }

    /// The channels.
    #[must_use]
    pub fn channels(&self) -> &Channels {
        &self.channels
    }

    /// Whether every channel is closed and nothing is left to hand out but the closes.
    #[must_use]
    pub fn at_end(&self) -> bool {
        self.channel_readers.iter().all(ChannelReader::is_at_end)
    }

    /// Whether all that there was when the channels' starts and resets were decided is handed out: what comes now was
    /// published since. A reset makes it `false` until what is left was handed out. Changes only when a delivery is asked
    /// for.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.channel_readers.iter().all(ChannelReader::is_live)
    }

    /// Waits until it is decided how every channel starts. Fails when one cannot be read now, or none ever.
    pub(super) fn poll_started(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), SubscribeError>> {
        let mut started = Poll::Ready(Ok(()));
        let (mut readable, mut corrupt) = (false, None);
        let failed = self.visit(|channel_reader, page_slot| {
            match channel_reader.poll_peek(page_slot, cx) {
                Peeked::Failed(error) if error.corrupt().is_some() => corrupt = Some(error),
                Peeked::Failed(error) => return Visit::Break(error),
                Peeked::ReadPending if !channel_reader.has_started() => started = Poll::Pending,
                _ => readable = true,
            }
            Visit::Continue
        });
        if let Some(error) = failed {
            return Poll::Ready(Err(error.into()));
        }
        if let Some(error) = corrupt.filter(|_| !readable && started.is_ready()) {
            return Poll::Ready(Err(error.into()));
        }
        // A store that hangs holds no drain up. Registered first, then looked: either this sees it, or it wakes this.
        match self.drain_hint().filter(|_| started.is_pending()) {
            Some(retry) => Poll::Ready(Err(SubscribeError::Draining { retry })),
            None => started,
        }
    }

    /// Whether it is known of every channel that can be read from where a client would go on.
    pub(super) fn has_positions(&self) -> bool {
        self.channel_readers
            .iter()
            .all(|channel_reader| channel_reader.position().is_some() || channel_reader.has_failed())
    }

    /// Visits the channel readers, from the one whose turn it is, until a visit is enough. What waits for room for its page is visited
    /// again when another gave its room up.
    pub(super) fn visit<T>(&mut self, mut visit: impl FnMut(&mut ChannelReader, PageSlot) -> Visit<T>) -> Option<T> {
        let count = self.channel_readers.len();
        let page = self.reader.shared.options.page;
        let page = Limit { events: page.events.min(self.page_events as usize), ..page };
        let mut has_page = self.channel_readers.iter().position(ChannelReader::has_page);
        loop {
            let mut waiting = false;
            for n in 0..count {
                let at = (usize::from(self.turn) + n) % count;
                let Some(channel_reader) = self.channel_readers.get_mut(at) else { continue };
                let page_slot = match has_page {
                    Some(other) if other != at => PageSlot::Taken,
                    _ => PageSlot::Free(page),
                };
                let visited = visit(channel_reader, page_slot);
                match (channel_reader.has_page(), has_page) {
                    (true, _) => has_page = Some(at),
                    (false, Some(same)) if same == at => has_page = None,
                    (false, _) => {}
                }
                match visited {
                    Visit::Break(result) => {
                        self.turn = u8::try_from((at + 1) % count).unwrap_or(0);
                        return Some(result);
                    }
                    Visit::NeedsPageSlot => waiting = true,
                    Visit::Continue => {}
                }
            }
            if !waiting || has_page.is_some() {
                return None;
            }
        }
    }

    pub(super) fn drain_hint(&self) -> Option<Duration> {
        self.reader.shared.drain_hint()
    }

    /// As [`Hub::failure_backoff`](crate::Hub::failure_backoff).
    pub(crate) fn failure_backoff(&self) -> Duration {
        self.reader.shared.store_calls.outage.backoff()
    }

    /// Whether every channel was read to its close.
    pub(super) fn has_ended(&self) -> bool {
        self.channel_readers.iter().all(ChannelReader::is_ended)
    }

    /// The channels that were read to their close.
    pub(crate) fn ended_channels(&self) -> Vec<Channel> {
        self.channel_readers
            .iter()
            .filter(|channel_reader| channel_reader.is_ended())
            .map(|channel_reader| channel_reader.channel().clone())
            .collect()
    }

    /// Whether the last [`Subscriber::poll_delivery`] gave all that there was, and `cx` will be woken when there is more.
    pub(crate) fn is_parked(&self, cx: &Context<'_>) -> bool {
        !self.ended && self.channel_readers.iter().all(|channel_reader| channel_reader.is_parked(cx))
    }

    /// Joins those who wait for a turn to hand out what they catch up.
    pub(crate) fn wait_for_turn(&self, cx: &Context<'_>) -> Arc<Turn> {
        self.reader.shared.turns.join(cx)
    }

    pub(crate) fn poll_delivery(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Delivery, SubscribeError>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        if let Some(delivery) = self.drained() {
            return Poll::Ready(Some(Ok(delivery)));
        }
        if self.is_parked(cx) {
            return Poll::Pending;
        }
        let delivery = match self.look(cx) {
            // Registered first, then looked: either this sees the drain, or the drain wakes this.
            Poll::Pending => self.drained().map(Ok),
            Poll::Ready(delivery) => delivery,
        };
        match delivery {
            Some(delivery) => {
                self.ended |= delivery.is_err();
                Poll::Ready(Some(delivery))
            }
            None if self
                .channel_readers
                .iter()
                .all(|channel_reader| channel_reader.is_ended() || channel_reader.has_failed()) =>
            {
                self.ended = true;
                let broken = self.channel_readers.iter().find_map(ChannelReader::corrupt);
                Poll::Ready(broken.map(|error| Err(StoreError::shared(error.clone()).into())))
            }
            None => Poll::Pending,
        }
    }

    /// What a channel has to hand out, from the one whose turn it is. A failure that concerns more than its own channel comes
    /// after all that the others have.
    fn look(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Delivery, SubscribeError>>> {
        let mut failure = None;
        let delivery = self.visit(|channel_reader, page_slot| {
            Visit::Break(match channel_reader.poll_peek(page_slot, cx) {
                Peeked::Run(run) => Delivery::Events(channel_reader.take(run, usize::MAX)),
                Peeked::Reset(reset) => {
                    channel_reader.take_reset();
                    Delivery::Reset(reset)
                }
                Peeked::Closed(closed) => {
                    channel_reader.take_close();
                    Delivery::Closed(closed)
                }
                Peeked::Failed(error) => match error.corrupt() {
                    Some(corrupt) => {
                        channel_reader.take_failure(corrupt);
                        Delivery::Failed(channel_reader.failed(corrupt.clone()))
                    }
                    None => {
                        failure = Some(error);
                        return Visit::Continue;
                    }
                },
                Peeked::NeedsPageSlot => return Visit::NeedsPageSlot,
                Peeked::Parked | Peeked::ReadPending | Peeked::Corrupt | Peeked::Ended => return Visit::Continue,
            })
        });
        match (delivery, failure) {
            (Some(delivery), _) => Poll::Ready(Some(Ok(delivery))),
            (None, Some(error)) => Poll::Ready(Some(Err(error.into()))),
            (None, None) => Poll::Pending,
        }
    }

    fn drained(&mut self) -> Option<Delivery> {
        let retry = self.reader.shared.drain_hint()?;
        self.ended = true;
        Some(Delivery::Drained { retry })
    }
}

impl Stream for Subscriber {
    type Item = Result<Delivery, SubscribeError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().poll_delivery(cx)
    }
}

/// What a visit of a channel reader says.
pub(super) enum Visit<T> {
    Break(T),
    Continue,
    /// It waits for room for its page.
    NeedsPageSlot,
}

/// One channel is what most subscribers read, and needs no list.
#[derive(Debug)]
enum ChannelReaders {
    One(ChannelReader),
    Several(Box<[ChannelReader]>),
}

impl Deref for ChannelReaders {
    type Target = [ChannelReader];

    fn deref(&self) -> &[ChannelReader] {
        match self {
            Self::One(channel_reader) => std::slice::from_ref(channel_reader),
            Self::Several(channel_readers) => channel_readers,
        }
    }
}

impl DerefMut for ChannelReaders {
    fn deref_mut(&mut self) -> &mut [ChannelReader] {
        match self {
            Self::One(channel_reader) => std::slice::from_mut(channel_reader),
            Self::Several(channel_readers) => channel_readers,
        }
    }
}
