//! A client: its positions, and a check that whatever it receives is what it has to receive next.

use std::{collections::VecDeque, time::Duration};

use tower_events::{
    Batch, Channel, Channels, Closed, Cursor, Cursors, Delivery, Hub, Reset, StoreError, SubscribeError, Subscriber,
    Subscription,
    store::{Entry, Outcome, Page, Reason, Start},
};

use super::recording_store::{Moment, Read, RecordingStore};
use crate::resuming_after_nonsense;

pub(super) struct Reader {
    /// Index of its hub.
    pub(super) hub: usize,
    store: RecordingStore,
    from: ClientStart,
    subscriber: Option<Subscriber>,
    channels: Vec<ChannelState>,
    /// What had been recorded when it subscribed last.
    since: Moment,
    /// Its hub is draining.
    drains: bool,
}

/// Where it starts when it subscribes for the first time.
#[derive(Clone, Copy, Debug)]
pub(super) enum ClientStart {
    At(Start),
    Unknown,
}

/// A channel, as the client knows it.
#[derive(Debug)]
struct ChannelState {
    channel: Channel,
    /// How it started; `None` once something was delivered.
    from: Option<ClientStart>,
    /// The position up to which it processed events. `None`: a reset has to come first.
    at: Option<Cursor>,
    /// What is left of a page by time, whose entries need not be neighbours.
    by_time: VecDeque<Entry>,
    closed: bool,
}

impl Reader {
    pub(super) fn new(
        hub: usize,
        store: RecordingStore,
        channels: impl IntoIterator<Item = Channel>,
        from: ClientStart,
    ) -> Self {
        let channel =
            |channel| ChannelState { channel, from: Some(from), at: None, by_time: VecDeque::new(), closed: false };
        let channels = channels.into_iter().map(channel).collect();
        Self { hub, store, from, subscriber: None, channels, since: Moment::default(), drains: false }
    }

    pub(super) fn drop_connection(&mut self) {
        (self.subscriber, self.drains) = (None, false);
    }

    /// The next delivery of its hub has to be the drain.
    pub(super) fn drain(&mut self) {
        self.drains = self.subscriber.is_some();
    }

    /// Disconnects if any channel was closed, so that it subscribes again; returns whether one was.
    pub(super) fn disconnect_if_any_is_closed(&mut self) -> bool {
        let any = self.channels.iter().any(|channel| channel.closed);
        if any {
            self.drop_connection();
        }
        any
    }

    pub(super) fn channels(&self) -> &impl std::fmt::Debug {
        &self.channels
    }

    pub(super) fn is_at(&self, of: &Channel, head: Cursor) -> bool {
        self.channels.iter().all(|channel| channel.channel != *of || channel.at == Some(head))
    }

    /// Takes one delivery, if one comes in time.
    pub(super) async fn read(&mut self, hub: &Hub, patience: Duration) {
        if self.subscriber.is_none() {
            self.subscribe(hub, patience).await;
        }
        let Some(subscriber) = &mut self.subscriber else { return };
        let patience = if self.drains { Duration::ZERO } else { patience };
        let delivery = match tokio::time::timeout(patience, subscriber.next()).await {
            Ok(delivery) => delivery,
            Err(_) => return assert!(!self.drains, "a draining hub lets no reader wait"),
        };
        let is_over = self.take(delivery);
        self.check_positions();
        if is_over {
            self.drop_connection();
        }
    }

