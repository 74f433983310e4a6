//! The steps of [`ChannelReader::poll_peek`]: each gives what is ready, or moves on and gives nothing.

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use super::{
    ChannelReader, PageContents, PageSlot, Peeked, State, StoreStep,
    start::{HistoryEnd, ResetRule},
};
use crate::{
    cursor::Cursor,
    hub::{
        error::ReadError,
        heads::request_head,
        lease::LeasedPage,
        membership::Membership,
        page_reads::{PageRequest, request_page},
        shared_page::{PagePosition, SharedPage},
        shared_read::{SharedRead, Sharing},
        subscription::ChannelStart,
        topic::TopicLookup,
    },
    store::{Limit, Reason, Start},
};

impl ChannelReader {
    pub(super) fn start(&mut self, start: ChannelStart) -> Option<Peeked> {
        if let (Start::Latest, None) = start {
            return self.request_head(None);
        }
        let (start, reset_rule) = ResetRule::of(start);
        self.send_request(PageRequest { start, limit: Limit::POSITION, sharing: Sharing::SameStart }, reset_rule)
    }

    pub(super) fn peek_ring(&mut self, cursor: Cursor, verified: Option<u64>, cx: &Context<'_>) -> Option<Peeked> {
        match self.membership.topic.poll(&mut self.membership.slot, cursor, cx) {
            TopicLookup::Run(run) => {
                self.fix_history_end_at_ring_head();
                Some(Peeked::Run(run))
            }
            TopicLookup::CaughtUp { closed } => {
                self.note_position(cursor);
                Some(if closed { Peeked::Closed(self.closed(cursor)) } else { Peeked::Parked })
            }
            TopicLookup::NotInRing { version } | TopicLookup::BeforeRing { version } if verified == Some(version) => {
                self.membership.topic.park_outside_ring(cursor);
                Some(Peeked::Parked)
            }
            // Most who come back are at the head, which one call tells all of them.
            TopicLookup::NotInRing { .. } => self.request_head(Some(cursor)),
            TopicLookup::BeforeRing { .. } => self.need_page(Start::After(cursor), Sharing::Overlapping),
        }
    }

    pub(super) fn poll_head(&mut self, cx: &Context<'_>) -> Option<Peeked> {
        // Registered here too, so that whatever wakes all readers wakes this one.
        self.membership.topic.register(&mut self.membership.slot, cx);
        let State::FromStore(step) = &mut self.state else { return None };
        let StoreStep::HeadRequested { head, slot, version, cursor } = &mut **step else { return None };
        let (version, cursor) = (*version, *cursor);
        if let Some(held) = cursor.filter(|cursor| self.membership.topic.holds(*cursor)) {
            return self.follow_ring(held);
        }
        let head = match head.poll(slot, cx) {
            Poll::Pending => return Some(Peeked::ReadPending),
            Poll::Ready(Err(error)) => return self.fail(error),
            Poll::Ready(Ok(head)) => head.cursor,
        };
        match cursor {
            Some(cursor) if cursor != head => self.need_page(Start::After(cursor), Sharing::Overlapping),
            _ => {
                self.position = Some(head);
                self.history_end = HistoryEnd::Reached;
                self.state = State::FromRing { cursor: head, verified: Some(version) };
                None
            }
        }
    }

    pub(super) fn peek_page(&mut self, page_slot: &mut PageSlot) -> Option<Peeked> {
        let Some(StoreStep::PageReady { lease, reset, run, .. }) = self.step() else { return None };
        let Some(LeasedPage { page, first, part }) = lease.page() else { return self.fail(ReadError::Stalled) };
        if let Some(reason) = *reset {
            return Some(Peeked::Reset(self.reset(&page, reason)));
        }
        let part = part.filter(|_| *run == first);
        if let Some(run) = part.as_ref().or_else(|| page.runs.get(*run)) {
            return Some(Peeked::Run(run.clone()));
        }
        // Another of several channels may be waiting for the room.
        *page_slot = PageSlot::Taken;
        if page.next == page.head.cursor {
            self.history_end = HistoryEnd::Reached;
        }
        self.follow_ring(page.next)
    }

    pub(super) fn request_page(
        &mut self,
        start: Start,
        reset_rule: ResetRule,
        sharing: Sharing,
        page_slot: PageSlot,
    ) -> Option<Peeked> {
        match page_slot {
            PageSlot::Free(limit) => self.send_request(PageRequest { start, limit, sharing }, reset_rule),
            PageSlot::Taken => Some(Peeked::NeedsPageSlot),
        }
    }

    pub(super) fn poll_page(&mut self, cx: &Context<'_>) -> Option<Peeked> {
        // Registered here too, so that whatever wakes all readers wakes this one.
        self.membership.topic.register(&mut self.membership.slot, cx);
        let State::FromStore(step) = &mut self.state else { return None };
        let StoreStep::PageRequested { read, slot, request, reset_rule } = &mut **step else { return None };
        let (start, reset_rule) = (request.start, *reset_rule);
        if let Start::After(cursor) = start {
            // Another reader's page may have filled the ring meanwhile.
            if self.membership.topic.holds(cursor) {
                return self.follow_ring(cursor);
            }
        }
        match read.poll(slot, cx) {
            Poll::Pending => Some(Peeked::ReadPending),
            Poll::Ready(Err(error)) => self.fail(error),
            Poll::Ready(Ok(page)) => {
                let read = read.clone();
                self.accept_page(read, page, start, reset_rule)
            }
        }
    }

