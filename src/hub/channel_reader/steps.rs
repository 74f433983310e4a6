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
        lease::LeasedPage,
        reads::PageRequest,
        shared::Membership,
        shared_read::{PagePosition, SharedPage, SharedRead, Sharing},
        subscription::ChannelStart,
        topic::TopicLookup,
    },
    store::{Limit, Reason, Start},
};

impl ChannelReader {
    pub(super) fn begin(&mut self, start: ChannelStart) -> Option<Ready> {
        if let (Start::Latest, None) = start {
            return self.ask(None);
        }
        let (start, verdict) = Verdict::of(start);
        self.read(PageRequest { start, limit: Limit::POSITION, sharing: Sharing::SameStart }, verdict)
    }

    pub(super) fn look_in_ring(&mut self, cursor: Cursor, verified: Option<u64>, cx: &Context<'_>) -> Option<Ready> {
        match self.membership.topic.poll(&mut self.membership.slot, cursor, cx) {
            TopicLookup::Run(run) => {
                self.latch_ring();
                Some(Ready::Run(run))
            }
            TopicLookup::CaughtUp { closed } => {
                self.pass_latch(cursor);
                Some(if closed { Ready::Closed(self.closed(cursor)) } else { Ready::Parked })
            }
            TopicLookup::NotInRing { version } | TopicLookup::BeforeRing { version } if verified == Some(version) => {
                self.membership.topic.park_outside_ring(cursor);
                Some(Ready::Parked)
            }
            // Most who come back are at the head, which one call tells all of them.
            TopicLookup::NotInRing { .. } => self.ask(Some(cursor)),
            TopicLookup::BeforeRing { .. } => self.fall_behind(Start::After(cursor), Sharing::Overlapping),
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
            Some(cursor) if cursor != head => self.fall_behind(Start::After(cursor), Sharing::Overlapping),
            _ => {
                self.position = Some(head);
                self.latch = Latch::Passed;
                self.next = Next::At { cursor: head, verified: Some(version) };
                None
            }
        }
    }

    pub(super) fn look_in_page(&mut self, room: &mut PageRoom) -> Option<Ready> {
        let Some(Step::Page { lease, reset, run, .. }) = self.step() else { return None };
        let Some(LeasedPage { page, first, part }) = lease.page() else { return self.fail(ReadError::Stalled) };
        if let Some(reason) = *reset {
            return Some(Ready::Reset(self.reset(&page, reason)));
        }
        let part = part.filter(|_| *run == first);
        if let Some(run) = part.as_ref().or_else(|| page.runs.get(*run)) {
            return Some(Ready::Run(run.clone()));
        }
        // Another of several channels may be waiting for the room.
        *room = PageRoom::Taken;
        if page.next == page.head.cursor {
            self.latch = Latch::Passed;
        }
        self.go_on(page.next)
    }

    pub(super) fn look_for_room(
        &mut self,
        start: Start,
        verdict: Verdict,
        sharing: Sharing,
        room: PageRoom,
    ) -> Option<Ready> {
        match room {
            PageRoom::Free(limit) => self.read(PageRequest { start, limit, sharing }, verdict),
            PageRoom::Taken => Some(Ready::Waiting),
        }
    }

    pub(super) fn look_at_read(&mut self, cx: &Context<'_>) -> Option<Ready> {
        // Registered here too, so that whatever wakes all readers wakes this one.
        self.membership.topic.register(&mut self.membership.slot, cx);
        let Next::Store(step) = &mut self.next else { return None };
        let Step::Reading { read, slot, request, verdict } = &mut **step else { return None };
        let (start, verdict) = (request.start, *verdict);
        if let Start::After(cursor) = start {
            // Another reader's page may have filled the ring meanwhile.
            if self.membership.topic.holds(cursor) {
                return self.go_on(cursor);
            }
        }
        match read.poll(slot, cx) {
            None => Some(Ready::Reading),
            Some(Err(error)) => self.fail(error),
            Some(Ok(page)) => {
                let read = read.clone();
                self.turn_to(read, page, start, verdict)
            }
        }
    }

