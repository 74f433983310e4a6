//! Waiting for events once: the seed's `listen`, and what a long poll is made of.

use std::{
    future::poll_fn,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::{Instant, timeout};

use super::{
    delivery::{Events, Reset},
    frame::{Batch, Frame},
    leg::{Leg, Ready},
    subscriber::Subscriber,
    subscription::Subscription,
};
use crate::{
    cursor::Cursors,
    store::{Entry, StoreError},
};

/// What one wait gave.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Listened {
    /// The events, channel by channel.
    pub events: Vec<Events>,
    /// The channels that could not be continued. Their events start at the oldest retained one.
    pub resets: Vec<Reset>,
    /// The position after the events: where to listen next.
    pub cursors: Cursors,
    /// Whether every channel is closed and read to its end.
    pub closed: bool,
    /// The hub is draining: when to come back.
    pub retry: Option<Duration>,
    by_time: bool,
}

impl Listened {
    /// The entries: channel by channel in `seq` order, or all of them sorted by time when the subscription started by time.
    #[must_use]
    pub fn entries(&self) -> Vec<&Entry> {
        self.frames().into_iter().map(|frame| frame.entry()).collect()
    }

    pub(crate) fn frames(&self) -> Vec<&Arc<Frame>> {
        let mut frames: Vec<_> = self.events.iter().flat_map(Events::frames).collect();
        if self.by_time {
            frames.sort_by_key(|frame| frame.entry().time);
        }
        frames
    }
}

/// Listens with a subscriber whose starts are decided; the wait is counted from when it `began`.
pub(super) async fn listen(
    mut subscriber: Subscriber,
    subscription: &Subscription,
    began: Instant,
) -> Result<Listened, StoreError> {
    let left = subscription.wait.saturating_sub(began.elapsed());
    let mut gathered = Gathered::new(subscription);
    let gather = poll_fn(|cx| gathered.poll(&mut subscriber, subscription, cx));
    if subscription.wait.is_zero() {
        gather.await?;
    } else if let Ok(failed) = timeout(left, gather).await {
        failed?;
    }
    Ok(gathered.finish(&subscriber, subscription))
}

struct Gathered {
    events: Vec<Events>,
    resets: Vec<Reset>,
    retry: Option<Duration>,
    events_left: usize,
    bytes_left: usize,
}

impl Gathered {
    fn new(subscription: &Subscription) -> Self {
        let (events, resets) = (Vec::new(), Vec::new());
        Self { events, resets, retry: None, events_left: subscription.events, bytes_left: BYTES }
    }

    fn poll(
        &mut self,
        subscriber: &mut Subscriber,
        subscription: &Subscription,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), StoreError>> {
        let reading = match self.gather(subscriber, cx) {
            Ok(reading) => reading,
            // What was gathered is delivered; the next request meets the error.
            Err(_) if self.has_any() => return Poll::Ready(Ok(())),
            Err(error) => return Poll::Ready(Err(error)),
        };
        if self.has_any() || subscriber.has_ended() {
            return Poll::Ready(Ok(()));
        }
        // Registered while gathering, so a drain from now on wakes this.
        self.retry = subscriber.drain_hint();
        if self.retry.is_some() {
            return Poll::Ready(Ok(()));
        }
        if reading {
            return Poll::Pending;
        }
        if let Some(observe) = &subscription.on_empty {
            observe();
        }
        if subscription.wait.is_zero() { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    /// Takes what is there; says whether a read of the store is under way.
    fn gather(&mut self, subscriber: &mut Subscriber, cx: &mut Context<'_>) -> Result<bool, StoreError> {
        let mut reading = false;
        for leg in subscriber.legs_in_turn() {
            while self.events_left > 0 && self.bytes_left > 0 {
                match leg.look(cx) {
                    Ready::Batch(batch) => self.take(leg, batch),
                    Ready::Reset(reset) => {
                        leg.take_reset();
                        self.resets.push(reset);
                    }
                    Ready::Closed(_) => leg.take_close(),
                    Ready::Failed(error) => return Err(error),
                    Ready::Reading => {
                        reading = true;
                        break;
                    }
                    Ready::Parked | Ready::Ended => break,
                }
            }
        }
        Ok(reading)
    }

    fn take(&mut self, leg: &mut Leg, batch: Arc<Batch>) {
        let events = leg.take(batch, self.events_left);
        let bytes: usize = events.entries().map(Entry::size).sum();
        self.events_left -= events.len().min(self.events_left);
        self.bytes_left = self.bytes_left.saturating_sub(bytes);
        self.events.push(events);
    }

    fn has_any(&self) -> bool {
        !self.events.is_empty() || !self.resets.is_empty()
    }

    fn finish(self, subscriber: &Subscriber, subscription: &Subscription) -> Listened {
        Listened {
            events: self.events,
            resets: self.resets,
            cursors: subscriber.cursors(),
            closed: subscriber.has_ended(),
            retry: self.retry,
            by_time: subscription.is_by_time(),
        }
    }
}

/// Most bytes of one answer; a batch that crosses it is the last.
const BYTES: usize = 1 << 20;
