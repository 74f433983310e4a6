//! What a channel reader is doing, and the transitions between its states.

use std::{sync::Arc, task::Context};

use super::start::{HistoryEnd, ResetRule};
use crate::{
    channel::Channel,
    cursor::Cursor,
    hub::{
        delivery::{Closed, Failed, Reset, Snapshot},
        entry_run::EntryRun,
        error::ReadError,
        head_requests::HeadRequest,
        lease::Lease,
        membership::Membership,
        moment::Moment,
        page_reads::PageRequest,
        read_options::ReadOptions,
        shared_page::SharedPage,
        shared_read::{SharedRead, Sharing},
        snapshot_request::{ChannelSnapshots, SnapshotRequest},
        subscription::ChannelStart,
    },
    store::{Limit, Reason, Start, StoreError},
};

#[derive(Debug)]
pub(in crate::hub) struct ChannelReader {
    pub(super) membership: Membership,
    /// Where a client resumes that has received what was handed out so far. A reset moves it only when it is handed out: a
    /// client that disconnected before would resume after the reset and never learn of it.
    pub(super) position: Option<Cursor>,
    pub(super) history_end: HistoryEnd,
    pub(super) state: State,
    /// Boxed: most readers have none.
    pub(super) extras: Option<Box<Extras>>,
}

/// What few readers need.
#[derive(Debug)]
pub(super) struct Extras {
    pub(super) options: Arc<ReadOptions>,
    pub(super) snapshots: Option<ChannelSnapshots>,
}

#[derive(Debug)]
pub(super) enum State {
    /// Reads after `cursor` from the ring. `verified` is the topic's version at which the store confirmed that nothing follows.
    FromRing { cursor: Cursor, verified: Option<u64> },
    /// Needs the store. Boxed: most readers keep up, and there are many of them.
    FromStore(Box<StoreStep>),
    /// A read failed, which is still to be handed out.
    Failed(ReadError),
    /// The data cannot be read, which was handed out.
    Corrupt(Arc<StoreError>),
    /// The close was handed out.
    Ended,
}

