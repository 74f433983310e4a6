//! Waiting for events once: the seed's `listen`, and what a long poll is made of.

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
    channel_reader::{ChannelReader, PageSlot, Peeked},
    channel_readers::Visit,
    delivery::{Events, Failed, Reset},
    encoded_entry::EncodedEntry,
    entry_run::EntryRun,
    error::{ReadError, SubscribeError},
    subscriber::Subscriber,
    subscription::Subscription,
};
use crate::{
    channel::{Channel, Channels},
    cursor::Cursors,
    store::Entry,
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
    /// The channels that are closed and read to their end.
    pub ended: Vec<Channel>,
    /// The channels of which the store holds what cannot be read. Their positions stay where they were.
    pub failed: Vec<Failed>,
    /// Whether nothing was left in any channel when this was gathered.
    pub live: bool,
    /// The hub is draining: when to come back.
    pub retry: Option<Duration>,
    by_time: bool,
}

impl Listened {
    /// The entries: channel by channel in `seq` order, or all of them sorted by time when the subscription started by time.
    #[must_use]
    pub fn entries(&self) -> Vec<&Entry> {
        self.encoded_entries().into_iter().map(|encoded| encoded.entry()).collect()
    }

    /// The events, when they are of one channel and follow each other.
    pub(crate) fn run(&self) -> Option<&Events> {
        match self.events.as_slice() {
            [events] if !self.by_time => Some(events),
            _ => None,
        }
    }

    pub(crate) fn encoded_entries(&self) -> Vec<&Arc<EncodedEntry>> {
        let mut entries: Vec<_> = self.events.iter().flat_map(Events::encoded_entries).collect();
        if self.by_time {
            entries.sort_by_key(|encoded| encoded.entry().time);
        }
        entries
    }
}

pin_project! {
    /// A wait for events. While it waits it holds a position, a waker and a timer: what was found is handed out at once.
    pub(crate) struct Listening {
        subscriber: Subscriber,
        until: Until,
        events: usize,
        by_time: bool,
        // Every channel was looked at once: before, it is the store that takes its time.
        started: bool,
        // What was found while other channels were still being read for the first time.
        gathered: Option<Box<Gathered>>,
        // Made when nothing is there: most who come to catch up need none.
        #[pin]
        timer: Option<Sleep>,
    }
}

/// How long a wait lasts.
#[derive(Clone, Copy)]
enum Until {
    /// It only catches up.
    Now,
    Then(Instant),
    Never,
}

impl Until {
    fn new(wait: Duration) -> Self {
        if wait.is_zero() {
            return Self::Now;
        }
        // Too far away to be told is never.
        Instant::now().checked_add(wait).map_or(Self::Never, Self::Then)
    }
}

impl Listening {
    pub(super) fn new(subscriber: Subscriber, subscription: &Subscription) -> Self {
        Self {
            subscriber,
            until: Until::new(subscription.wait),
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

    /// Calls `on_empty` when it looked and found nothing.
    pub(crate) fn poll(
        mut self: Pin<&mut Self>,
        on_empty: impl FnOnce(),
        cx: &mut Context<'_>,
    ) -> Poll<Result<Listened, SubscribeError>> {
        // Where a channel starts is decided before anything is handed out: the answer names a position in each.
        let this = self.as_mut().project();
        if !this.subscriber.has_positions() {
            ready!(this.subscriber.poll_started(cx))?;
        }
        let mut gathered = this.gathered.take().map_or_else(|| Gathered::new(*this.events), |gathered| *gathered);
        let looked = gathered.gather(this.subscriber, cx);
        // What was gathered is delivered; the next request meets the failure.
        if let Some(error) = gathered.failure.take().filter(|_| !gathered.has_any()) {
            return Poll::Ready(Err(error.into()));
        }
        // Registered while gathering, so a drain from now on wakes this.
        let drained = self.subscriber.drain_hint();
        if gathered.has_any() {
            // Catching up means all channels, not the one that answered first.
            let waits = looked == Looked::Reading && !self.started && !gathered.is_full() && drained.is_none();
            if waits && self.as_mut().catch_up_time(cx).is_pending() {
                *self.project().gathered = Some(Box::new(gathered));
                return Poll::Pending;
            }
        } else if !self.subscriber.has_ended() {
            gathered.retry = drained;
            if drained.is_none() {
                if looked == Looked::AtAll {
                    on_empty();
                }
                ready!(self.as_mut().wait(looked, cx));
            }
        }
        Poll::Ready(Ok(self.finish(gathered)))
    }

    fn finish(&self, gathered: Gathered) -> Listened {
        Listened {
            events: gathered.events,
            resets: gathered.resets,
            cursors: self.subscriber.cursors(),
            closed: self.subscriber.has_ended(),
            ended: self.subscriber.ended_channels(),
            failed: gathered.failed,
            live: gathered.live,
            retry: gathered.retry,
            by_time: self.by_time,
        }
    }

    /// Ready when no more is waited for what other channels have: at the end of the wait, for a store may take its time with
    /// each of many channels.
    fn catch_up_time(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut this = self.project();
        if this.timer.is_none() {
            let deadline = match *this.until {
                Until::Now => Instant::now() + CATCH_UP,
                Until::Then(deadline) => deadline,
                Until::Never => return Poll::Pending,
            };
            this.timer.set(Some(sleep_until(deadline)));
        }
        this.timer.as_pin_mut().map_or(Poll::Pending, |timer| timer.poll(cx))
    }

    /// Ready when the wait is over.
    fn wait(self: Pin<&mut Self>, looked: Looked, cx: &mut Context<'_>) -> Poll<()> {
        let mut this = self.project();
        if looked == Looked::Reading && !*this.started {
            return Poll::Pending;
        }
        *this.started = true;
        let deadline = match *this.until {
            Until::Now => return Poll::Ready(()),
            Until::Then(deadline) => deadline,
            Until::Never => return Poll::Pending,
        };
        if this.timer.is_none() {
            this.timer.set(Some(sleep_until(deadline)));
        }
        this.timer.as_pin_mut().map_or(Poll::Pending, |timer| timer.poll(cx))
    }
}

/// What a look at all channels found of the store.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Looked {
    /// All that there is.
    AtAll,
    /// A read is under way.
    Reading,
}

/// What is left in a channel after what was gathered from it.
enum Left {
    Nothing,
    /// Perhaps: nobody looked.
    Something,
    /// A read will tell.
    Reading,
    /// A read will, for which there is no room yet.
    Waiting,
    Unreadable(ReadError),
}

#[derive(Debug)]
struct Gathered {
    events: Vec<Events>,
    resets: Vec<Reset>,
    failed: Vec<Failed>,
    /// Why a channel could not be read now.
    failure: Option<ReadError>,
    live: bool,
    retry: Option<Duration>,
    events_left: usize,
    bytes_left: usize,
}

impl Gathered {
    fn new(events_left: usize) -> Self {
        Self {
            events: Vec::new(),
            resets: Vec::new(),
            failed: Vec::new(),
            failure: None,
            live: true,
            retry: None,
            events_left,
            bytes_left: BYTES,
        }
    }

