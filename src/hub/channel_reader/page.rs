//! What becomes of a page that was read: which part of it is for this reader, and whether a reset comes first.

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use super::{
    start::{HistoryEnd, ResetRule},
    state::{ChannelReader, PageContents, Peeked, State, StoreStep},
};
use crate::{
    cursor::Cursor,
    hub::{
        lease::LeasedPage,
        shared_page::{PagePosition, ReadContext, SharedPage},
        shared_read::{SharedRead, Sharing},
    },
    store::{Head, Limit, Outcome, Page, Reason, Start},
};

impl ChannelReader {
    pub(super) fn poll_page(&mut self, cx: &Context<'_>) -> Option<Peeked> {
        // Registered here too, so that a wake of all readers reaches this one.
        self.membership.topic.register(&mut self.membership.slot, cx);
        let State::FromStore(step) = &mut self.state else { return None };
        let StoreStep::PageRequested { read, slot, request, reset_rule } = &mut **step else { return None };
        let (start, reset_rule) = (request.start, *reset_rule);
        if let (Start::After(cursor), Sharing::Overlapping | Sharing::SameStart) = (start, request.sharing) {
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

    /// Takes the page that was read, or the part of another reader's page that follows its own position.
    fn accept_page(
        &mut self,
        read: Arc<SharedRead>,
        page: Arc<SharedPage>,
        start: Start,
        reset_rule: ResetRule,
    ) -> Option<Peeked> {
        let Some(position) = page.position_of(start) else {
            // The page ended before this reader's position.
            return self.need_page(start, Sharing::SameStart);
        };
        let reset = reset_rule.reset_of(&page).filter(|_| page.context.start == start);
        if let Some(reason) = reset.filter(|_| self.has_snapshots()) {
            return self.need_snapshot(&page, reason);
        }
        let decides_start = reset.is_some() || page.is_position_only();
        if decides_start && self.is_too_far_behind(page.from, page.head.cursor) {
            return self.skip_to(page.head, page.context);
        }
        if page.is_position_only() {
            return self.accept_position(read, page, start, reset);
        }
        let page = match self.portion(start, &page) {
            Portion::All => page,
            Portion::UpToHistoryEnd(truncated) => truncated,
            // A page by time says nothing about a reset.
            Portion::OtherHistory(position) => return self.need_page(Start::After(position), Sharing::SameStart),
        };
        if reset.is_none() {
            self.fix_start(&page);
            if position.run == page.runs.len() {
                self.finish_page(&page);
                return page.skipped_entries().map(|entries| Peeked::Skipped { entries });
            }
        }
        self.hand_out(read, page, position, reset)
    }

    /// The position from which one of several channels starts is decided; what follows is read in its turn.
    fn accept_position(
        &mut self,
        read: Arc<SharedRead>,
        page: Arc<SharedPage>,
        start: Start,
        reset: Option<Reason>,
    ) -> Option<Peeked> {
        match (start, reset) {
            // Only the first page is filtered by time, and it alone shows whether anything was dropped.
            (Start::Time(_), _) => {
                self.fix_start(&page);
                self.need_page(start, Sharing::SameStart)
            }
            (_, Some(_)) => self.hand_out(read, page, PagePosition::default(), reset),
            (_, None) => {
                self.fix_start(&page);
                self.finish_page(&page)
            }
        }
    }

    /// Resets the reader to the head, which it is too far behind.
    pub(super) fn skip_to(&mut self, head: Head, context: ReadContext) -> Option<Peeked> {
        let context = ReadContext { limit: Limit::POSITION, is_folded: false, ..context };
        let page = Page::new(Outcome::Reset(Reason::Behind), head.cursor, head);
        let page = Arc::new(SharedPage::new(page, context));
        if self.has_snapshots() {
            return self.need_snapshot(&page, Reason::Behind);
        }
        self.hand_out(Arc::new(SharedRead::new()), page, PagePosition::default(), Some(Reason::Behind))
    }

    fn hand_out(
        &mut self,
        read: Arc<SharedRead>,
        page: Arc<SharedPage>,
        position: PagePosition,
        reset: Option<Reason>,
    ) -> Option<Peeked> {
        let contents = match page.context {
            _ if page.is_position_only() => PageContents::PositionOnly,
            ReadContext { is_folded: true, .. } => PageContents::Folded,
            _ => PageContents::Entries,
        };
        let PagePosition { run, part } = position;
        let lease = self.membership.shared.reads.leases.lease(read, LeasedPage { page, first: run, part });
        self.set_step(StoreStep::PageReady { lease, contents, reset, run })
    }

    /// Which part of a page is for this reader. The start by time of one of several channels is decided before its page is
    /// read: the filter applies to what was stored at that time.
    fn portion(&self, start: Start, page: &Arc<SharedPage>) -> Portion {
        let (Start::Time(_), HistoryEnd::At(head), Some(position)) = (start, &self.history_end, self.position) else {
            return Portion::All;
        };
        // Otherwise the log lost its tail, and may have grown again.
        let is_there = page.from == position || page.from.seq > position.seq;
        match page.head.cursor.epoch == head.epoch && is_there {
            false => Portion::OtherHistory(position),
            true if page.next.seq <= head.seq => Portion::All,
            true => Portion::UpToHistoryEnd(Arc::new(page.truncated(**head))),
        }
    }

    /// The page decides where this reader starts and where history ends, unless that is decided.
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
        // Also when the log lost what would have come up to the end of history.
        if cursor == head {
            self.history_end = HistoryEnd::Reached;
        }
        if !page.is_next_proven {
            return self.prove(cursor);
        }
        self.state = State::FromRing { cursor, verified: (cursor == head).then_some(page.context.version) };
        None
    }

    /// Continues at the end of a page that does not prove it. **Only a proven position may be looked up in the ring**: the ring may
    /// still hold one, and a close there, that the log no longer has. Then events on the way there are missing, and only a read
    /// that begins now reports that.
    pub(super) fn prove(&mut self, position: Cursor) -> Option<Peeked> {
        self.need_page(Start::After(position), Sharing::Nothing)
    }
}

enum Portion {
    All,
    UpToHistoryEnd(Arc<SharedPage>),
    /// Nothing: the reader goes on from this position, where a read decides the reset.
    OtherHistory(Cursor),
}