    /// Takes the page that was read, or what of another's page follows its own position.
    fn accept_page(
        &mut self,
        read: Arc<SharedRead>,
        page: Arc<SharedPage>,
        start: Start,
        reset_rule: ResetRule,
    ) -> Option<Peeked> {
        let Some(page_position) = page.position_of(start) else {
            // It ended before it got here.
            return self.need_page(start, Sharing::SameStart);
        };
        let reset = reset_rule.reset_of(&page).filter(|_| page.context.start == start);
        if page.is_position_only() {
            return self.accept_position(read, page, start, reset);
        }
        let page = match self.up_to_history_end(start, &page) {
            Portion::Whole => page,
            Portion::UpToHistoryEnd(cut) => cut,
            // By time nobody is told that the history is another one.
            Portion::OtherHistory(position) => return self.need_page(Start::After(position), Sharing::SameStart),
        };
        if reset.is_none() {
            self.fix_start(&page);
            if page_position.run == page.runs.len() {
                return self.finish_page(&page);
            }
        }
        self.hand_out(read, page, page_position, reset)
    }

    /// One of several channels that starts by time was decided before its page could be read: the filter is for what there was
    /// then.
    fn up_to_history_end(&self, start: Start, page: &Arc<SharedPage>) -> Portion {
        let (Start::Time(_), HistoryEnd::At(head), Some(position)) = (start, &self.history_end, self.position) else {
            return Portion::Whole;
        };
        // Otherwise the log has lost its end, and perhaps grown again.
        let is_there = page.from == position || page.from.seq > position.seq;
        match page.head.cursor.epoch == head.epoch && is_there {
            false => Portion::OtherHistory(position),
            true if page.next.seq <= head.seq => Portion::Whole,
            true => Portion::UpToHistoryEnd(Arc::new(page.truncated(**head))),
        }
    }

    fn hand_out(
        &mut self,
        read: Arc<SharedRead>,
        page: Arc<SharedPage>,
        page_position: PagePosition,
        reset: Option<Reason>,
    ) -> Option<Peeked> {
        let contents = if page.is_position_only() { PageContents::PositionOnly } else { PageContents::Entries };
        let PagePosition { run, part } = page_position;
        let page = LeasedPage { page, first: run, part };
        let lease = self.membership.shared.reads.leases.lease(read, page);
        self.set_step(StoreStep::PageReady { lease, contents, reset, run });
        None
    }

    /// The position that one of several channels starts from is decided; what follows is read in its turn.
    fn accept_position(
        &mut self,
        read: Arc<SharedRead>,
        page: Arc<SharedPage>,
        start: Start,
        reset: Option<Reason>,
    ) -> Option<Peeked> {
        match (start, reset) {
            // Only the first page is filtered by time, and judged by what was dropped.
            (Start::Time(_), _) => {
                self.fix_start(&page);
                self.set_step(StoreStep::PageNeeded {
                    start,
                    reset_rule: ResetRule::ByOutcome,
                    sharing: Sharing::SameStart,
                });
                None
            }
            (_, Some(_)) => self.hand_out(read, page, PagePosition::default(), reset),
            (_, None) => {
                self.fix_start(&page);
                self.finish_page(&page)
            }
        }
    }

    fn fix_start(&mut self, page: &SharedPage) {
        self.position.get_or_insert(page.from);
        if self.history_end == HistoryEnd::Undecided {
            self.history_end = HistoryEnd::At(Box::new(page.head.cursor));
        }
    }

    /// Nothing of the page is left.
    fn finish_page(&mut self, page: &SharedPage) -> Option<Peeked> {
        let (cursor, head) = (page.next, page.head.cursor);
        self.position = Some(cursor);
        self.note_position(cursor);
        // Also when the log has lost what was to come up to the latch.
        if cursor == head {
            self.history_end = HistoryEnd::Reached;
        }
        self.state = State::FromRing { cursor, verified: (cursor == head).then_some(page.context.version) };
        None
    }

    fn request_head(&mut self, cursor: Option<Cursor>) -> Option<Peeked> {
        let Membership { topic, shared, .. } = &self.membership;
        // The version comes first: a change while it is asked makes it one of which the answer says nothing.
        let version = topic.version();
        self.set_step(StoreStep::HeadRequested {
            head: request_head(shared, topic.channel()),
            slot: None,
            version,
            cursor,
        });
        None
    }

    fn send_request(&mut self, request: PageRequest, reset_rule: ResetRule) -> Option<Peeked> {
        let read = request_page(&self.membership.shared, &self.membership.topic, request);
        self.set_step(StoreStep::PageRequested { read, slot: None, request, reset_rule });
        None
    }

    fn need_page(&mut self, start: Start, sharing: Sharing) -> Option<Peeked> {
        self.set_step(StoreStep::PageNeeded { start, reset_rule: ResetRule::ByOutcome, sharing });
        None
    }

    fn set_step(&mut self, step: StoreStep) {
        match &mut self.state {
            State::FromStore(same) => **same = step,
            state => *state = State::FromStore(Box::new(step)),
        }
    }

    pub(super) fn step(&mut self) -> Option<&mut StoreStep> {
        if let State::FromStore(step) = &mut self.state { Some(step) } else { None }
    }

    fn follow_ring(&mut self, cursor: Cursor) -> Option<Peeked> {
        self.state = State::FromRing { cursor, verified: None };
        None
    }

    fn fail(&mut self, error: ReadError) -> Option<Peeked> {
        self.state = State::Failed(error);
        None
    }
}

/// What of a page is for its reader.
enum Portion {
    Whole,
    UpToHistoryEnd(Arc<SharedPage>),
    /// Nothing: it goes on from here, and is told of the reset.
    OtherHistory(Cursor),
}