    async fn subscribe(&mut self, hub: &Hub, patience: Duration) {
        self.since = self.store.now();
        let channels = Channels::new(self.channels.iter().map(|channel| channel.channel.clone())).unwrap();
        // Until something was delivered it has no position to resume from.
        let is_new = self.channels.iter().all(|channel| channel.at.is_none());
        let known = self.channels.iter().filter_map(|channel| Some((&channel.channel, channel.at?)));
        let token = match &*self.channels {
            [ChannelState { at: Some(cursor), .. }] => Cursors::from(*cursor),
            _ => Cursors::of(known),
        };
        let subscription = match self.from {
            _ if !is_new => Subscription::new(channels).resume(&token),
            ClientStart::At(start) => Subscription::new(channels).start(start),
            ClientStart::Unknown => resuming_after_nonsense(channels),
        };
        match tokio::time::timeout(patience, hub.subscribe(subscription)).await {
            Ok(Ok(subscriber)) => self.subscriber = Some(subscriber),
            Ok(Err(error)) => return check_temporary(&error),
            Err(_) => return,
        }
        let subscriber = self.subscriber.as_ref().unwrap();
        for channel in &mut self.channels {
            channel.closed = false;
            channel.by_time.clear();
            let position = subscriber.cursors().position(&channel.channel);
            if is_new {
                channel.from = Some(self.from);
                channel.check_start(self.from, position, &self.store, self.since);
                channel.at = position;
            } else {
                channel.from = channel.at.is_none().then_some(ClientStart::Unknown);
                assert_eq!(position, channel.at, "it resumes where the client is");
            }
        }
    }

    /// Returns whether it was the last.
    fn take(&mut self, delivery: Option<Result<Delivery, SubscribeError>>) -> bool {
        match delivery {
            Some(Ok(Delivery::Drained { .. })) => {
                assert!(self.drains, "drained by a hub that is not draining");
                return true;
            }
            other if self.drains => panic!("{other:?} from a draining hub"),
            Some(Ok(Delivery::Events(events))) => {
                let channel = events.entries().next().unwrap().channel.clone();
                let (store, since) = (self.store.clone(), self.since);
                self.channel(&channel).take_events(&events, &store, since);
            }
            Some(Ok(Delivery::Reset(reset))) => {
                let (store, since) = (self.store.clone(), self.since);
                self.channel(&reset.channel).take_reset(&reset, &store, since);
            }
            Some(Ok(Delivery::Closed(closed))) => {
                let store = self.store.clone();
                self.channel(&closed.channel).take_close(&closed, &store);
            }
            Some(Ok(other)) => panic!("{other:?}"),
            Some(Err(error)) => {
                check_temporary(&error);
                return true;
            }
            None => {
                assert!(self.channels.iter().all(|channel| channel.closed), "the stream ended before all channels did");
                return true;
            }
        }
        false
    }

    fn channel(&mut self, of: &Channel) -> &mut ChannelState {
        self.channels.iter_mut().find(|channel| channel.channel == *of).expect("a channel that it asked for")
    }

    /// The subscriber's cursors are the client's positions.
    fn check_positions(&self) {
        let cursors = self.subscriber.as_ref().unwrap().cursors();
        for channel in &self.channels {
            // A page by time may end after its last entry.
            if !matches!(channel.from, Some(ClientStart::At(Start::Time(_)))) {
                assert_eq!(cursors.position(&channel.channel), channel.at, "the position in {:?}", channel.channel);
            }
        }
    }
}

impl ChannelState {
    /// Fails unless the store answered that the channel starts here; `None` when a reset comes first.
    fn check_start(&self, from: ClientStart, position: Option<Cursor>, store: &RecordingStore, since: Moment) {
        let (ClientStart::At(start), Some(position)) = (from, position) else { return };
        let reads = store.reads_since(since, &self.channel);
        let starts_here = match start {
            Start::After(cursor) => position == cursor,
            Start::Latest => store.was_head_since(since, &self.channel, position),
            // Dropped entries would have been announced.
            Start::Beginning if position.tag != 0 => false,
            _ => reads.iter().any(|read| read.start == read_for(start) && read.page.from == position),
        };
        assert!(starts_here, "{:?} does not start at {position:?} for {start:?}", self.channel);
    }