    /// Takes the page that was read, or what of another's page follows its own position.
    fn turn_to(
        &mut self,
        read: Arc<SharedRead>,
        page: Arc<SharedPage>,
        start: Start,
        verdict: Verdict,
    ) -> Option<Ready> {
        let Some(page_position) = page.for_start(start) else {
            // It ended before it got here.
            return self.fall_behind(start, Sharing::SameStart);
        };
        let reset = verdict.on(&page).filter(|_| page.context.start == start);
        if page.is_position() {
            return self.begin_at(read, page, start, reset);
        }
        let page = match self.until_latch(start, &page) {
            Cut::Whole => page,
            Cut::At(cut) => cut,
            // By time nobody is told that the history is another one.
            Cut::OtherHistory(position) => return self.fall_behind(Start::After(position), Sharing::SameStart),
        };
        if reset.is_none() {
            self.decide(&page);
            if page_position.run == page.runs.len() {
                return self.catch_up(&page);
            }
        }
        self.hand_out(read, page, page_position, reset)
    }

    /// One of several channels that starts by time was decided before its page could be read: the filter is for what there was
    /// then.
    fn until_latch(&self, start: Start, page: &Arc<SharedPage>) -> Cut {
        let (Start::Time(_), Latch::Head(head), Some(position)) = (start, &self.latch, self.position) else {
            return Cut::Whole;
        };
        // Otherwise the log has lost its end, and perhaps grown again.
        let is_there = page.from == position || page.from.seq > position.seq;
        match page.head.cursor.epoch == head.epoch && is_there {
            false => Cut::OtherHistory(position),
            true if page.next.seq <= head.seq => Cut::Whole,
            true => Cut::At(Arc::new(page.until(**head))),
        }
    }

    fn hand_out(
        &mut self,
        read: Arc<SharedRead>,
        page: Arc<SharedPage>,
        page_position: PagePosition,
        reset: Option<Reason>,
    ) -> Option<Ready> {
        let holds = if page.is_position() { Holds::Position } else { Holds::Entries };
        let PagePosition { run, part } = page_position;
        let page = LeasedPage { page, first: run, part };
        let lease = self.membership.shared.reads.leases.lease(read, page);
        self.go(Step::Page { lease, holds, reset, run });
        None
    }

    /// The position that one of several channels starts from is decided; what follows is read in its turn.
    fn begin_at(
        &mut self,
        read: Arc<SharedRead>,
        page: Arc<SharedPage>,
        start: Start,
        reset: Option<Reason>,
    ) -> Option<Ready> {
        match (start, reset) {
            // Only the first page is filtered by time, and judged by what was dropped.
            (Start::Time(_), _) => {
                self.decide(&page);
                self.go(Step::Behind { start, verdict: Verdict::Page, sharing: Sharing::SameStart });
                None
            }
            (_, Some(_)) => self.hand_out(read, page, PagePosition::default(), reset),
            (_, None) => {
                self.decide(&page);
                self.catch_up(&page)
            }
        }
    }

    fn decide(&mut self, page: &SharedPage) {
        self.position.get_or_insert(page.from);
        if self.latch == Latch::Undecided {
            self.latch = Latch::Head(Box::new(page.head.cursor));
        }
    }

    /// Nothing of the page is left.
    fn catch_up(&mut self, page: &SharedPage) -> Option<Ready> {
        let (cursor, head) = (page.next, page.head.cursor);
        self.position = Some(cursor);
        self.pass_latch(cursor);
        // Also when the log has lost what was to come up to the latch.
        if cursor == head {
            self.latch = Latch::Passed;
        }
        self.next = Next::At { cursor, verified: (cursor == head).then_some(page.context.version) };
        None
    }

    fn ask(&mut self, cursor: Option<Cursor>) -> Option<Ready> {
        let Membership { topic, shared, .. } = &self.membership;
        // The version comes first: a change while it is asked makes it one of which the answer says nothing.
        let version = topic.version();
        self.go(Step::Asking { ask: shared.ask_head(topic.channel()), slot: None, version, cursor });
        None
    }

    fn read(&mut self, request: PageRequest, verdict: Verdict) -> Option<Ready> {
        let read = self.membership.shared.share_read(&self.membership.topic, request);
        self.go(Step::Reading { read, slot: None, request, verdict });
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
    At(Arc<SharedPage>),
    /// Nothing: it goes on from here, and is told of the reset.
    OtherHistory(Cursor),
}