    fn is_full(&self) -> bool {
        self.events_left == 0 || self.bytes_left == 0
    }

    /// Takes what is there.
    fn gather(&mut self, subscriber: &mut Subscriber, cx: &mut Context<'_>) -> Looked {
        let mut looked = Looked::AtAll;
        let mut readable = false;
        self.live = true;
        subscriber.visit(|channel_reader, page_slot| -> Visit<()> {
            let left = self.gather_from(channel_reader, page_slot, cx);
            // What waits is visited again, or waits for one that reads.
            self.live &= matches!(left, Left::Nothing | Left::Waiting);
            if !matches!(left, Left::Unreadable(_)) {
                readable = true;
            }
            match left {
                Left::Nothing | Left::Something => {}
                Left::Reading => looked = Looked::Reading,
                Left::Waiting => return Visit::NeedsPageSlot,
                Left::Unreadable(error) => match error.corrupt() {
                    Some(corrupt) => self.note_failed(channel_reader.failed(corrupt.clone())),
                    None => self.failure = Some(error),
                },
            }
            Visit::Continue
        });
        // Waiting for channels none of which can ever be read would be waiting in vain.
        if let (false, Some(failed)) = (readable, self.failed.first()) {
            self.failure.get_or_insert(ReadError::Store(failed.error.clone()));
        }
        looked
    }

    fn gather_from(&mut self, channel_reader: &mut ChannelReader, page_slot: PageSlot, cx: &mut Context<'_>) -> Left {
        while !self.is_full() {
            match channel_reader.poll_peek(page_slot, cx) {
                Peeked::Run(run) => self.take(channel_reader, run),
                Peeked::Reset(reset) => {
                    channel_reader.take_reset();
                    self.resets.push(reset);
                }
                Peeked::Closed(_) => channel_reader.take_close(),
                Peeked::Failed(error) => return Left::Unreadable(error),
                Peeked::ReadPending => return Left::Reading,
                Peeked::NeedsPageSlot => return Left::Waiting,
                Peeked::Parked | Peeked::Corrupt | Peeked::Ended => return Left::Nothing,
            }
        }
        Left::Something
    }

    fn take(&mut self, channel_reader: &mut ChannelReader, run: Arc<EntryRun>) {
        let events = channel_reader.take(run, self.events_left);
        let bytes: usize = events.entries().map(Entry::size).sum();
        self.events_left -= events.len().min(self.events_left);
        self.bytes_left = self.bytes_left.saturating_sub(bytes);
        // One is what most answers have.
        match self.events.is_empty() {
            true => self.events = vec![events],
            false => self.events.push(events),
        }
    }

    /// A channel reader may be visited several times.
    fn note_failed(&mut self, failed: Failed) {
        if self.failed.iter().all(|known| known.channel != failed.channel) {
            self.failed.push(failed);
        }
    }

    fn has_any(&self) -> bool {
        !self.events.is_empty() || !self.resets.is_empty()
    }
}

/// Most bytes of one answer; a run that crosses it is the last.
const BYTES: usize = 1 << 20;

/// How long a listener that only catches up waits for other channels once it has something.
const CATCH_UP: Duration = Duration::from_secs(10);