    fn take_events(&mut self, events: &Batch, store: &RecordingStore, since: Moment) {
        if self.by_time.is_empty() {
            let first = events.entries().next().unwrap();
            let pages = self.pages_by_time(store, since);
            match pages.iter().find(|page| page.entries.first() == Some(first)) {
                Some(page) => self.by_time = page.entries.clone().into(),
                None if ends(&pages).contains(&first.prev()) => self.at = Some(first.prev()),
                None => {}
            }
        }
        for entry in events.entries() {
            let is_next_by_time = self.by_time.front() == Some(entry);
            let follows = Some(entry.prev()) == self.at;
            assert!(follows || is_next_by_time, "skipped or repeated: {entry:?} after {self:?}");
            self.by_time.pop_front();
            assert_eq!(store.entry(&self.channel, entry.cursor).as_ref(), Some(entry), "what was appended");
            self.at = Some(entry.cursor);
        }
        assert!(events.next().seq >= self.at.unwrap().seq);
        self.at = Some(events.next());
        if self.by_time.is_empty() {
            self.from = None;
        }
    }

    /// The store's pages for its start by time, the newest first; none if it has another start.
    fn pages_by_time(&self, store: &RecordingStore, since: Moment) -> Vec<Page> {
        let Some(ClientStart::At(start @ Start::Time(_))) = self.from else { return vec![] };
        let reads = store.reads_since(since, &self.channel);
        reads.into_iter().filter(|read| read.start == start).map(|read| read.page).collect()
    }

    fn take_reset(&mut self, reset: &Reset, store: &RecordingStore, since: Moment) {
        // Another reader that shares the read may have begun it earlier.
        let reads = store.reads_since(Moment::default(), &reset.channel);
        let mut here: Vec<_> = self.at.into_iter().collect();
        here.extend(ends(&self.pages_by_time(store, since)));
        let heads: Vec<_> = reads.iter().map(|read| read.page.head.cursor).collect();
        // With several channels by time, entries after the head at the start are delivered whatever their time.
        let continues_after_the_start = |read: &Read| {
            matches!(read.start, Start::Time(_))
                && read.page.from.seq > reset.earliest.seq
                && heads.contains(&reset.earliest)
        };
        let decides = |read: &Read| {
            (read.page.from == reset.earliest || continues_after_the_start(read))
                && read.page.head.cursor == reset.latest
        };
        let is_due = |read: &Read| match (self.from, reset.reason) {
            (Some(ClientStart::Unknown), reason) => reason == Reason::Unknown && read.start == Start::Earliest,
            (Some(ClientStart::At(Start::Beginning)), Reason::Trimmed) if read.start == Start::Earliest => {
                read.page.from.tag != 0
            }
            (from, reason) => {
                let own = matches!(from, Some(ClientStart::At(start)) if read.start == start);
                let from_here = here.iter().any(|here| read.start == Start::After(*here));
                (own || from_here) && read.page.outcome == Outcome::Reset(reason)
            }
        };
        let reported = reads.iter().find(|read| decides(read) && is_due(read));
        let reported = reported.unwrap_or_else(|| panic!("{reset:?}, which the store did not report: {self:?}"));
        // After a reset a page by time is still one by time.
        let is_by_time = matches!(reported.start, Start::Time(_));
        self.by_time = if is_by_time { reported.page.entries.clone().into() } else { VecDeque::new() };
        self.at = Some(reset.earliest);
        self.from = self.from.filter(|_| is_by_time);
    }

    fn take_close(&mut self, closed: &Closed, store: &RecordingStore) {
        assert_eq!(self.at, Some(closed.cursor), "a close before the channel's end");
        assert!(store.was_closed_at(&self.channel, closed.cursor), "a close that never happened: {closed:?}");
        self.closed = true;
    }
}

/// Where a page by time may lead that has no entry for the reader: to its end, or to the head of that time.
fn ends(pages: &[Page]) -> Vec<Cursor> {
    pages.iter().flat_map(|page| [page.next, page.head.cursor]).collect()
}

/// The start with which the store is read.
fn read_for(start: Start) -> Start {
    if start == Start::Beginning { Start::Earliest } else { start }
}

/// Fails unless the error can come from a store that fails for a while.
fn check_temporary(error: &SubscribeError) {
    let is_temporary = matches!(
        error,
        SubscribeError::Store(StoreError::Unavailable(_))
            | SubscribeError::Overloaded { .. }
            | SubscribeError::Draining { .. }
    );
    assert!(is_temporary, "{error:?}");
}
