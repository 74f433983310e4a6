//! A reader of one or several channels within the process.

use std::{
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures_core::Stream;

use super::{
    channel_reader::{ChannelReader, PageSlot, Peeked},
    channel_readers::{ChannelReaders, Visit},
    counters::Counters,
    delivery::Delivery,
    error::SubscribeError,
    membership::Membership,
    shared::{ReaderGuard, Shared},
    snapshot_request::ChannelSnapshots,
    stats::{EndReason, ReaderKind},
    subscription::Subscription,
    turns::Turn,
};
use crate::{
    channel::{Channel, Channels},
    cursor::Cursors,
    store::{Limit, StoreError},
};

/// A stream of deliveries: positions and wakers, without a task or a queue. It ends after [`Delivery::Drained`], after an
/// error, and after every channel was [`Delivery::Closed`]. After an error or a drain, resume from [`Subscriber::cursors`].
/// What other channels have is delivered before an error; a channel that is [`Delivery::Failed`] ends the stream with an error
/// only if no other channel is left.
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
    /// Most events of one read. One channel at a time has a page, in turn.
    page_events: u32,
    /// The channel that is visited first, so that a busy one does not starve the others. There are at most
    /// [`Channels::MAX`].
    first: u8,
    ended: bool,
    /// Whether the position has moved past hidden entries since the last delivery.
    has_skipped: bool,
    /// How it is counted while it is open.
    kind: ReaderKind,
    guard: ReaderGuard,
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        self.counters().open_readers.subtract(self.kind, 1);
    }
}

impl Subscriber {
    /// Joins every channel; reads at most `page_events` at a time.
    pub(super) fn new(
        shared: &Arc<Shared>,
        guard: ReaderGuard,
        kind: ReaderKind,
        subscription: &Subscription,
        page_events: usize,
    ) -> Result<Self, SubscribeError> {
        let start = |channel| subscription.channel_start(channel);
        let options = || subscription.options.clone();
        if subscription.start.is_resume() {
            shared.counters.resumes.add(kind, 1);
        }
        let snapshots = subscription.options.as_ref().and_then(|options| ChannelSnapshots::of(options));
        let with_snapshots = |reader: ChannelReader, channel: &Channel| match &snapshots {
            Some(snapshots) => reader.with_snapshots(snapshots.clone(), subscription.channel_begin(channel)),
            None => reader,
        };
        let (channel_readers, channels) = match subscription.channels.as_slice() {
            [channel] => {
                let channel_reader = ChannelReader::only(Membership::join(shared, channel)?, start(channel), options());
                let channel_reader = with_snapshots(channel_reader, channel);
                // The topic's copy of the name, so that the request's own can be dropped.
                let channels = channel_reader.channel().into();
                (ChannelReaders::One(channel_reader), channels)
            }
            several => {
                let join = |channel| {
                    let reader =
                        ChannelReader::one_of_several(Membership::join(shared, channel)?, start(channel), options());
                    Ok(with_snapshots(reader, channel))
                };
                let channel_readers = several.iter().map(join).collect::<Result<_, SubscribeError>>()?;
                (ChannelReaders::Several(channel_readers), subscription.channels.clone())
            }
        };
        let first = u8::try_from(fastrand::usize(..channels.len())).unwrap_or(0);
        let page_events = u32::try_from(page_events).unwrap_or(u32::MAX);
        shared.counters.open_readers.add(kind, 1);
        Ok(Self { channel_readers, channels, page_events, first, ended: false, has_skipped: false, kind, guard })
    }

    /// The next delivery; `None` when there will be none.
    ///
    /// # Errors
    /// When the store failed, or too many reads are waiting for it. The subscriber has ended then.
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped.
    pub async fn next(&mut self) -> Option<Result<Delivery, SubscribeError>> {
        poll_fn(|cx| self.poll_delivery(cx)).await
    }

