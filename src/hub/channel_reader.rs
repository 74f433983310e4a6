//! One channel of a subscription: a position and a membership. Pulls; owns no queue and no task.

mod start;
mod steps;

use std::{sync::Arc, task::Context};

use self::start::{Latch, Verdict};
use super::{
    delivery::{Closed, Events, Failed, Reset},
    encoding::EntryRun,
    error::ReadError,
    heads::Ask,
    lease::{Lease, LeasedPage},
    reads::PageRequest,
    shared::Membership,
    shared_read::{SharedPage, SharedRead, Sharing},
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
    latch: Latch,
    next: Next,
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
    Reading { read: Arc<SharedRead>, slot: Option<usize>, request: PageRequest, verdict: Verdict },
    /// A page that is being handed out: the reset first, then its runs from `run` on.
    Page { lease: Arc<Lease>, holds: Holds, reset: Option<Reason>, run: usize },
}

/// What is in a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holds {
    Entries,
    /// Only a position was asked for: it takes no room.
    Position,
}

/// Whether a subscriber has room for a page, of which it holds one at a time whatever the number of its channels.
#[derive(Clone, Copy, Debug)]
pub(super) enum PageRoom {
    Free(Limit),
    Taken,
}

/// What a channel reader has to hand out.
#[derive(Debug)]
pub(super) enum Ready {
    Run(Arc<EntryRun>),
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

impl ChannelReader {
    /// The only channel of a subscription: its first page decides its start.
    pub(super) fn only(membership: Membership, start: ChannelStart) -> Self {
        let channel_reader = Self::one_of_several(membership, start);
        match (&channel_reader.next, start) {
            (_, (Start::Latest, None)) | (Next::At { .. }, _) => channel_reader,
            (_, start) => {
                let (start, verdict) = Verdict::of(start);
                let behind = Step::Behind { start, verdict, sharing: Sharing::Overlapping };
                Self { next: Next::Store(Box::new(behind)), ..channel_reader }
            }
        }
    }

    pub(super) fn one_of_several(membership: Membership, start: ChannelStart) -> Self {
        let (position, next) = match start {
            (Start::After(cursor), None) => (Some(cursor), Next::At { cursor, verified: None }),
            start => (None, Next::Store(Box::new(Step::Begin(start)))),
        };
        Self { membership, position, latch: Latch::Undecided, next }
    }

    pub(super) fn channel(&self) -> &Channel {
        self.membership.topic.channel()
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
            _ => self.latch == Latch::Passed,
        }
    }

    /// Whether the channel is closed and nothing of it is left to hand out.
    pub(super) fn is_at_end(&self) -> bool {
        match self.next {
            Next::At { cursor, .. } => {
                matches!(self.membership.topic.peek(cursor), TopicLookup::CaughtUp { closed: true })
            }
            ref next => matches!(next, Next::Ended),
        }
    }

    /// Whether nothing can have come since this was last looked at, and `cx` will be woken when something does.
    pub(super) fn is_parked(&self, cx: &Context<'_>) -> bool {
        self.membership.topic.is_parked(&self.membership.slot, cx)
    }

    /// Whether it holds the subscriber's page, or reads it.
    pub(super) fn has_page(&self) -> bool {
        let Next::Store(step) = &self.next else { return false };
        match &**step {
            Step::Reading { request, .. } => request.limit != Limit::POSITION,
            Step::Page { holds, .. } => *holds == Holds::Entries,
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
                    Step::Behind { start, verdict, sharing } => self.look_for_room(*start, *verdict, *sharing, room),
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

    /// Takes at most `most` events of the run that was seen.
    pub(super) fn take(&mut self, run: Arc<EntryRun>, most: usize) -> Events {
        let events = Events::first(run, most);
        match events.is_whole() {
            true => self.membership.slot.take_run(),
            false => self.membership.slot.take_part_of_run(),
        }
        self.position = Some(events.next());
        self.pass_latch(events.next());
        match self.step() {
            Some(Step::Page { run, .. }) if events.is_whole() => *run += 1,
            _ => self.next = Next::At { cursor: events.next(), verified: None },
        }
        events
    }

    /// Takes the reset that was seen.
    pub(super) fn take_reset(&mut self) {
        let Some(Step::Page { lease, reset, .. }) = self.step() else { return };
        // Given back since it was seen: the reset is told by the failure that comes instead.
        let Some(LeasedPage { page, .. }) = lease.page() else { return };
        let (from, head) = (page.from, page.head.cursor);
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
            self.latch =
                self.membership.topic.head().map_or(Latch::Undecided, |head| Latch::Head(Box::new(head.cursor)));
        }
    }

    fn pass_latch(&mut self, position: Cursor) {
        // At the ring's head: what decided the start is what it passed.
        self.latch_ring();
        if self.latch.is_passed_at(position) {
            self.latch = Latch::Passed;
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
