//! One channel of a subscription: a position and a seat. Pulls; owns no queue and no task.

use std::{sync::Arc, task::Context};

use super::{
    delivery::{Closed, Events, Failed, Reset},
    error::ReadError,
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
    latch: Latch,
    next: Next,
}

/// The head that there was when the start or the last reset was decided: history ends there, live events follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Latch {
    Undecided,
    Head(Cursor),
    Passed,
}

impl Latch {
    fn is_passed_at(self, position: Cursor) -> bool {
        match self {
            Self::Undecided => false,
            Self::Head(head) => position.epoch == head.epoch && position.seq >= head.seq,
            Self::Passed => true,
        }
    }
}

/// Who decides whether the page that is being read begins with a reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// The store, by the page's outcome.
    Page,
    /// It is certain already.
    Reset(Reason),
    /// The page's own beginning: a predecessor means that it was dropped.
    Beginning,
}

impl Verdict {
    fn on(self, fetched: &Fetched) -> Option<Reason> {
        match (self, fetched.outcome) {
            (Self::Reset(reason), _) | (Self::Page, Outcome::Reset(reason)) => Some(reason),
            (Self::Beginning, _) if fetched.from.tag != 0 => Some(Reason::Trimmed),
            (Self::Page | Self::Beginning, _) => None,
        }
    }
}

#[derive(Debug)]
enum Next {
    /// Only the store can tell where this starts.
    Begin(ChannelStart),
    /// Goes on after `cursor`. `verified` is the topic's version at which the store confirmed that nothing follows.
    At { cursor: Cursor, verified: Option<u64> },
    /// A read is under way; `place` is this leg's among those who wait for it.
    Reading { fetch: Arc<Fetch>, place: Option<usize>, verdict: Verdict },
    /// A page that is being handed out: the reset first, then its batches from `batch` on.
    Page { fetched: Arc<Fetched>, reset: Option<Reason>, batch: usize },
    /// The read failed, which is to be handed out.
    Failed(ReadError),
    /// The failure was handed out.
    Broken,
    /// The close was handed out.
    Ended,
}

/// What a leg has to hand out.
#[derive(Debug)]
pub(super) enum Ready {
    Batch(Arc<Batch>),
    Reset(Reset),
    Closed(Closed),
    Failed(ReadError),
    /// Nothing; woken when something comes.
    Parked,
    /// Nothing yet: a read of the store is under way.
    Reading,
    /// Nothing any more: its failure was handed out.
    Broken,
    /// Nothing any more: its close was handed out.
    Ended,
}

impl Leg {
    pub(super) fn new(seat: Seat, start: ChannelStart) -> Self {
        match start {
            (Start::After(cursor), None) => {
                let next = Next::At { cursor, verified: None };
                Self { seat, position: Some(cursor), latch: Latch::Undecided, next }
            }
            start => Self { seat, position: None, latch: Latch::Undecided, next: Next::Begin(start) },
        }
    }

    pub(super) fn channel(&self) -> &Channel {
        self.seat.topic.channel()
    }

    pub(super) fn position(&self) -> Option<Cursor> {
        self.position
    }

    /// Whether its close was handed out.
    pub(super) fn is_ended(&self) -> bool {
        matches!(self.next, Next::Ended)
    }

    /// Whether the store failed it, told or not yet.
    pub(super) fn has_failed(&self) -> bool {
        matches!(self.next, Next::Failed(_) | Next::Broken)
    }