    /// The position after what was delivered so far, to resume from.
    #[must_use]
    pub fn cursors(&self) -> Cursors {
        let positions = || self.channels.iter().zip(self.channel_readers.iter().map(ChannelReader::position));
        let cursors = match (&self.channel_readers, self.channel_readers.first().and_then(ChannelReader::position)) {
            (ChannelReaders::One(_), Some(cursor)) => Cursors::from(cursor),
            _ => Cursors::of(positions().filter_map(|(channel, cursor)| Some((channel, cursor?)))),
        };
        cursors.under(self.channel_readers.first().and_then(ChannelReader::filter_hash))
    }

    /// The channels.
    #[must_use]
    pub fn channels(&self) -> &Channels {
        &self.channels
    }

    /// Whether every channel is closed and nothing is left to deliver but the closes.
    #[must_use]
    pub fn at_end(&self) -> bool {
        self.channel_readers.iter().all(ChannelReader::is_at_end)
    }

    /// Whether everything was delivered that was stored when the channels' starts and resets were decided: what comes now was
    /// published since. A reset makes it `false` until what is left was delivered. Changes only when a delivery is polled for.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.channel_readers.iter().all(ChannelReader::is_live)
    }

    /// Ready when every channel's start is decided. Fails when one cannot be read now, or none ever.
    pub(super) fn poll_started(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), SubscribeError>> {
        let started = self.poll_starts(cx);
        if let Poll::Ready(Err(error)) = &started {
            self.counters().ended_with(error);
        }
        started
    }

    fn poll_starts(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), SubscribeError>> {
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
        // A store that hangs must not delay a drain. Registered before this check: either it sees the drain, or the drain
        // wakes this task.
        match self.drain_hint().filter(|_| started.is_pending()) {
            Some(retry) => Poll::Ready(Err(SubscribeError::Draining { retry })),
            None => started,
        }
    }

    /// Whether every channel that can be read has a position from which a client would resume.
    pub(super) fn has_positions(&self) -> bool {
        let has_position = |reader: &ChannelReader| reader.position().is_some() || reader.has_failed();
        self.channel_readers.iter().all(has_position)
    }

    /// Visits the channels, from the one whose turn it is, until a visit breaks.
    pub(super) fn visit<T>(&mut self, visit: impl FnMut(&mut ChannelReader, PageSlot) -> Visit<T>) -> Option<T> {
        let page = self.guard.shared.options.page;
        let limit = Limit { events: page.events.min(self.page_events as usize), ..page };
        self.channel_readers.visit(&mut self.first, limit, visit)
    }

    pub(super) fn kind(&self) -> ReaderKind {
        self.kind
    }

    pub(super) fn counters(&self) -> &Counters {
        &self.guard.shared.counters
    }

    /// Counts bytes that were handed to the HTTP server.
    pub(crate) fn count_sent(&self, bytes: usize) {
        self.counters().sent(self.kind(), bytes);
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.guard.shared.is_draining()
    }

    pub(super) fn drain_hint(&self) -> Option<Duration> {
        self.guard.shared.drain_hint()
    }

    /// As [`Hub::failure_backoff`](crate::Hub::failure_backoff).
    pub(crate) fn failure_backoff(&self) -> Duration {
        self.guard.shared.store_calls.outage.backoff()
    }

    /// Whether every channel was read to its close.
    pub(super) fn has_ended(&self) -> bool {
        self.channel_readers.iter().all(ChannelReader::is_ended)
    }

    /// The channels that were read to their close.
    pub(crate) fn ended_channels(&self) -> Vec<Channel> {
        let ended = self.channel_readers.iter().filter(|reader| reader.is_ended());
        ended.map(|reader| reader.channel().clone()).collect()
    }

    /// Whether the last [`Subscriber::poll_delivery`] returned everything there was, and `cx` will be woken when there is more.
    pub(crate) fn is_parked(&self, cx: &Context<'_>) -> bool {
        self.channel_readers.iter().all(|reader| reader.is_parked(cx))
    }

    /// Whether the position has moved past entries that a filter hides since this or a delivery was last asked for.
    pub(crate) fn take_skipped(&mut self) -> bool {
        std::mem::take(&mut self.has_skipped)
    }

    /// Queues for a turn to hand out what it catches up on.
    pub(crate) fn wait_for_turn(&self, cx: &Context<'_>) -> Arc<Turn> {
        self.guard.shared.turns.join(cx)
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
        let delivery = match self.poll_channels(cx) {
            // Registered before this check: either it sees the drain, or the drain wakes this task.
            Poll::Pending => self.drained().map(Ok),
            Poll::Ready(delivery) => Some(delivery),
        };
        match delivery {
            Some(delivery) => {
                if let Err(error) = &delivery {
                    self.ended = true;
                    self.counters().ended_with(error);
                }
                Poll::Ready(Some(delivery))
            }
            None if self.channel_readers.iter().all(|reader| reader.is_ended() || reader.has_failed()) => {
                self.ended = true;
                let corrupt = self.channel_readers.iter().find_map(ChannelReader::corrupt);
                if corrupt.is_some() {
                    self.counters().ended(EndReason::StoreFailed);
                }
                Poll::Ready(corrupt.map(|error| Err(StoreError::shared(error.clone()).into())))
            }
            None => Poll::Pending,
        }
    }

    /// What a channel has to deliver, from the one whose turn it is. A failure that concerns more than its own channel comes
    /// after everything that the others have.
    fn poll_channels(&mut self, cx: &mut Context<'_>) -> Poll<Result<Delivery, SubscribeError>> {
        let mut examined = 0;
        loop {
            let mut skipped = 0;
            let polled = self.poll_each_channel(&mut skipped, cx);
            if polled.is_ready() || skipped == 0 {
                self.has_skipped &= polled.is_pending();
                return polled;
            }
            self.has_skipped = true;
            examined += skipped;
            if examined >= MAX_EXAMINED {
                // Other tasks come first.
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
        }
    }

    /// Adds the number of entries that it looked at and left out to `skipped`: what follows them has not been looked at then.
    fn poll_each_channel(
        &mut self,
        skipped: &mut usize,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Delivery, SubscribeError>> {
        let (mut failure, kind) = (None, self.kind());
        let delivery = self.visit(|channel_reader, page_slot| {
            Visit::Break(match channel_reader.poll_peek(page_slot, cx) {
                Peeked::Run(run) => Delivery::Events(channel_reader.take(run, usize::MAX, kind)),
                Peeked::Reset(reset) => {
                    channel_reader.take_reset();
                    Delivery::Reset(reset)
                }
                Peeked::Snapshot(snapshot) => {
                    channel_reader.take_snapshot();
                    Delivery::Snapshot(snapshot)
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
                Peeked::Skipped { entries } => {
                    *skipped += entries;
                    return Visit::Continue;
                }
                Peeked::NeedsPageSlot => return Visit::NeedsPageSlot,
                Peeked::Parked | Peeked::ReadPending | Peeked::Corrupt | Peeked::Ended => return Visit::Continue,
            })
        });
        match (delivery, failure) {
            (Some(delivery), _) => Poll::Ready(Ok(delivery)),
            (None, Some(error)) => Poll::Ready(Err(error.into())),
            (None, None) => Poll::Pending,
        }
    }

    fn drained(&mut self) -> Option<Delivery> {
        let retry = self.drain_hint()?;
        self.ended = true;
        self.counters().ended(EndReason::Drained);
        Some(Delivery::Drained { retry })
    }
}

/// How many entries one poll looks at, and hides, before other tasks get their turn.
const MAX_EXAMINED: usize = 10_000;

impl Stream for Subscriber {
    type Item = Result<Delivery, SubscribeError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().poll_delivery(cx)
    }
}
