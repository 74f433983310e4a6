//! One channel of a subscription: a position and a membership. Pulls; owns no queue and no task.

mod start;
mod steps;

use std::{sync::Arc, task::Context};

use self::start::{HistoryEnd, ResetRule};
use super::{
    delivery::{Closed, Events, Failed, Reset},
    entry_run::EntryRun,
    error::ReadError,
    head_requests::HeadRequest,
    lease::{Lease, LeasedPage},
    membership::Membership,
    page_reads::PageRequest,
    shared_page::SharedPage,
    shared_read::{SharedRead, Sharing},
    subscription::ChannelStart,
    topic::TopicLookup,
};
use crate::{
    channel::Channel,
    cursor::Cursor,
    store::{Limit, Reason, Start, StoreError},
};

#[derive(Debug)]
pub(super) struct ChannelReader {
    membership: Membership,
    /// Where a client goes on that has received what was handed out so far. A reset moves it only when it is handed out,
    /// or a client that drops in between would resume behind it and never hear of it.
    position: Option<Cursor>,
    history_end: HistoryEnd,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Goes on after `cursor`. `verified` is the topic's version at which the store confirmed that nothing follows.
    FromRing { cursor: Cursor, verified: Option<u64> },
    /// Needs the store. Boxed: most readers keep up, and there are many of them.
    FromStore(Box<StoreStep>),
    /// The read failed, which is to be handed out.
    Failed(ReadError),
    /// The failure was handed out: the data cannot be read.
    Corrupt(Arc<StoreError>),
    /// The close was handed out.
    Ended,
}

/// What is asked of the store, or was given by it.
#[derive(Debug)]
enum StoreStep {
    /// One of several channels: its position is decided before anything of any is read.
    NotStarted(ChannelStart),
    /// Asks for the head, at which it starts, or may be at `cursor` already. `version` is the topic's before it asked.
    HeadRequested { head: Arc<HeadRequest>, slot: Option<usize>, version: u64, cursor: Option<Cursor> },
    /// Has to read a page, when it may.
    PageNeeded { start: Start, reset_rule: ResetRule, sharing: Sharing },
    /// A read is under way.
    PageRequested { read: Arc<SharedRead>, slot: Option<usize>, request: PageRequest, reset_rule: ResetRule },
    /// A page that is being handed out: the reset first, then its runs from `run` on.
    PageReady { lease: Arc<Lease>, contents: PageContents, reset: Option<Reason>, run: usize },
}

/// What is in a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PageContents {
    Entries,
    /// Only a position was asked for: it takes no room.
    PositionOnly,
}

/// Whether a subscriber has room for a page, of which it holds one at a time whatever the number of its channels.
#[derive(Clone, Copy, Debug)]
pub(super) enum PageSlot {
    Free(Limit),
    Taken,
}

/// What a channel reader has to hand out.
#[derive(Debug)]
pub(super) enum Peeked {
    Run(Arc<EntryRun>),
    Reset(Reset),
    Closed(Closed),
    Failed(ReadError),
    /// Nothing; woken when something comes.
    Parked,
    /// Nothing yet: a call to the store is under way.
    ReadPending,
    /// Nothing yet: a page has to be read, for which there is no room.
    NeedsPageSlot,
    /// Nothing any more: its failure was handed out.
    Corrupt,
    /// Nothing any more: its close was handed out.
    Ended,
}

impl ChannelReader {
    /// The only channel of a subscription: its first page decides its start.
    pub(super) fn only(membership: Membership, start: ChannelStart) -> Self {
        let channel_reader = Self::one_of_several(membership, start);
        match (&channel_reader.state, start) {
            (_, (Start::Latest, None)) | (State::FromRing { .. }, _) => channel_reader,
            (_, start) => {
                let (start, reset_rule) = ResetRule::of(start);
                let behind = StoreStep::PageNeeded { start, reset_rule, sharing: Sharing::Overlapping };
                Self { state: State::FromStore(Box::new(behind)), ..channel_reader }
            }
        }
    }

    pub(super) fn one_of_several(membership: Membership, start: ChannelStart) -> Self {
        let (position, state) = match start {
            (Start::After(cursor), None) => (Some(cursor), State::FromRing { cursor, verified: None }),
            start => (None, State::FromStore(Box::new(StoreStep::NotStarted(start)))),
        };
        Self { membership, position, history_end: HistoryEnd::Undecided, state }
    }

    pub(super) fn channel(&self) -> &Channel {
        self.membership.topic.channel()
    }

    pub(super) fn position(&self) -> Option<Cursor> {
        self.position
    }

    /// Whether it is decided how it starts.
    pub(super) fn has_started(&self) -> bool {
        self.history_end != HistoryEnd::Undecided
    }

    /// Whether its close was handed out.
    pub(super) fn is_ended(&self) -> bool {
        matches!(self.state, State::Ended)
    }

    /// Whether the store failed it, told or not yet.
    pub(super) fn has_failed(&self) -> bool {
        matches!(self.state, State::Failed(_) | State::Corrupt(_))
    }