#[derive(Debug)]
pub(super) enum StoreStep {
    /// One of several channels: the positions of all are decided before anything of any is read.
    NotStarted(ChannelStart),
    /// Asks for the head, to start there, or because `cursor` may be the head already. `version` is the topic's before that.
    HeadRequested {
        head: Arc<HeadRequest>,
        slot: Option<usize>,
        version: u64,
        cursor: Option<Cursor>,
    },
    /// Has to read a page once there is a slot for it.
    PageNeeded {
        start: Start,
        reset_rule: ResetRule,
        sharing: Sharing,
    },
    PageRequested {
        read: Arc<SharedRead>,
        slot: Option<usize>,
        request: PageRequest,
        reset_rule: ResetRule,
    },
    /// A page is being handed out: the reset first, then its runs from index `run` on.
    PageReady {
        lease: Arc<Lease>,
        contents: PageContents,
        reset: Option<Reason>,
        run: usize,
    },
    /// Needs a snapshot. Its reset is handed out with it, so that a client that was told of one is not left waiting for the
    /// other.
    SnapshotRequested {
        request: SnapshotRequest,
        reset: Option<Box<Reset>>,
    },
    /// Both are being handed out, the reset first.
    SnapshotReady {
        snapshot: Snapshot,
        reset: Option<Box<Reset>>,
        since: Moment,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PageContents {
    Entries,
    /// What the reader's filter left already, and its compaction.
    Folded,
    /// Needs no page slot.
    PositionOnly,
}

/// Whether the subscriber may hold a page: it holds one at a time, however many channels it has.
#[derive(Clone, Copy, Debug)]
pub(in crate::hub) enum PageSlot {
    Free(Limit),
    Taken,
}

/// What a channel reader can hand out.
#[derive(Debug)]
pub(in crate::hub) enum Peeked {
    Run(Arc<EntryRun>),
    /// Nothing yet: these entries were hidden by the filter, and the reader's position is after them.
    Skipped {
        entries: usize,
    },
    Reset(Reset),
    Snapshot(Snapshot),
    Closed(Closed),
    Failed(ReadError),
    /// Nothing; woken when something comes.
    Parked,
    /// Nothing yet: a call to the store is under way.
    ReadPending,
    /// Nothing yet: a page has to be read, and the slot is taken.
    NeedsPageSlot,
    /// Nothing ever again: its failure was handed out.
    Corrupt,
    /// Nothing ever again: its close was handed out.
    Ended,
}

impl ChannelReader {
    /// The only channel of a subscription: its first page decides its start, unless its options need the position first.
    pub(in crate::hub) fn only(membership: Membership, start: ChannelStart, options: Option<Arc<ReadOptions>>) -> Self {
        let reader = Self::one_of_several(membership, start, options);
        match (&reader.state, start) {
            (_, (Start::Latest, None)) | (State::FromRing { .. }, _) => reader,
            _ if reader.options().is_some_and(ReadOptions::position_comes_first) => reader,
            (_, start) => {
                let (start, reset_rule) = ResetRule::of(start);
                let step = StoreStep::PageNeeded { start, reset_rule, sharing: Sharing::Overlapping };
                Self { state: State::FromStore(Box::new(step)), ..reader }
            }
        }
    }

    pub(in crate::hub) fn one_of_several(
        membership: Membership,
        start: ChannelStart,
        options: Option<Arc<ReadOptions>>,
    ) -> Self {
        let (position, state) = match start {
            (Start::After(cursor), None) => (Some(cursor), State::FromRing { cursor, verified: None }),
            start => (None, State::FromStore(Box::new(StoreStep::NotStarted(start)))),
        };
        let extras = options.map(|options| Box::new(Extras { options, snapshots: None }));
        Self { membership, position, history_end: HistoryEnd::Undecided, state, extras }
    }

    pub(super) fn options(&self) -> Option<&ReadOptions> {
        self.extras.as_ref().map(|extras| &*extras.options)
    }

    pub(super) fn has_snapshots(&self) -> bool {
        self.extras.as_ref().is_some_and(|extras| extras.snapshots.is_some())
    }

    pub(in crate::hub) fn channel(&self) -> &Channel {
        self.membership.topic.channel()
    }

    pub(in crate::hub) fn position(&self) -> Option<Cursor> {
        self.position
    }

    /// Whether its start is decided.
    pub(in crate::hub) fn has_started(&self) -> bool {
        self.history_end != HistoryEnd::Undecided
    }

    /// Whether its close was handed out.
    pub(in crate::hub) fn is_ended(&self) -> bool {
        matches!(self.state, State::Ended)
    }

    /// Whether the store failed it, handed out or not.
    pub(in crate::hub) fn has_failed(&self) -> bool {
        matches!(self.state, State::Failed(_) | State::Corrupt(_))
    }

    /// Whether everything that was stored when its start or last reset was decided is handed out. A failed channel does not
    /// keep the others from being live.
    pub(in crate::hub) fn is_live(&self) -> bool {
        match self.state {
            State::Failed(_) | State::Corrupt(_) | State::Ended => true,
            _ => self.history_end == HistoryEnd::Reached,
        }
    }

    /// Whether nothing came since the last peek, and `cx` will be woken when something does.
    pub(in crate::hub) fn is_parked(&self, cx: &Context<'_>) -> bool {
        self.membership.topic.is_parked(&self.membership.slot, cx)
    }

    /// Whether it occupies the page slot: it holds a page, or is reading one.
    pub(in crate::hub) fn has_page(&self) -> bool {
        let State::FromStore(step) = &self.state else { return false };
        match &**step {
            StoreStep::PageRequested { request, .. } => request.limit != Limit::POSITION,
            StoreStep::PageReady { contents, .. } => *contents != PageContents::PositionOnly,
            _ => false,
        }
    }

    /// Whether the reader's filter was applied to what it hands out.
    pub(super) fn is_filtered(&self) -> bool {
        let State::FromStore(step) = &self.state else { return false };
        matches!(**step, StoreStep::PageReady { contents: PageContents::Folded, .. })
    }

    /// The failure that was handed out, after which nothing comes.
    pub(in crate::hub) fn corrupt(&self) -> Option<&Arc<StoreError>> {
        if let State::Corrupt(error) = &self.state { Some(error) } else { None }
    }

    pub(in crate::hub) fn failed(&self, error: Arc<StoreError>) -> Failed {
        Failed { channel: self.channel().clone(), error }
    }

    pub(super) fn has_max_behind(&self) -> bool {
        self.options().is_some_and(|options| options.max_behind.is_some())
    }

    pub(super) fn is_too_far_behind(&self, position: Cursor, head: Cursor) -> bool {
        self.options().is_some_and(|options| options.is_too_far_behind(position, head))
    }

    pub(super) fn reset(&self, page: &SharedPage, reason: Reason) -> Reset {
        Reset {
            channel: self.channel().clone(),
            reason,
            earliest: page.from,
            latest: page.head.cursor,
            snapshot_follows: self.has_snapshots(),
        }
    }

    pub(super) fn closed(&self, cursor: Cursor) -> Closed {
        Closed { channel: self.channel().clone(), cursor }
    }
}

/// Transitions. Those of a peek return `None`: there is nothing to hand out until the next state was looked at.
impl ChannelReader {
    pub(super) fn step(&mut self) -> Option<&mut StoreStep> {
        if let State::FromStore(step) = &mut self.state { Some(step) } else { None }
    }

    pub(super) fn set_step(&mut self, step: StoreStep) -> Option<Peeked> {
        match &mut self.state {
            State::FromStore(current) => **current = step,
            state => *state = State::FromStore(Box::new(step)),
        }
        None
    }

    pub(super) fn need_page(&mut self, start: Start, sharing: Sharing) -> Option<Peeked> {
        self.set_step(StoreStep::PageNeeded { start, reset_rule: ResetRule::ByOutcome, sharing })
    }

    pub(super) fn follow_ring(&mut self, cursor: Cursor) -> Option<Peeked> {
        self.state = State::FromRing { cursor, verified: None };
        None
    }

    pub(super) fn fail(&mut self, error: ReadError) -> Option<Peeked> {
        self.state = State::Failed(error);
        None
    }

    /// Everything up to `position` is handed out or known to be empty.
    pub(super) fn note_position(&mut self, position: Cursor) {
        // At the ring's head: what decided the start lies behind it.
        self.end_history_at_ring_head();
        if self.history_end.is_reached_at(position) {
            self.history_end = HistoryEnd::Reached;
        }
    }

    /// The ring decides the start, if nothing did before.
    pub(super) fn end_history_at_ring_head(&mut self) {
        if self.history_end == HistoryEnd::Undecided {
            let head = self.membership.topic.head();
            self.history_end = head.map_or(HistoryEnd::Undecided, |head| HistoryEnd::At(Box::new(head.cursor)));
        }
    }
}
