//! Waiting once for events: `Hub::listen`, and what a long poll is made of.

use std::{
    future::Future as _,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep_until};

use super::{
    delivery::{Batch, Failed, Reset},
    encoded_entry::EncodedEntry,
    error::SubscribeError,
    gather::{GatherStatus, Gathered},
    subscriber::Subscriber,
    subscription::Subscription,
};
use crate::{
    channel::{Channel, Channels},
    cursor::Cursors,
    store::Entry,
};

/// The result of one wait.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Listened {
    /// The events, channel by channel.
    pub events: Vec<Batch>,
    /// The channels that could not be continued. Their events start at the oldest retained one.
    pub resets: Vec<Reset>,
    /// The position after the events, to listen from next.
    pub cursors: Cursors,
    /// Whether every channel is closed and read to its end.
    pub closed: bool,
    /// The channels that are closed and read to their end.
    pub ended: Vec<Channel>,
    /// The channels whose stored data cannot be read. Their positions stay where they were.
    pub failed: Vec<Failed>,
    /// Whether nothing was left in any channel when the events were gathered.
    pub live: bool,
    /// Set if the hub is draining: when to come back.
    pub retry: Option<Duration>,
    by_time: bool,
}

impl Listened {
    /// The entries: channel by channel in `seq` order, or all of them sorted by time if the subscription started by time.
    #[must_use]
    pub fn entries(&self) -> Vec<&Entry> {
        self.encoded_entries().into_iter().map(|encoded| encoded.entry()).collect()
    }

    /// The events, if they are all of one channel and in its order.
    pub(crate) fn run(&self) -> Option<&Batch> {
        match self.events.as_slice() {
            [events] if !self.by_time => Some(events),
            _ => None,
        }
    }

    pub(crate) fn encoded_entries(&self) -> Vec<&Arc<EncodedEntry>> {
        let mut entries: Vec<_> = self.events.iter().flat_map(Batch::encoded_entries).collect();
        if self.by_time {
            entries.sort_by_key(|encoded| encoded.entry().time);
        }
        entries
    }
}

pin_project! {
    /// A wait for events. While it waits it holds a position, a waker and a timer: what is found is handed out at once.
    pub(crate) struct Listening {
        subscriber: Subscriber,
        until: WaitUntil,
        events: usize,
        by_time: bool,
        // Every channel was read once: until then an empty result only means that the store has not answered.
        started: bool,
        // What was found while other channels were still being read for the first time.
        gathered: Option<Box<Gathered>>,
        // Created once nothing is found: most listeners that catch up need none.
        #[pin]
        timer: Option<Sleep>,
    }
}

#[derive(Clone, Copy)]
enum WaitUntil {
    /// It only catches up.
    Now,
    At(Instant),
    Forever,
    /// It was told to end, and waits neither for events nor for reads that have begun.
    Ended,
}

impl WaitUntil {
    fn new(wait: Duration) -> Self {
        if wait.is_zero() {
            return Self::Now;
        }
        // Beyond what the clock can represent is forever.
        Instant::now().checked_add(wait).map_or(Self::Forever, Self::At)
    }
}

impl Listening {
    pub(super) fn new(subscriber: Subscriber, subscription: &Subscription) -> Self {
        Self {
            subscriber,
            until: WaitUntil::new(subscription.wait),
            events: subscription.events,
            by_time: subscription.is_by_time(),
            started: false,
            gathered: None,
            timer: None,
        }
    }

    pub(crate) fn channels(&self) -> &Channels {
        self.subscriber.channels()
    }

    /// As [`Hub::failure_backoff`](crate::Hub::failure_backoff).
    pub(crate) fn failure_backoff(&self) -> Duration {
        self.subscriber.failure_backoff()
    }

    /// Ends the wait: the next poll hands out what there is, once each channel has a position.
    pub(crate) fn end_wait(self: Pin<&mut Self>) {
        *self.project().until = WaitUntil::Ended;
    }

