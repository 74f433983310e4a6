//! One channel of a subscription: a position and a seat. Pulls; owns no queue and no task.

use std::{sync::Arc, task::Context};

use super::{
    delivery::{Closed, Events, Reset},
    fetch::{Fetch, Fetched},
    frame::Batch,
    shared::Seat,
    subscription::ChannelStart,
    topic::Seen,
};
use crate::{
    channel::Channel,
    cursor::Cursor,
    store::{Outcome, Reason, Start, StoreError},
};

#[derive(Debug)]
pub(super) struct Leg {
    seat: Seat,
    /// Where a client goes on that has received what was handed out so far. A reset moves it only when it is handed out,
    /// or a client that drops in between would resume behind it and never hear of it.
    position: Option<Cursor>,
    next: Next,
}

#[derive(Debug)]
enum Next {
    /// Only the store can tell where this starts.
    Begin(ChannelStart),
    /// Goes on after `cursor`. `verified` is the topic's version at which the store confirmed that nothing follows.
    At { cursor: Cursor, verified: Option<u64> },
    /// A read is under way; `place` is this leg's among those who wait for it.
    Reading { fetch: Arc<Fetch>, place: Option<usize>, reset: Option<Reason> },
    /// A page that is being handed out: the reset first, then its batches from `batch` on.
    Page { fetched: Arc<Fetched>, reset: Option<Reason>, batch: usize },
    /// The end was handed out, or the store failed.
    Ended,
}

/// What a leg has to hand out.
#[derive(Debug)]
pub(super) enum Ready {
    Batch(Arc<Batch>),
    Reset(Reset),
    Closed(Closed),
    Failed(StoreError),
    /// Nothing; woken when something comes.
    Parked,
    /// Nothing yet: a read of the store is under way.
    Reading,
    Ended,
}

impl Leg {
    pub(super) fn new(seat: Seat, start: ChannelStart) -> Self {
        match start {
            (Start::After(cursor), None) => {
                Self { seat, position: Some(cursor), next: Next::At { cursor, verified: None } }
            }
            start => Self { seat, position: None, next: Next::Begin(start) },
        }
    }

    pub(super) fn channel(&self) -> &Channel {
        self.seat.topic.channel()
    }

    pub(super) fn position(&self) -> Option<Cursor> {
        self.position
    }

    pub(super) fn is_ended(&self) -> bool {
        matches!(self.next, Next::Ended)
    }

    /// Whether the channel is closed and nothing of it is left to hand out.
    pub(super) fn is_at_end(&self) -> bool {
        match self.next {
            Next::At { cursor, .. } => matches!(self.seat.topic.peek(cursor), Seen::CaughtUp { closed: true }),
            ref next => matches!(next, Next::Ended),
        }
    }

    /// Whether nothing can have come since this was last looked at, and `cx` will be woken when something does.
    pub(super) fn is_parked(&self, cx: &Context<'_>) -> bool {
        matches!(self.next, Next::At { .. }) && self.seat.topic.is_parked(&self.seat.place, cx)
    }

    /// What there is to hand out. Looking takes nothing: it is there until it is taken.
    pub(super) fn look(&mut self, cx: &Context<'_>) -> Ready {
        if self.is_parked(cx) {
            return Ready::Parked;
        }
        loop {
            match self.next {
                Next::Begin((start, reset)) => self.next = self.read(start, reset),
                Next::At { cursor, verified } => match self.seat.topic.poll(&mut self.seat.place, cursor, cx) {
                    Seen::Batch(batch) => return Ready::Batch(batch),
                    Seen::CaughtUp { closed: false } => return Ready::Parked,
                    Seen::CaughtUp { closed: true } => return Ready::Closed(self.closed(cursor)),
                    Seen::Elsewhere { version } if verified == Some(version) => {
                        self.seat.topic.doubt(cursor);
                        return Ready::Parked;
                    }
                    Seen::Elsewhere { .. } => self.next = self.read(Start::After(cursor), None),
                },
                Next::Reading { ref fetch, ref mut place, reset } => {
                    // Registered here too, so that whatever wakes all readers wakes this one.
                    self.seat.topic.register(&mut self.seat.place, cx);
                    let version = fetch.version;
                    match fetch.poll(place, cx) {
                        None => return Ready::Reading,
                        Some(Err(error)) => {
                            self.next = Next::Ended;
                            return Ready::Failed(StoreError::shared(error));
                        }
                        Some(Ok(fetched)) => self.next = self.turn_to(fetched, reset, version),
                    }
                }
                Next::Page { ref fetched, reset: Some(reason), .. } => {
                    return Ready::Reset(self.reset(fetched, reason));
                }
                Next::Page { ref fetched, reset: None, batch } => match fetched.batches.get(batch) {
                    Some(batch) => return Ready::Batch(batch.clone()),
                    None => self.next = Next::At { cursor: fetched.next, verified: None },
                },
                Next::Ended => return Ready::Ended,
            }
        }
    }

    /// Takes at most `most` events of the batch that was seen.
    pub(super) fn take(&mut self, batch: Arc<Batch>, most: usize) -> Events {
        let whole = most >= batch.frames().len();
        match whole {
            true => self.seat.place.took_all(),
            false => self.seat.place.took_part(),
        }
        let events = Events::first(batch, most);
        self.position = Some(events.next());
        match &mut self.next {
            Next::Page { batch, .. } if whole => *batch += 1,
            next => *next = Next::At { cursor: events.next(), verified: None },
        }
        events
    }

    /// Takes the reset that was seen.
    pub(super) fn take_reset(&mut self) {
        if let Next::Page { fetched, reset, .. } = &mut self.next {
            self.position = Some(fetched.from);
            *reset = None;
        }
    }

    /// Takes the close that was seen.
    pub(super) fn take_close(&mut self) {
        self.next = Next::Ended;
    }

    fn read(&self, start: Start, reset: Option<Reason>) -> Next {
        Next::Reading { fetch: self.seat.shared.fetch(&self.seat.topic, start), place: None, reset }
    }

    fn turn_to(&mut self, fetched: Arc<Fetched>, reset: Option<Reason>, version: u64) -> Next {
        let reset = match (reset, fetched.outcome) {
            (None, Outcome::Reset(reason)) => Some(reason),
            (reset, _) => reset,
        };
        if reset.is_none() {
            self.position.get_or_insert(fetched.from);
            if fetched.batches.is_empty() {
                self.position = Some(fetched.next);
                return Next::At { cursor: fetched.next, verified: Some(version) };
            }
        }
        Next::Page { fetched, reset, batch: 0 }
    }

    fn reset(&self, fetched: &Fetched, reason: Reason) -> Reset {
        let channel = self.channel().clone();
        Reset { channel, reason, earliest: fetched.from, latest: fetched.head.cursor }
    }

    fn closed(&self, cursor: Cursor) -> Closed {
        Closed { channel: self.channel().clone(), cursor }
    }
}
