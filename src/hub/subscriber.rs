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
    delivery::Delivery,
    error::SubscribeError,
    leg::{Leg, Ready},
    shared::{Reader, Shared},
    subscription::Subscription,
};
use crate::{channel::Channels, cursor::Cursors, store::StoreError};

/// A stream of deliveries: positions and wakers, no task and no queue. It ends after [`Delivery::Drained`], after an error,
/// and after every channel was [`Delivery::Closed`]. After an error or a drain, go on from [`Subscriber::cursors`].
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
    legs: Legs,
    channels: Channels,
    /// The leg that is looked at first, so that a busy channel does not starve the others. They are at most
    /// [`Channels::MAX`].
    turn: u8,
    ended: bool,
    reader: Reader,
}

impl Subscriber {
    pub(super) fn new(shared: &Arc<Shared>, reader: Reader, subscription: &Subscription) -> Result<Self, StoreError> {
        let leg = |channel| Ok(Leg::new(shared.seat(channel)?, subscription.from.of(channel)));
        let (legs, channels) = match subscription.channels.as_slice() {
            [channel] => {
                let leg = leg(channel)?;
                // The name that all its readers share, so that the request's own can go.
                let channels = leg.channel().into();
                (Legs::One(leg), channels)
            }
            several => {
                let legs = several.iter().map(leg).collect::<Result<_, StoreError>>()?;
                (Legs::Several(legs), subscription.channels.clone())
            }
        };
        let turn = u8::try_from(fastrand::usize(..channels.len().max(1))).unwrap_or(0);
        Ok(Self { legs, channels, turn, ended: false, reader })
    }

    /// The next delivery; `None` when there will be none.
    ///
    /// # Errors
    /// When the store failed. The subscriber has ended.
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped.
    pub async fn next(&mut self) -> Option<Result<Delivery, StoreError>> {
        poll_fn(|cx| self.poll_delivery(cx)).await
    }

    /// The resume position after what was handed out so far.
    #[must_use]
    pub fn cursors(&self) -> Cursors {
        let positions = || self.channels.iter().zip(self.legs.iter().map(Leg::position));
        match (&self.legs, self.legs.first().and_then(Leg::position)) {
            (Legs::One(_), Some(cursor)) => Cursors::from(cursor),
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
        self.legs.iter().all(Leg::is_at_end)
    }

    /// Waits until it is decided how every channel starts.
    pub(super) fn poll_started(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), SubscribeError>> {
        let mut started = Poll::Ready(Ok(()));
        for leg in self.legs.iter_mut() {
            match leg.look(cx) {
                Ready::Failed(error) => return Poll::Ready(Err(error.into())),
                Ready::Reading => started = Poll::Pending,
                _ => {}
            }
        }
        // A store that hangs holds no drain up. Registered first, then looked: either this sees it, or it wakes this.
        match self.drain_hint().filter(|_| started.is_pending()) {
            Some(retry) => Poll::Ready(Err(SubscribeError::Draining { retry })),
            None => started,
        }
    }

    /// Whether it is known of every channel from where a client would go on.
    pub(super) fn has_positions(&self) -> bool {
        self.legs.iter().all(|leg| leg.position().is_some())
    }

    /// The legs, from the one whose turn it is.
    pub(super) fn legs_in_turn(&mut self) -> impl Iterator<Item = &mut Leg> {
        let turn = usize::from(self.turn).min(self.legs.len());
        let (late, early) = self.legs.split_at_mut(turn);
        early.iter_mut().chain(late)
    }

    pub(super) fn drain_hint(&self) -> Option<Duration> {
        self.reader.shared.drain_hint()
    }

    /// Whether every channel was read to its close.
    pub(super) fn has_ended(&self) -> bool {
        self.legs.iter().all(Leg::is_ended)
    }

    /// Whether the last [`Subscriber::poll_delivery`] gave all that there was, and `cx` will be woken when there is more.
    pub(crate) fn is_parked(&self, cx: &Context<'_>) -> bool {
        !self.ended && self.legs.iter().all(|leg| leg.is_parked(cx))
    }

    pub(crate) fn poll_delivery(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Delivery, StoreError>>> {
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
            None if self.has_ended() => {
                self.ended = true;
                Poll::Ready(None)
            }
            None => Poll::Pending,
        }
    }

    fn look(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Delivery, StoreError>>> {
        let count = self.legs.len();
        let mut next = usize::from(self.turn);
        for _ in 0..count {
            let at = next;
            next = if at + 1 < count { at + 1 } else { 0 };
            let Some(leg) = self.legs.get_mut(at) else { continue };
            let delivery = match leg.look(cx) {
                Ready::Batch(batch) => Ok(Delivery::Events(leg.take(batch, usize::MAX))),
                Ready::Reset(reset) => {
                    leg.take_reset();
                    Ok(Delivery::Reset(reset))
                }
                Ready::Closed(closed) => {
                    leg.take_close();
                    Ok(Delivery::Closed(closed))
                }
                Ready::Failed(error) => Err(error),
                Ready::Parked | Ready::Reading | Ready::Ended => continue,
            };
            self.turn = u8::try_from(next).unwrap_or(0);
            return Poll::Ready(Some(delivery));
        }
        Poll::Pending
    }

    fn drained(&mut self) -> Option<Delivery> {
        let retry = self.reader.shared.drain_hint()?;
        self.ended = true;
        Some(Delivery::Drained { retry })
    }
}

impl Stream for Subscriber {
    type Item = Result<Delivery, StoreError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().poll_delivery(cx)
    }
}

/// One channel is what most subscribers read, and needs no list.
#[derive(Debug)]
enum Legs {
    One(Leg),
    Several(Box<[Leg]>),
}

impl Deref for Legs {
    type Target = [Leg];

    fn deref(&self) -> &[Leg] {
        match self {
            Self::One(leg) => std::slice::from_ref(leg),
            Self::Several(legs) => legs,
        }
    }
}

impl DerefMut for Legs {
    fn deref_mut(&mut self) -> &mut [Leg] {
        match self {
            Self::One(leg) => std::slice::from_mut(leg),
            Self::Several(legs) => legs,
        }
    }
}
