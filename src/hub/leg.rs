//! One channel of a subscription: a position and a seat. Pulls; owns no queue and no task.

use std::{sync::Arc, task::Context};

use super::{
    delivery::{Closed, Events, Failed, Reset},
    error::ReadError,
    fetch::{Fetch, Fetched, Sharing, Within},
    frame::Batch,
    heads::Ask,
    reads::Wanted,
    shared::Seat,
    subscription::ChannelStart,
    topic::Seen,
};
use crate::{
    channel::Channel,
    cursor::Cursor,
    store::{Limit, Outcome, Reason, Start, StoreError},
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
#[derive(Debug, PartialEq, Eq)]
enum Latch {
    Undecided,
    /// Boxed: few are behind it.
    Head(Box<Cursor>),
    Passed,
}

impl Latch {
    fn is_passed_at(&self, position: Cursor) -> bool {
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
    /// What is read for a start, and who decides on it.
    fn of((start, reset): ChannelStart) -> (Start, Self) {
        match (start, reset) {
            (start, Some(reason)) => (start, Self::Reset(reason)),
            (Start::Beginning, None) => (Start::Earliest, Self::Beginning),
            (start, None) => (start, Self::Page),
        }
    }

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
    /// Goes on after `cursor`. `verified` is the topic's version at which the store confirmed that nothing follows.
    At { cursor: Cursor, verified: Option<u64> },
    /// Needs the store. Boxed: most readers keep up, and there are many of them.
    Store(Box<Step>),
    /// The read failed, which is to be handed out.
    Failed(ReadError),
    /// The failure was handed out: the data cannot be read.
    Broken(Arc<StoreError>),
    /// The close was handed out.
    Ended,
}

/// What is asked of the store, or was given by it.
#[derive(Debug)]
enum Step {
    /// One of several channels: its position is decided before anything of any is read.
    Begin(ChannelStart),
    /// Asks for the head, at which it starts, or may be at `cursor` already. `version` is the topic's before it asked.
    Asking { ask: Arc<Ask>, slot: Option<usize>, version: u64, cursor: Option<Cursor> },
    /// Has to read a page, when it may.
    Behind { start: Start, verdict: Verdict, sharing: Sharing },
    /// A read is under way.
    Reading { fetch: Arc<Fetch>, slot: Option<usize>, wanted: Wanted, verdict: Verdict },
    /// A page that is being handed out: the reset first, then its batches from `batch` on, of the first one only `part`.
    /// The fetch is kept so that others at positions within it share it.
    Page { _fetch: Arc<Fetch>, fetched: Arc<Fetched>, reset: Option<Reason>, batch: usize, part: Option<Arc<Batch>> },
}

/// Whether a subscriber has room for a page, of which it holds one at a time whatever the number of its channels.
#[derive(Clone, Copy, Debug)]
pub(super) enum PageRoom {
    Free(Limit),
    Taken,
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
    /// Nothing yet: a call to the store is under way.
    Reading,
    /// Nothing yet: a page has to be read, for which there is no room.
    Waiting,
    /// Nothing any more: its failure was handed out.
    Broken,
    /// Nothing any more: its close was handed out.
    Ended,
}

impl Leg {
    /// The only channel of a subscription: its first page decides its start.
    pub(super) fn only(seat: Seat, start: ChannelStart) -> Self {
        let leg = Self::one_of_several(seat, start);
        match (&leg.next, start) {
            (_, (Start::Latest, None)) | (Next::At { .. }, _) => leg,
            (_, start) => {
                let (start, verdict) = Verdict::of(start);
                let behind = Step::Behind { start, verdict, sharing: Sharing::Near };
                Self { next: Next::Store(Box::new(behind)), ..leg }
            }
        }
    }

    pub(super) fn one_of_several(seat: Seat, start: ChannelStart) -> Self {
        let (position, next) = match start {
            (Start::After(cursor), None) => (Some(cursor), Next::At { cursor, verified: None }),
            start => (None, Next::Store(Box::new(Step::Begin(start)))),
        };
        Self { seat, position, latch: Latch::Undecided, next }
    }

    pub(super) fn channel(&self) -> &Channel {
        self.seat.topic.channel()
    }

    pub(super) fn position(&self) -> Option<Cursor> {
        self.position
    }

    /// Whether it is decided how it starts.
    pub(super) fn has_started(&self) -> bool {
        self.latch != Latch::Undecided
    }

    /// Whether its close was handed out.
    pub(super) fn is_ended(&self) -> bool {
        matches!(self.next, Next::Ended)
    }

    /// Whether the store failed it, told or not yet.
    pub(super) fn has_failed(&self) -> bool {
        matches!(self.next, Next::Failed(_) | Next::Broken(_))
    }

    /// Whether all that there was when its start or its last reset was decided is handed out. A failed one keeps no other
    /// from being live.
    pub(super) fn is_live(&self) -> bool {
        match self.next {
            Next::Failed(_) | Next::Broken(_) | Next::Ended => true,
            Next::Store(ref step) if matches!(**step, Step::Page { reset: Some(_), .. }) => false,
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

    /// Whether it holds the subscriber's page, or reads it.
    pub(super) fn has_page(&self) -> bool {
        let Next::Store(step) = &self.next else { return false };
        match &**step {
            Step::Reading { wanted, .. } => wanted.limit.events > 0,
            Step::Page { fetched, .. } => !fetched.batches.is_empty(),
            _ => false,
        }
    }

    /// What there is to hand out. Looking takes nothing: it is there until it is taken.
    pub(super) fn look(&mut self, mut room: PageRoom, cx: &Context<'_>) -> Ready {
        if self.is_parked(cx) {
            return Ready::Parked;
        }
        loop {
            let ready = match &self.next {
                Next::At { cursor, verified } => self.look_in_ring(*cursor, *verified, cx),
                Next::Store(step) => match &**step {
                    Step::Begin(start) => self.begin(*start),
                    Step::Asking { .. } => self.look_at_head(cx),
                    Step::Behind { start, verdict, sharing } => {
                        self.look_for_room(*start, *verdict, *sharing, room, cx)
                    }
                    Step::Reading { .. } => self.look_at_read(cx),
                    Step::Page { .. } => self.look_in_page(&mut room),
                },
                Next::Failed(error) => Some(Ready::Failed(error.clone())),
                Next::Broken(_) => Some(Ready::Broken),
                Next::Ended => Some(Ready::Ended),
            };
            if let Some(ready) = ready {
                return ready;
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
        match self.step() {
            Some(Step::Page { batch, part, .. }) if whole => {
                *batch += 1;
                *part = None;
            }
            _ => self.next = Next::At { cursor: events.next(), verified: None },
        }
        events
    }

    /// Takes the reset that was seen.
    pub(super) fn take_reset(&mut self) {
        let Some(Step::Page { fetched, reset, .. }) = self.step() else { return };
        let (from, head) = (fetched.from, fetched.head.cursor);
        *reset = None;
        self.position = Some(from);
        self.latch = Latch::Head(Box::new(head));
        self.pass_latch(from);
    }

    /// Takes the failure that was seen: what is stored cannot be read, as `error` says.
    pub(super) fn take_failure(&mut self, error: &Arc<StoreError>) {
        self.next = Next::Broken(error.clone());
    }

    /// Why nothing will come any more, when its failure was handed out.
    pub(super) fn broken(&self) -> Option<&Arc<StoreError>> {
        if let Next::Broken(error) = &self.next { Some(error) } else { None }
    }

    /// Takes the close that was seen.
    pub(super) fn take_close(&mut self) {
        self.next = Next::Ended;
    }

    pub(super) fn failed(&self, error: Arc<StoreError>) -> Failed {
        Failed { channel: self.channel().clone(), error }
    }

    /// The ring decided the start.
    fn latch_ring(&mut self) {
        if self.latch == Latch::Undecided {
            self.latch = self.seat.topic.head().map_or(Latch::Undecided, |head| Latch::Head(Box::new(head.cursor)));
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

    fn closed(&self, cursor: Cursor) -> Closed {
        Closed { channel: self.channel().clone(), cursor }
    }
}

/// The steps of [`Leg::look`]: each gives what is ready, or moves on and gives nothing.
impl Leg {
    fn begin(&mut self, start: ChannelStart) -> Option<Ready> {
        if let (Start::Latest, None) = start {
            return self.ask(None);
        }
        let (start, verdict) = Verdict::of(start);
        self.read(Wanted { start, limit: Limit::POSITION, sharing: Sharing::Exact }, verdict)
    }

    fn look_in_ring(&mut self, cursor: Cursor, verified: Option<u64>, cx: &Context<'_>) -> Option<Ready> {
        match self.seat.topic.poll(&mut self.seat.place, cursor, cx) {
            Seen::Batch(batch) => {
                self.latch_ring();
                Some(Ready::Batch(batch))
            }
            Seen::CaughtUp { closed } => {
                self.pass_latch(cursor);
                Some(if closed { Ready::Closed(self.closed(cursor)) } else { Ready::Parked })
            }
            Seen::Elsewhere { version } | Seen::Behind { version } if verified == Some(version) => {
                self.seat.topic.doubt(cursor);
                Some(Ready::Parked)
            }
            // Most who come back are at the head, which one call tells all of them.
            Seen::Elsewhere { .. } => self.ask(Some(cursor)),
            Seen::Behind { .. } => self.fall_behind(Start::After(cursor), Sharing::Near),
        }
    }

    fn look_at_head(&mut self, cx: &Context<'_>) -> Option<Ready> {
        // Registered here too, so that whatever wakes all readers wakes this one.
        self.seat.topic.register(&mut self.seat.place, cx);
        let Next::Store(step) = &mut self.next else { return None };
        let Step::Asking { ask, slot, version, cursor } = &mut **step else { return None };
        let (version, cursor) = (*version, *cursor);
        if let Some(held) = cursor.filter(|cursor| self.seat.topic.holds(*cursor)) {
            return self.go_on(held);
        }
        let head = match ask.poll(slot, cx) {
            None => return Some(Ready::Reading),
            Some(Err(error)) => return self.fail(error),
            Some(Ok(head)) => head.cursor,
        };
        match cursor {
            Some(cursor) if cursor != head => self.fall_behind(Start::After(cursor), Sharing::Near),
            _ => {
                self.position = Some(head);
                self.latch = Latch::Passed;
                self.next = Next::At { cursor: head, verified: Some(version) };
                None
            }
        }
    }

    fn look_in_page(&mut self, room: &mut PageRoom) -> Option<Ready> {
        let Some(Step::Page { fetched, reset, batch, part, .. }) = self.step() else { return None };
        if let Some(reason) = *reset {
            let fetched = fetched.clone();
            return Some(Ready::Reset(self.reset(&fetched, reason)));
        }
        if let Some(batch) = part.as_ref().or_else(|| fetched.batches.get(*batch)) {
            return Some(Ready::Batch(batch.clone()));
        }
        // Another of several channels may be waiting for the room.
        *room = PageRoom::Taken;
        let next = fetched.next;
        self.go_on(next)
    }

    fn look_for_room(
        &mut self,
        start: Start,
        verdict: Verdict,
        sharing: Sharing,
        room: PageRoom,
        cx: &Context<'_>,
    ) -> Option<Ready> {
        match room {
            PageRoom::Free(limit) => self.read(Wanted { start, limit, sharing }, verdict),
            PageRoom::Taken => {
                self.seat.topic.register(&mut self.seat.place, cx);
                Some(Ready::Waiting)
            }
        }
    }

    fn look_at_read(&mut self, cx: &Context<'_>) -> Option<Ready> {
        // Registered here too, so that whatever wakes all readers wakes this one.
        self.seat.topic.register(&mut self.seat.place, cx);
        let Next::Store(step) = &mut self.next else { return None };
        let Step::Reading { fetch, slot, wanted, verdict } = &mut **step else { return None };
        let (start, verdict) = (wanted.start, *verdict);
        if let Start::After(cursor) = start {
            // Another reader's page may have filled the ring meanwhile.
            if self.seat.topic.holds(cursor) {
                return self.go_on(cursor);
            }
        }
        match fetch.poll(slot, cx) {
            None => Some(Ready::Reading),
            Some(Err(error)) => self.fail(error),
            Some(Ok(fetched)) => {
                let fetch = fetch.clone();
                self.turn_to(fetch, fetched, start, verdict)
            }
        }
    }

    /// Takes the page that was read, or what of another's page follows its own position.
    fn turn_to(&mut self, fetch: Arc<Fetch>, fetched: Arc<Fetched>, start: Start, verdict: Verdict) -> Option<Ready> {
        let Some(Within { batch, part }) = fetched.for_start(start) else {
            // It ended before it got here.
            return self.fall_behind(start, Sharing::Exact);
        };
        let reset = verdict.on(&fetched).filter(|_| fetched.asked.start == start);
        if fetched.is_position() {
            return self.begin_at(fetch, fetched, start, reset);
        }
        if reset.is_none() {
            self.decide(&fetched);
            if part.is_none() && batch == fetched.batches.len() {
                return self.catch_up(&fetched);
            }
        }
        self.go(Step::Page { _fetch: fetch, fetched, reset, batch, part });
        None
    }

    /// The position that one of several channels starts from is decided; what follows is read in its turn.
    fn begin_at(
        &mut self,
        fetch: Arc<Fetch>,
        fetched: Arc<Fetched>,
        start: Start,
        reset: Option<Reason>,
    ) -> Option<Ready> {
        match (start, reset) {
            // Only the first page is filtered by time, and judged by what was dropped.
            (Start::Time(_), _) => {
                self.decide(&fetched);
                self.go(Step::Behind { start, verdict: Verdict::Page, sharing: Sharing::Exact });
            }
            (_, Some(_)) => self.go(Step::Page { _fetch: fetch, fetched, reset, batch: 0, part: None }),
            (_, None) => {
                self.decide(&fetched);
                return self.catch_up(&fetched);
            }
        }
        None
    }

    fn decide(&mut self, fetched: &Fetched) {
        self.position.get_or_insert(fetched.from);
        if self.latch == Latch::Undecided {
            self.latch = Latch::Head(Box::new(fetched.head.cursor));
        }
    }

    /// Nothing of the page is left.
    fn catch_up(&mut self, fetched: &Fetched) -> Option<Ready> {
        let (cursor, head) = (fetched.next, fetched.head.cursor);
        self.position = Some(cursor);
        self.pass_latch(cursor);
        self.next = Next::At { cursor, verified: (cursor == head).then_some(fetched.asked.version) };
        None
    }

    fn ask(&mut self, cursor: Option<Cursor>) -> Option<Ready> {
        let Seat { topic, shared, .. } = &self.seat;
        // The version comes first: a change while it is asked makes it one of which the answer says nothing.
        let version = topic.version();
        self.go(Step::Asking { ask: shared.ask_head(topic.channel()), slot: None, version, cursor });
        None
    }

    fn read(&mut self, wanted: Wanted, verdict: Verdict) -> Option<Ready> {
        let fetch = self.seat.shared.fetch(&self.seat.topic, wanted);
        self.go(Step::Reading { fetch, slot: None, wanted, verdict });
        None
    }

    fn fall_behind(&mut self, start: Start, sharing: Sharing) -> Option<Ready> {
        self.go(Step::Behind { start, verdict: Verdict::Page, sharing });
        None
    }

    fn go(&mut self, step: Step) {
        match &mut self.next {
            Next::Store(same) => **same = step,
            next => *next = Next::Store(Box::new(step)),
        }
    }

    fn step(&mut self) -> Option<&mut Step> {
        if let Next::Store(step) = &mut self.next { Some(step) } else { None }
    }

    fn go_on(&mut self, cursor: Cursor) -> Option<Ready> {
        self.next = Next::At { cursor, verified: None };
        None
    }

    fn fail(&mut self, error: ReadError) -> Option<Ready> {
        self.next = Next::Failed(error);
        None
    }
}
