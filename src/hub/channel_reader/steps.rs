//! The steps of [`ChannelReader::look`]: each gives what is ready, or moves on and gives nothing.

use std::{sync::Arc, task::Context};

use super::{
    ChannelReader, Holds, Next, PageRoom, Ready, Step,
    start::{Latch, Verdict},
};
use crate::{
    cursor::Cursor,
    hub::{
        error::ReadError,
        fetch::{Fetch, Fetched, Sharing, Within},
        lease::Page,
        reads::Wanted,
        shared::Membership,
        subscription::ChannelStart,
        topic::Seen,
    },
    store::{Limit, Reason, Start},
};

impl ChannelReader {
    pub(super) fn begin(&mut self, start: ChannelStart) -> Option<Ready> {
        if let (Start::Latest, None) = start {
            return self.ask(None);
        }
        let (start, verdict) = Verdict::of(start);
        self.read(Wanted { start, limit: Limit::POSITION, sharing: Sharing::Exact }, verdict)
    }

    pub(super) fn look_in_ring(&mut self, cursor: Cursor, verified: Option<u64>, cx: &Context<'_>) -> Option<Ready> {
        match self.membership.topic.poll(&mut self.membership.slot, cursor, cx) {
            Seen::Batch(batch) => {
                self.latch_ring();
                Some(Ready::Batch(batch))
            }
            Seen::CaughtUp { closed } => {
                self.pass_latch(cursor);
                Some(if closed { Ready::Closed(self.closed(cursor)) } else { Ready::Parked })
            }
            Seen::Elsewhere { version } | Seen::Behind { version } if verified == Some(version) => {
                self.membership.topic.doubt(cursor);
                Some(Ready::Parked)
            }
            // Most who come back are at the head, which one call tells all of them.
            Seen::Elsewhere { .. } => self.ask(Some(cursor)),
            Seen::Behind { .. } => self.fall_behind(Start::After(cursor), Sharing::Near),
        }
    }

    pub(super) fn look_at_head(&mut self, cx: &Context<'_>) -> Option<Ready> {
        // Registered here too, so that whatever wakes all readers wakes this one.
        self.membership.topic.register(&mut self.membership.slot, cx);
        let Next::Store(step) = &mut self.next else { return None };
        let Step::Asking { ask, slot, version, cursor } = &mut **step else { return None };
        let (version, cursor) = (*version, *cursor);
        if let Some(held) = cursor.filter(|cursor| self.membership.topic.holds(*cursor)) {
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

    pub(super) fn look_in_page(&mut self, room: &mut PageRoom) -> Option<Ready> {
        let Some(Step::Page { lease, reset, batch, .. }) = self.step() else { return None };
        let Some(Page { fetched, first, part }) = lease.page() else { return self.fail(ReadError::Stalled) };
        if let Some(reason) = *reset {
            return Some(Ready::Reset(self.reset(&fetched, reason)));
        }
        let part = part.filter(|_| *batch == first);
        if let Some(batch) = part.as_ref().or_else(|| fetched.batches.get(*batch)) {
            return Some(Ready::Batch(batch.clone()));
        }
        // Another of several channels may be waiting for the room.
        *room = PageRoom::Taken;
        if fetched.next == fetched.head.cursor {
            self.latch = Latch::Passed;
        }
        self.go_on(fetched.next)
    }

    pub(super) fn look_for_room(
        &mut self,
        start: Start,
        verdict: Verdict,
        sharing: Sharing,
        room: PageRoom,
    ) -> Option<Ready> {
        match room {
            PageRoom::Free(limit) => self.read(Wanted { start, limit, sharing }, verdict),
            PageRoom::Taken => Some(Ready::Waiting),
        }
    }

    pub(super) fn look_at_read(&mut self, cx: &Context<'_>) -> Option<Ready> {
        // Registered here too, so that whatever wakes all readers wakes this one.
        self.membership.topic.register(&mut self.membership.slot, cx);
        let Next::Store(step) = &mut self.next else { return None };
        let Step::Reading { fetch, slot, wanted, verdict } = &mut **step else { return None };
        let (start, verdict) = (wanted.start, *verdict);
        if let Start::After(cursor) = start {
            // Another reader's page may have filled the ring meanwhile.
            if self.membership.topic.holds(cursor) {
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
        let Some(within) = fetched.for_start(start) else {
            // It ended before it got here.
            return self.fall_behind(start, Sharing::Exact);
        };
        let reset = verdict.on(&fetched).filter(|_| fetched.asked.start == start);
        if fetched.is_position() {
            return self.begin_at(fetch, fetched, start, reset);
        }
        let fetched = match self.until_latch(start, &fetched) {
            Cut::Whole => fetched,
            Cut::At(cut) => cut,
            // By time nobody is told that the history is another one.
            Cut::OtherHistory(position) => return self.fall_behind(Start::After(position), Sharing::Exact),
        };
        if reset.is_none() {
            self.decide(&fetched);
            if within.batch == fetched.batches.len() {
                return self.catch_up(&fetched);
            }
        }
        self.hand_out(fetch, fetched, within, reset)
    }

    /// One of several channels that starts by time was decided before its page could be read: the filter is for what there was
    /// then.
    fn until_latch(&self, start: Start, fetched: &Arc<Fetched>) -> Cut {
        let (Start::Time(_), Latch::Head(head), Some(position)) = (start, &self.latch, self.position) else {
            return Cut::Whole;
        };
        // Otherwise the log has lost its end, and perhaps grown again.
        let is_there = fetched.from == position || fetched.from.seq > position.seq;
        match fetched.head.cursor.epoch == head.epoch && is_there {
            false => Cut::OtherHistory(position),
            true if fetched.next.seq <= head.seq => Cut::Whole,
            true => Cut::At(Arc::new(fetched.until(**head))),
        }
    }

    fn hand_out(
        &mut self,
        fetch: Arc<Fetch>,
        fetched: Arc<Fetched>,
        within: Within,
        reset: Option<Reason>,
    ) -> Option<Ready> {
        let holds = if fetched.is_position() { Holds::Position } else { Holds::Entries };
        let Within { batch, part } = within;
        let page = Page { fetched, first: batch, part };
        let lease = self.membership.shared.reads.leases.lease(fetch, page);
        self.go(Step::Page { lease, holds, reset, batch });
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
                None
            }
            (_, Some(_)) => self.hand_out(fetch, fetched, Within::default(), reset),
            (_, None) => {
                self.decide(&fetched);
                self.catch_up(&fetched)
            }
        }
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
        // Also when the log has lost what was to come up to the latch.
        if cursor == head {
            self.latch = Latch::Passed;
        }
        self.next = Next::At { cursor, verified: (cursor == head).then_some(fetched.asked.version) };
        None
    }

    fn ask(&mut self, cursor: Option<Cursor>) -> Option<Ready> {
        let Membership { topic, shared, .. } = &self.membership;
        // The version comes first: a change while it is asked makes it one of which the answer says nothing.
        let version = topic.version();
        self.go(Step::Asking { ask: shared.ask_head(topic.channel()), slot: None, version, cursor });
        None
    }

    fn read(&mut self, wanted: Wanted, verdict: Verdict) -> Option<Ready> {
        let fetch = self.membership.shared.fetch(&self.membership.topic, wanted);
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

    pub(super) fn step(&mut self) -> Option<&mut Step> {
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

/// What of a page is for its reader.
enum Cut {
    Whole,
    At(Arc<Fetched>),
    /// Nothing: it goes on from here, and is told of the reset.
    OtherHistory(Cursor),
}
