//! A client: where it is, what it expects next, and whether what it is handed is that.

use std::{collections::VecDeque, time::Duration};

use tower_events::{
    Channel, Channels, Closed, Cursor, Cursors, Delivery, Events, Hub, Reset, StoreError, SubscribeError, Subscriber,
    Subscription,
    store::{Entry, Outcome, Page, Reason, Start},
};

use super::truth::{Moment, Read, Truth};

pub(super) struct Reader {
    /// Which hub it asks.
    pub(super) hub: usize,
    truth: Truth,
    from: From,
    subscriber: Option<Subscriber>,
    legs: Vec<Leg>,
    /// What had been said when it subscribed last.
    since: Moment,
    /// Its hub drains.
    drains: bool,
}

/// Where it starts when it first comes.
#[derive(Clone, Copy, Debug)]
pub(super) enum From {
    Start(Start),
    Unknown,
}

/// A channel, as the client knows it.
#[derive(Debug)]
struct Leg {
    channel: Channel,
    /// How it began: only until something was handed out.
    from: Option<From>,
    /// The position that it has processed. `None`: a reset has to come first.
    at: Option<Cursor>,
    /// What is left of the page above a time, in which entries need not be neighbours.
    by_time: VecDeque<Entry>,
    closed: bool,
}

impl Reader {
    pub(super) fn new(hub: usize, truth: Truth, channels: impl IntoIterator<Item = Channel>, from: From) -> Self {
        let leg = |channel| Leg { channel, from: Some(from), at: None, by_time: VecDeque::new(), closed: false };
        let legs = channels.into_iter().map(leg).collect();
        Self { hub, truth, from, subscriber: None, legs, since: Moment::default(), drains: false }
    }

    /// The connection is gone.
    pub(super) fn drop_connection(&mut self) {
        (self.subscriber, self.drains) = (None, false);
    }

    /// What its hub hands out next is the end.
    pub(super) fn drain(&mut self) {
        self.drains = self.subscriber.is_some();
    }

    /// Has to come back for what was closed to it; whether anything was.
    pub(super) fn leaves_what_is_closed(&mut self) -> bool {
        let any = self.legs.iter().any(|leg| leg.closed);
        if any {
            self.drop_connection();
        }
        any
    }

    pub(super) fn legs(&self) -> &impl std::fmt::Debug {
        &self.legs
    }

    pub(super) fn is_at(&self, of: &Channel, head: Cursor) -> bool {
        self.legs.iter().all(|leg| leg.channel != *of || leg.at == Some(head))
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
            Err(_) => return assert!(!self.drains, "a hub that drains keeps nobody waiting"),
        };
        let is_over = self.take(delivery);
        self.says_where_it_is();
        if is_over {
            self.drop_connection();
        }
    }

    async fn subscribe(&mut self, hub: &Hub, patience: Duration) {
        self.since = self.truth.now();
        let channels = Channels::new(self.legs.iter().map(|leg| leg.channel.clone())).unwrap();
        // Until something was handed out it has nothing to go on from.
        let is_new = self.legs.iter().all(|leg| leg.at.is_none());
        let known = self.legs.iter().filter_map(|leg| Some((&leg.channel, leg.at?)));
        let token = match &*self.legs {
            [Leg { at: Some(cursor), .. }] => Cursors::from(*cursor),
            _ => Cursors::of(known),
        };
        let subscription = Subscription::new(channels);
        let subscription = match self.from {
            _ if !is_new => subscription.resume(&token),
            From::Start(start) => subscription.start(start),
            From::Unknown => subscription.resume_unknown(),
        };
        match tokio::time::timeout(patience, hub.subscribe(subscription)).await {
            Ok(Ok(subscriber)) => self.subscriber = Some(subscriber),
            Ok(Err(error)) => return passes(&error),
            Err(_) => return,
        }
        let subscriber = self.subscriber.as_ref().unwrap();
        for leg in &mut self.legs {
            leg.closed = false;
            leg.by_time.clear();
            let position = subscriber.cursors().position(&leg.channel);
            if is_new {
                leg.from = Some(self.from);
                leg.begins_at(self.from, position, &self.truth, self.since);
                leg.at = position;
            } else {
                leg.from = leg.at.is_none().then_some(From::Unknown);
                assert_eq!(position, leg.at, "it goes on where the client is");
            }
        }
    }

    /// Whether it was the last.
    fn take(&mut self, delivery: Option<Result<Delivery, SubscribeError>>) -> bool {
        match delivery {
            Some(Ok(Delivery::Drained { .. })) => {
                assert!(self.drains, "drained by a hub that does not drain");
                return true;
            }
            other if self.drains => panic!("{other:?} of a hub that drains"),
            Some(Ok(Delivery::Events(events))) => {
                let channel = events.entries().next().unwrap().channel.clone();
                let (truth, since) = (self.truth.clone(), self.since);
                self.leg(&channel).take_events(&events, &truth, since);
            }
            Some(Ok(Delivery::Reset(reset))) => {
                let (truth, since) = (self.truth.clone(), self.since);
                self.leg(&reset.channel).take_reset(&reset, &truth, since);
            }
            Some(Ok(Delivery::Closed(closed))) => {
                let truth = self.truth.clone();
                self.leg(&closed.channel).take_close(&closed, &truth);
            }
            Some(Ok(other)) => panic!("{other:?}"),
            Some(Err(error)) => {
                passes(&error);
                return true;
            }
            None => {
                assert!(self.legs.iter().all(|leg| leg.closed), "an end, but not of all channels");
                return true;
            }
        }
        false
    }

    fn leg(&mut self, of: &Channel) -> &mut Leg {
        self.legs.iter_mut().find(|leg| leg.channel == *of).expect("a channel that it asked for")
    }

    /// What the subscriber would have a client resume from is what the client has.
    fn says_where_it_is(&self) {
        let cursors = self.subscriber.as_ref().unwrap().cursors();
        for leg in &self.legs {
            // What is above a time may end behind the last entry of its page.
            if !matches!(leg.from, Some(From::Start(Start::Time(_)))) {
                assert_eq!(cursors.position(&leg.channel), leg.at, "where it is in {:?}", leg.channel);
            }
        }
    }
}

