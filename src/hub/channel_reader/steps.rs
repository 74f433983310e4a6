//! The steps of a peek: each returns what there is to hand out, or changes the state and returns `None`.

use std::task::{Context, Poll};

use super::{
    start::{HistoryEnd, ResetRule},
    state::{ChannelReader, PageSlot, Peeked, State, StoreStep},
};
use crate::{
    cursor::Cursor,
    hub::{
        error::ReadError,
        heads::request_head,
        lease::LeasedPage,
        page_reads::{PageRequest, request_page},
        shared_page::ReadContext,
        shared_read::Sharing,
        subscription::ChannelStart,
        topic::TopicLookup,
    },
    store::{Limit, Start},
};

impl ChannelReader {
    pub(super) fn start(&mut self, start: ChannelStart) -> Option<Peeked> {
        if let (Start::Latest, None) = start {
            return self.request_head(None);
        }
        let (start, reset_rule) = ResetRule::of(start);
        self.send_page_request(PageRequest { start, limit: Limit::POSITION, sharing: Sharing::SameStart }, reset_rule)
    }

    pub(super) fn peek_ring(&mut self, cursor: Cursor, verified: Option<u64>, cx: &Context<'_>) -> Option<Peeked> {
        match self.membership.topic.poll(&mut self.membership.slot, cursor, cx) {
            TopicLookup::Run(run) => {
                self.end_history_at_ring_head();
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
            // Most readers that come back are at the head, which one call tells all of them.
            TopicLookup::NotInRing { .. } => {
                self.membership.shared.counters.ring_missed();
                self.request_head(Some(cursor))
            }
            TopicLookup::BeforeRing { .. } => {
                self.membership.shared.counters.ring_missed();
                match self.has_max_behind() {
                    true => self.request_head(Some(cursor)),
                    false => self.need_page(Start::After(cursor), Sharing::Overlapping),
                }
            }
        }
    }

    fn request_head(&mut self, cursor: Option<Cursor>) -> Option<Peeked> {
        // The version is taken before the request: the answer proves nothing about a change that comes while it is pending.
        let version = self.membership.topic.version();
        let head = request_head(&self.membership.shared, self.channel());
        self.set_step(StoreStep::HeadRequested { head, slot: None, version, cursor })
    }

    pub(super) fn poll_head(&mut self, cx: &Context<'_>) -> Option<Peeked> {
        // Registered here too, so that a wake of all readers reaches this one.
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
            Poll::Ready(Ok(head)) => head,
        };
        match cursor {
            Some(cursor) if self.is_too_far_behind(cursor, head.cursor) => {
                let (start, generation) = (Start::After(cursor), self.membership.topic.generation());
                self.skip_to(head, ReadContext { start, limit: Limit::POSITION, is_folded: false, version, generation })
            }
            Some(cursor) if cursor != head.cursor => self.need_page(Start::After(cursor), Sharing::Overlapping),
            _ => {
                self.position = Some(head.cursor);
                self.history_end = HistoryEnd::Reached;
                self.state = State::FromRing { cursor: head.cursor, verified: Some(version) };
                None
            }
        }
    }

    pub(super) fn request_page(
        &mut self,
        start: Start,
        reset_rule: ResetRule,
        sharing: Sharing,
        page_slot: PageSlot,
    ) -> Option<Peeked> {
        match page_slot {
            PageSlot::Free(limit) => self.send_page_request(PageRequest { start, limit, sharing }, reset_rule),
            PageSlot::Taken => Some(Peeked::NeedsPageSlot),
        }
    }

    fn send_page_request(&mut self, request: PageRequest, reset_rule: ResetRule) -> Option<Peeked> {
        let read = request_page(
            &self.membership.shared,
            &self.membership.topic,
            request,
            self.extras.as_ref().map(|extras| &*extras.options),
        );
        self.set_step(StoreStep::PageRequested { read, slot: None, request, reset_rule })
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
        // Another of several channels may be waiting for the slot.
        *page_slot = PageSlot::Taken;
        if page.next == page.head.cursor {
            self.history_end = HistoryEnd::Reached;
        }
        if page.is_next_proven { self.follow_ring(page.next) } else { self.prove(page.next) }
    }
}
