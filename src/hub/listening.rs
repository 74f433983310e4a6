//! The future of a wait for events, of which `Hub::listen` and long polls are made.

use std::{
    future::Future as _,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep_until};

use super::{
    error::SubscribeError,
    gather::{GatherStatus, Gathered},
    listen::{Listen, Listened},
    stats::EndReason,
    subscriber::Subscriber,
};
use crate::channel::Channels;

pin_project! {
    /// A wait for events. While it waits it holds a position, a waker and a timer: what is found is handed out at once.
    pub(crate) struct Listening {
        subscriber: Subscriber,
        until: WaitUntil,
        limit: usize,
        by_time: bool,
        // How many more entries may be looked at that a filter hides: then the client gets its new position.
        examined_left: u32,
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
    pub(super) fn new(subscriber: Subscriber, listen: &Listen) -> Self {
        Self {
            subscriber,
            until: WaitUntil::new(listen.wait),
            limit: listen.limit,
            by_time: listen.subscription.is_by_time(),
            examined_left: MAX_EXAMINED,
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

    /// Counts the bytes of its answer.
    pub(crate) fn count_sent(&self, bytes: usize) {
        self.subscriber.count_sent(bytes);
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
        let none = || Gathered::new(*this.limit, *this.examined_left, this.subscriber.kind());
        let mut gathered = this.gathered.take().map_or_else(none, |gathered| *gathered);
        let status = gathered.gather(this.subscriber, cx);
        *this.examined_left = gathered.examined_left;
        // What was gathered is delivered first; the next request meets the failure.
        if let Some(error) = gathered.failure.take().filter(|_| !gathered.has_any()) {
            let error = error.into();
            this.subscriber.counters().ended_with(&error);
            return Poll::Ready(Err(error));
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
        if self.subscriber.has_ended() || gathered.is_full() {
            return Poll::Ready(Ok(self.finish(gathered, None)));
        }
        if drained.is_none() {
            if status == GatherStatus::Complete {
                on_empty();
            }
            ready!(self.as_mut().poll_wait(status, cx));
        }
        if drained.is_some() {
            self.subscriber.counters().ended(EndReason::Drained);
        }
        Poll::Ready(Ok(self.finish(gathered, drained)))
    }

    fn finish(&self, gathered: Gathered, retry: Option<Duration>) -> Listened {
        Listened {
            events: gathered.events,
            resets: gathered.resets,
            snapshots: gathered.snapshots,
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

/// How many entries that a filter hides one wait looks at.
const MAX_EXAMINED: u32 = 10_000;

/// How long a listener that only catches up waits for other channels once it has found something.
const MAX_CATCH_UP: Duration = Duration::from_secs(10);