    /// Whether all that there was when its start or its last reset was decided is handed out. A failed one keeps no other
    /// from being live.
    pub(super) fn is_live(&self) -> bool {
        match self.state {
            State::Failed(_) | State::Corrupt(_) | State::Ended => true,
            _ => self.history_end == HistoryEnd::Reached,
        }
    }

    /// Whether the channel is closed and nothing of it is left to hand out.
    pub(super) fn is_at_end(&self) -> bool {
        match self.state {
            State::FromRing { cursor, .. } => {
                matches!(self.membership.topic.peek(cursor), TopicLookup::CaughtUp { closed: true })
            }
            ref state => matches!(state, State::Ended),
        }
    }

    /// Whether nothing can have come since this was last looked at, and `cx` will be woken when something does.
    pub(super) fn is_parked(&self, cx: &Context<'_>) -> bool {
        self.membership.topic.is_parked(&self.membership.slot, cx)
    }

    /// Whether it holds the subscriber's page, or reads it.
    pub(super) fn has_page(&self) -> bool {
        let State::FromStore(step) = &self.state else { return false };
        match &**step {
            StoreStep::PageRequested { request, .. } => request.limit != Limit::POSITION,
            StoreStep::PageReady { contents, .. } => *contents == PageContents::Entries,
            _ => false,
        }
    }

    /// What there is to hand out. Looking takes nothing: it is there until it is taken.
    pub(super) fn poll_peek(&mut self, mut page_slot: PageSlot, cx: &Context<'_>) -> Peeked {
        if self.is_parked(cx) {
            return Peeked::Parked;
        }
        loop {
            let ready = match &self.state {
                State::FromRing { cursor, verified } => self.peek_ring(*cursor, *verified, cx),
                State::FromStore(step) => match &**step {
                    StoreStep::NotStarted(start) => self.start(*start),
                    StoreStep::HeadRequested { .. } => self.poll_head(cx),
                    StoreStep::PageNeeded { start, reset_rule, sharing } => {
                        self.request_page(*start, *reset_rule, *sharing, page_slot)
                    }
                    StoreStep::PageRequested { .. } => self.poll_page(cx),
                    StoreStep::PageReady { .. } => self.peek_page(&mut page_slot),
                },
                State::Failed(error) => Some(Peeked::Failed(error.clone())),
                State::Corrupt(_) => Some(Peeked::Corrupt),
                State::Ended => Some(Peeked::Ended),
            };
            if let Some(ready) = ready {
                return ready;
            }
        }
    }

    /// Takes at most `most` events of the run that was seen.
    pub(super) fn take(&mut self, run: Arc<EntryRun>, most: usize) -> Events {
        let events = Events::first(run, most);
        match events.is_whole() {
            true => self.membership.slot.take_run(),
            false => self.membership.slot.take_part_of_run(),
        }
        self.position = Some(events.next());
        self.note_position(events.next());
        match self.step() {
            Some(StoreStep::PageReady { run, .. }) if events.is_whole() => *run += 1,
            _ => self.state = State::FromRing { cursor: events.next(), verified: None },
        }
        events
    }

    /// Takes the reset that was seen.
    pub(super) fn take_reset(&mut self) {
        let Some(StoreStep::PageReady { lease, reset, .. }) = self.step() else { return };
        // Given back since it was seen: the reset is told by the failure that comes instead.
        let Some(LeasedPage { page, .. }) = lease.page() else { return };
        let (from, head) = (page.from, page.head.cursor);
        *reset = None;
        self.position = Some(from);
        self.history_end = HistoryEnd::At(Box::new(head));
        self.note_position(from);
    }

    /// Takes the failure that was seen: what is stored cannot be read, as `error` says.
    pub(super) fn take_failure(&mut self, error: &Arc<StoreError>) {
        self.state = State::Corrupt(error.clone());
    }

    /// Why nothing will come any more, when its failure was handed out.
    pub(super) fn corrupt(&self) -> Option<&Arc<StoreError>> {
        if let State::Corrupt(error) = &self.state { Some(error) } else { None }
    }

    /// Takes the close that was seen.
    pub(super) fn take_close(&mut self) {
        self.state = State::Ended;
    }

    pub(super) fn failed(&self, error: Arc<StoreError>) -> Failed {
        Failed { channel: self.channel().clone(), error }
    }

    /// The ring decided the start.
    fn fix_history_end_at_ring_head(&mut self) {
        if self.history_end == HistoryEnd::Undecided {
            self.history_end = self
                .membership
                .topic
                .head()
                .map_or(HistoryEnd::Undecided, |head| HistoryEnd::At(Box::new(head.cursor)));
        }
    }

    fn note_position(&mut self, position: Cursor) {
        // At the ring's head: what decided the start is what it passed.
        self.fix_history_end_at_ring_head();
        if self.history_end.is_reached_at(position) {
            self.history_end = HistoryEnd::Reached;
        }
    }

    fn reset(&self, page: &SharedPage, reason: Reason) -> Reset {
        let channel = self.channel().clone();
        Reset { channel, reason, earliest: page.from, latest: page.head.cursor }
    }

    fn closed(&self, cursor: Cursor) -> Closed {
        Closed { channel: self.channel().clone(), cursor }
    }
}