    /// Calls `on_empty` when it looked and found nothing.
    pub(crate) fn poll(
        mut self: Pin<&mut Self>,
        on_empty: impl FnOnce(),
        cx: &mut Context<'_>,
    ) -> Poll<Result<Listened, SubscribeError>> {
        // Every channel's start is decided before anything is handed out: the answer names a position in each.
        let this = self.as_mut().project();
        if !this.subscriber.has_positions() {
            ready!(this.subscriber.poll_started(cx))?;
        }
        let mut gathered = this.gathered.take().map_or_else(|| Gathered::new(*this.events), |gathered| *gathered);
        let status = gathered.gather(this.subscriber, cx);
        // What was gathered is delivered first; the next request meets the failure.
        if let Some(error) = gathered.failure.take().filter(|_| !gathered.has_any()) {
            return Poll::Ready(Err(error.into()));
        }
        // Wakers were registered while gathering, so that a drain from now on wakes this task.
        let drained = self.subscriber.drain_hint();
        if gathered.has_any() {
            // Catching up means all channels, not only the one that answered first.
            let waits =
                status == GatherStatus::ReadPending && !self.started && !gathered.is_full() && drained.is_none();
            if waits && self.as_mut().poll_catch_up_timer(cx).is_pending() {
                *self.project().gathered = Some(Box::new(gathered));
                return Poll::Pending;
            }
            return Poll::Ready(Ok(self.finish(gathered, None)));
        }
        if self.subscriber.has_ended() {
            return Poll::Ready(Ok(self.finish(gathered, None)));
        }
        if drained.is_none() {
            if status == GatherStatus::Complete {
                on_empty();
            }
            ready!(self.as_mut().poll_wait(status, cx));
        }
        Poll::Ready(Ok(self.finish(gathered, drained)))
    }

    fn finish(&self, gathered: Gathered, retry: Option<Duration>) -> Listened {
        Listened {
            events: gathered.events,
            resets: gathered.resets,
            cursors: self.subscriber.cursors(),
            closed: self.subscriber.has_ended(),
            ended: self.subscriber.ended_channels(),
            failed: gathered.failed,
            live: gathered.live,
            retry,
            by_time: self.by_time,
        }
    }

    /// Ready when the other channels are no longer waited for although something was found: a store may take long for each of
    /// many channels.
    fn poll_catch_up_timer(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        match self.until {
            WaitUntil::Now => self.poll_timer(Instant::now() + MAX_CATCH_UP, cx),
            WaitUntil::At(deadline) => self.poll_timer(deadline, cx),
            WaitUntil::Forever => Poll::Pending,
            WaitUntil::Ended => Poll::Ready(()),
        }
    }

    /// Ready when the wait is over.
    fn poll_wait(mut self: Pin<&mut Self>, status: GatherStatus, cx: &mut Context<'_>) -> Poll<()> {
        let may_end = self.started || matches!(self.until, WaitUntil::Ended);
        if status == GatherStatus::ReadPending && !may_end {
            return Poll::Pending;
        }
        *self.as_mut().project().started = true;
        match self.until {
            WaitUntil::Now | WaitUntil::Ended => Poll::Ready(()),
            WaitUntil::At(deadline) => self.poll_timer(deadline, cx),
            WaitUntil::Forever => Poll::Pending,
        }
    }

    /// Only the first deadline counts.
    fn poll_timer(self: Pin<&mut Self>, deadline: Instant, cx: &mut Context<'_>) -> Poll<()> {
        let mut timer = self.project().timer;
        if timer.is_none() {
            timer.set(Some(sleep_until(deadline)));
        }
        timer.as_pin_mut().map_or(Poll::Pending, |timer| timer.poll(cx))
    }
}

/// How long a listener that only catches up waits for other channels once it has found something.
const MAX_CATCH_UP: Duration = Duration::from_secs(10);
