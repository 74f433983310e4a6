//! One channel of a subscription: a membership and a position. It pulls, and owns neither a queue nor a task.

mod filtering;
mod page;
mod snapshot;
mod start;
mod state;
mod steps;

use std::{sync::Arc, task::Context};

pub(super) use self::state::{ChannelReader, PageSlot, Peeked};
use self::{
    start::HistoryEnd,
    state::{State, StoreStep},
};
use super::{delivery::Batch, entry_run::EntryRun, lease::LeasedPage, stats::ReaderKind, topic::TopicLookup};
use crate::{cursor::Cursor, store::StoreError};

impl ChannelReader {
    /// What there is to hand out. Peeking takes nothing: the next peek returns the same until it is taken.
    pub(super) fn poll_peek(&mut self, mut page_slot: PageSlot, cx: &Context<'_>) -> Peeked {
        if self.is_parked(cx) {
            return Peeked::Parked;
        }
        loop {
            let peeked = match &self.state {
                State::FromRing { cursor, verified } => self.peek_ring(*cursor, *verified, cx),
                State::FromStore(step) => match &**step {
                    StoreStep::NotStarted(start) => self.start(*start),
                    StoreStep::HeadRequested { .. } => self.poll_head(cx),
                    StoreStep::PageNeeded { start, reset_rule, sharing } => {
                        self.request_page(*start, *reset_rule, *sharing, page_slot)
                    }
                    StoreStep::PageRequested { .. } => self.poll_page(cx),
                    StoreStep::PageReady { .. } => self.peek_page(&mut page_slot),
                    StoreStep::SnapshotRequested { .. } => self.poll_snapshot(cx),
                    StoreStep::SnapshotReady { .. } => self.peek_snapshot(),
                },
                State::Failed(error) => Some(Peeked::Failed(error.clone())),
                State::Corrupt(_) => Some(Peeked::Corrupt),
                State::Ended => Some(Peeked::Ended),
            };
            match peeked {
                Some(Peeked::Run(run)) => return self.filter(run),
                Some(peeked) => return peeked,
                None => {}
            }
        }
    }

    /// Takes at most `max` events of the run that was peeked.
    pub(super) fn take(&mut self, run: Arc<EntryRun>, max: usize, kind: ReaderKind) -> Batch {
        let events = Batch::first(run.clone(), max);
        let counters = &self.membership.shared.counters;
        match self.history_end {
            HistoryEnd::Reached => counters.delivered_live(kind, &events),
            _ => counters.delivered(kind, &events),
        }
        match events.is_whole() {
            true => self.advance(&run),
            false => self.move_to(events.next()),
        }
        events
    }

    /// Continues after the whole run that was peeked.
    fn advance(&mut self, run: &EntryRun) {
        self.membership.slot.take_run();
        self.note_taken(run.next());
        match self.step() {
            Some(StoreStep::PageReady { run, .. }) => *run += 1,
            _ => {
                self.follow_ring(run.next());
            }
        }
    }

    /// Continues within the run that was peeked.
    fn move_to(&mut self, position: Cursor) {
        self.note_taken(position);
        self.follow_ring(position);
    }

    fn note_taken(&mut self, position: Cursor) {
        self.position = Some(position);
        self.note_position(position);
    }

    /// Takes the reset that was peeked.
    pub(super) fn take_reset(&mut self) {
        let Some(StoreStep::PageReady { lease, reset, .. }) = self.step() else {
            return self.take_reset_before_snapshot();
        };
        // Revoked since it was peeked: the failure that comes instead keeps the position, so that the reset is decided anew.
        let Some(LeasedPage { page, .. }) = lease.page() else { return };
        let reason = reset.take();
        self.position = Some(page.from);
        self.history_end = HistoryEnd::At(Box::new(page.head.cursor));
        self.note_position(page.from);
        if let Some(reason) = reason {
            self.membership.shared.counters.reset(reason);
        }
    }

    /// Takes the failure that was peeked: `error` says why the stored data cannot be read.
    pub(super) fn take_failure(&mut self, error: &Arc<StoreError>) {
        self.state = State::Corrupt(error.clone());
    }

    /// Takes the close that was peeked.
    pub(super) fn take_close(&mut self) {
        self.state = State::Ended;
    }

    /// Whether the channel is closed and nothing of it is left to hand out but the close.
    pub(super) fn is_at_end(&self) -> bool {
        match self.state {
            State::FromRing { cursor, .. } => {
                matches!(self.membership.topic.peek(cursor), TopicLookup::CaughtUp { closed: true })
            }
            ref state => matches!(state, State::Ended),
        }
    }
}
