//! Snapshots in the place of events that are gone. **Position first, then state, and no position before its state**: until a
//! snapshot is handed out the reader's position stays what it was.

use std::task::{Context, Poll};

use super::{
    start::HistoryEnd,
    state::{ChannelReader, Peeked, State, StoreStep},
};
use crate::{
    hub::{shared_page::SharedPage, snapshot_request::ChannelSnapshots, subscription::ChannelBegin},
    store::Reason,
};

impl ChannelReader {
    /// With snapshots after every reset, and at first if nothing says where to begin.
    pub(in crate::hub) fn with_snapshots(self, snapshots: ChannelSnapshots, begin: ChannelBegin) -> Self {
        let state = match begin {
            ChannelBegin::Explicit => self.state,
            ChannelBegin::Fresh => {
                let step = StoreStep::SnapshotRequested { request: snapshots.fresh(), reset: None };
                State::FromStore(Box::new(step))
            }
        };
        let mut reader = Self { state, ..self };
        if let Some(extras) = &mut reader.extras {
            extras.snapshots = Some(snapshots);
        }
        reader
    }

    /// The read of `page` decided a reset.
    pub(super) fn need_snapshot(&mut self, page: &SharedPage, reason: Reason) -> Option<Peeked> {
        let reset = Some(Box::new(self.reset(page, reason)));
        let request = self.extras.as_mut()?.snapshots.as_mut()?.after_reset(self.position, page.read_by);
        self.set_step(StoreStep::SnapshotRequested { request, reset })
    }

    pub(super) fn poll_snapshot(&mut self, cx: &Context<'_>) -> Option<Peeked> {
        // Registered here too, so that a wake of all readers reaches this one.
        self.membership.topic.register(&mut self.membership.slot, cx);
        let snapshots = self.extras.as_ref()?.snapshots.as_ref()?;
        let State::FromStore(step) = &mut self.state else { return None };
        let StoreStep::SnapshotRequested { request, reset } = &mut **step else { return None };
        match snapshots.poll(request, &self.membership.shared, self.membership.topic.channel(), cx) {
            Poll::Pending => Some(Peeked::ReadPending),
            Poll::Ready(Err(error)) => self.fail(error),
            Poll::Ready(Ok(snapshot)) => {
                let (reset, since) = (reset.take(), request.since);
                self.set_step(StoreStep::SnapshotReady { snapshot, reset, since })
            }
        }
    }

    pub(super) fn peek_snapshot(&self) -> Option<Peeked> {
        let State::FromStore(step) = &self.state else { return None };
        let StoreStep::SnapshotReady { snapshot, reset, .. } = &**step else { return None };
        Some(match reset {
            Some(reset) => Peeked::Reset((**reset).clone()),
            None => Peeked::Snapshot(snapshot.clone()),
        })
    }

    /// Takes the reset that was peeked, if a snapshot follows it.
    pub(super) fn take_reset_before_snapshot(&mut self) {
        let Some(StoreStep::SnapshotReady { reset, .. }) = self.step() else { return };
        if let Some(reset) = reset.take() {
            self.history_end = HistoryEnd::Undecided;
            self.membership.shared.counters.reset(reset.reason);
        }
    }

    /// Takes the snapshot that was peeked: it is the whole history up to its position. One that others have asked for may be older
    /// than this reader; then history goes on from there.
    pub(in crate::hub) fn take_snapshot(&mut self) {
        let State::FromStore(step) = &self.state else { return };
        let StoreStep::SnapshotReady { snapshot, since, .. } = &**step else { return };
        let cursor = snapshot.cursor();
        let history_end = if snapshot.is_as_of(*since) { HistoryEnd::Reached } else { HistoryEnd::Undecided };
        if let Some(snapshots) = self.extras.as_mut().and_then(|extras| extras.snapshots.as_mut()) {
            snapshots.taken(snapshot);
        }
        self.position = Some(cursor);
        self.history_end = history_end;
        self.follow_ring(cursor);
    }
}