    /// Whether all that there was when its start or its last reset was decided is handed out. A failed one keeps no other
    /// from being live.
    pub(super) fn is_live(&self) -> bool {
        match self.next {
            Next::Failed(_) | Next::Broken | Next::Ended => true,
            Next::Page { reset: Some(_), .. } => false,
            _ => self.latch == Latch::Passed,
        }
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
                Next::Begin(start) => self.next = self.begin(start),
                Next::At { cursor, verified } => match self.seat.topic.poll(&mut self.seat.place, cursor, cx) {
                    Seen::Batch(batch) => {
                        self.latch_ring();
                        return Ready::Batch(batch);
                    }
                    Seen::CaughtUp { closed } => {
                        self.pass_latch(cursor);
                        return if closed { Ready::Closed(self.closed(cursor)) } else { Ready::Parked };
                    }
                    Seen::Elsewhere { version } if verified == Some(version) => {
                        self.seat.topic.doubt(cursor);
                        return Ready::Parked;
                    }
                    Seen::Elsewhere { .. } => self.next = self.read(Start::After(cursor), Verdict::Page),
                },
                Next::Reading { ref fetch, ref mut place, verdict } => {
                    // Registered here too, so that whatever wakes all readers wakes this one.
                    self.seat.topic.register(&mut self.seat.place, cx);
                    let version = fetch.version;
                    match fetch.poll(place, cx) {
                        None => return Ready::Reading,
                        Some(Err(error)) => self.next = Next::Failed(error),
                        Some(Ok(fetched)) => self.next = self.turn_to(fetched, verdict, version),
                    }
                }
                Next::Page { ref fetched, reset: Some(reason), .. } => {
                    return Ready::Reset(self.reset(fetched, reason));
                }
                Next::Page { ref fetched, reset: None, batch } => match fetched.batches.get(batch) {
                    Some(batch) => return Ready::Batch(batch.clone()),
                    None => self.next = Next::At { cursor: fetched.next, verified: None },
                },
                Next::Failed(ref error) => return Ready::Failed(error.clone()),
                Next::Broken => return Ready::Broken,
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
        self.pass_latch(events.next());
        match &mut self.next {
            Next::Page { batch, .. } if whole => *batch += 1,
            next => *next = Next::At { cursor: events.next(), verified: None },
        }
        events
    }

    /// Takes the reset that was seen.
    pub(super) fn take_reset(&mut self) {
        let Next::Page { fetched, reset, .. } = &mut self.next else { return };
        let (from, head) = (fetched.from, fetched.head.cursor);
        *reset = None;
        self.position = Some(from);
        self.latch = Latch::Head(head);
        self.pass_latch(from);
    }

    /// Takes the failure that was seen.
    pub(super) fn take_failure(&mut self) {
        self.next = Next::Broken;
    }

    /// Takes the close that was seen.
    pub(super) fn take_close(&mut self) {
        self.next = Next::Ended;
    }

    fn begin(&self, (start, reset): ChannelStart) -> Next {
        match (start, reset) {
            (start, Some(reason)) => self.read(start, Verdict::Reset(reason)),
            (Start::Beginning, None) => self.read(Start::Earliest, Verdict::Beginning),
            (start, None) => self.read(start, Verdict::Page),
        }
    }

    fn read(&self, start: Start, verdict: Verdict) -> Next {
        Next::Reading { fetch: self.seat.shared.fetch(&self.seat.topic, start), place: None, verdict }
    }

    fn turn_to(&mut self, fetched: Arc<Fetched>, verdict: Verdict, version: u64) -> Next {
        let reset = verdict.on(&fetched);
        if reset.is_none() {
            self.position.get_or_insert(fetched.from);
            if self.latch == Latch::Undecided {
                self.latch = Latch::Head(fetched.head.cursor);
            }
            if fetched.batches.is_empty() {
                self.position = Some(fetched.next);
                self.pass_latch(fetched.next);
                return Next::At { cursor: fetched.next, verified: Some(version) };
            }
        }
        Next::Page { fetched, reset, batch: 0 }
    }

    /// The ring decided the start.
    fn latch_ring(&mut self) {
        if self.latch == Latch::Undecided {
            self.latch = self.seat.topic.head().map_or(Latch::Undecided, |head| Latch::Head(head.cursor));
        }
    }

    fn pass_latch(&mut self, position: Cursor) {
        // At the ring's head: what decided the start is what it passed.
        if self.latch == Latch::Undecided {
            self.latch_ring();
        }
        if self.latch.is_passed_at(position) {
            self.latch = Latch::Passed;
        }
    }

    fn reset(&self, fetched: &Fetched, reason: Reason) -> Reset {
        let channel = self.channel().clone();
        Reset { channel, reason, earliest: fetched.from, latest: fetched.head.cursor }
    }

    pub(super) fn failed(&self, error: Arc<StoreError>) -> Failed {
        Failed { channel: self.channel().clone(), error }
    }

    fn closed(&self, cursor: Cursor) -> Closed {
        Closed { channel: self.channel().clone(), cursor }
    }
}