impl Leg {
    /// The store said that it begins here; `None` when a reset comes first.
    fn begins_at(&self, from: From, position: Option<Cursor>, truth: &Truth, since: Moment) {
        let (From::Start(start), Some(position)) = (from, position) else { return };
        let reads = truth.reads_since(since, &self.channel);
        let begins = match start {
            Start::After(cursor) => position == cursor,
            Start::Latest => truth.was_head_since(since, &self.channel, position),
            // What was dropped would have been told.
            Start::Beginning if position.tag != 0 => false,
            _ => reads.iter().any(|read| read.start == read_for(start) && read.page.from == position),
        };
        assert!(begins, "{:?} does not begin at {position:?} for {start:?}", self.channel);
    }

    fn take_events(&mut self, events: &Events, truth: &Truth, since: Moment) {
        if self.by_time.is_empty() {
            let first = events.entries().next().unwrap();
            let pages = self.pages_by_time(truth, since);
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
            assert_eq!(truth.entry(&self.channel, entry.cursor).as_ref(), Some(entry), "what was appended");
            self.at = Some(entry.cursor);
        }
        assert!(events.next().seq >= self.at.unwrap().seq);
        self.at = Some(events.next());
        if self.by_time.is_empty() {
            self.from = None;
        }
    }

    /// What the store gave for the time at which it starts, the newest first; nothing when it does not.
    fn pages_by_time(&self, truth: &Truth, since: Moment) -> Vec<Page> {
        let Some(From::Start(start @ Start::Time(_))) = self.from else { return vec![] };
        let reads = truth.reads_since(since, &self.channel);
        reads.into_iter().filter(|read| read.start == start).map(|read| read.page).collect()
    }

    fn take_reset(&mut self, reset: &Reset, truth: &Truth, since: Moment) {
        // Whoever waits for the same may have asked before.
        let reads = truth.reads_since(Moment::default(), &reset.channel);
        let mut here: Vec<_> = self.at.into_iter().collect();
        here.extend(ends(&self.pages_by_time(truth, since)));
        let heads: Vec<_> = reads.iter().map(|read| read.page.head.cursor).collect();
        // Of several channels by time, what came after the head at the start is for the reader whatever its time.
        let goes_on_behind_the_start = |read: &Read| {
            matches!(read.start, Start::Time(_))
                && read.page.from.seq > reset.earliest.seq
                && heads.contains(&reset.earliest)
        };
        let decides = |read: &Read| {
            (read.page.from == reset.earliest || goes_on_behind_the_start(read))
                && read.page.head.cursor == reset.latest
        };
        let due = |read: &Read| match (self.from, reset.reason) {
            (Some(From::Unknown), reason) => reason == Reason::Unknown && read.start == Start::Earliest,
            (Some(From::Start(Start::Beginning)), Reason::Trimmed) if read.start == Start::Earliest => {
                read.page.from.tag != 0
            }
            (from, reason) => {
                let own = matches!(from, Some(From::Start(start)) if read.start == start);
                let from_here = here.iter().any(|here| read.start == Start::After(*here));
                (own || from_here) && read.page.outcome == Outcome::Reset(reason)
            }
        };
        let said = reads.iter().find(|read| decides(read) && due(read));
        let said = said.unwrap_or_else(|| panic!("{reset:?}, which the store did not say: {self:?}"));
        // A page above a time is one after a reset, too.
        let is_by_time = matches!(said.start, Start::Time(_));
        self.by_time = if is_by_time { said.page.entries.clone().into() } else { VecDeque::new() };
        self.at = Some(reset.earliest);
        self.from = self.from.filter(|_| is_by_time);
    }

    fn take_close(&mut self, closed: &Closed, truth: &Truth) {
        assert_eq!(self.at, Some(closed.cursor), "a close before its channel's end");
        assert!(truth.was_closed_at(&self.channel, closed.cursor), "a close that never was: {closed:?}");
        self.closed = true;
    }
}

/// Where a page by time may lead when nothing of it is for the reader: to its end, or to the head that there was.
fn ends(pages: &[Page]) -> Vec<Cursor> {
    pages.iter().flat_map(|page| [page.next, page.head.cursor]).collect()
}

/// What the store is asked for a start.
fn read_for(start: Start) -> Start {
    if start == Start::Beginning { Start::Earliest } else { start }
}

/// Fails unless a reader may meet this where the store fails for a while.
fn passes(error: &SubscribeError) {
    let may_be = matches!(
        error,
        SubscribeError::Store(StoreError::Unavailable(_))
            | SubscribeError::Overloaded { .. }
            | SubscribeError::Draining { .. }
    );
    assert!(may_be, "{error:?}");
}
