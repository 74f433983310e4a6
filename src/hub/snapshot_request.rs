//! The snapshot that one reader of a channel waits for. A channel that is trimmed faster than its state is read and sent would
//! reset its readers for ever: a reader that was reset right where its last snapshot left it waits before it asks again.

use std::{
    future::Future as _,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::time::{Sleep, sleep};

use super::{
    delivery::Snapshot, error::ReadError, moment::Moment, read_options::ReadOptions, shared::Shared,
    snapshot_calls::SnapshotSource, snapshot_flights::Flight,
};
use crate::{channel::Channel, cursor::Cursor, store::kit::jittered};

/// The snapshots of one channel of a subscription.
#[derive(Clone, Debug)]
pub(super) struct ChannelSnapshots {
    source: Arc<SnapshotSource>,
    /// Where the last one left the reader.
    last: Option<Cursor>,
    /// How many were followed by a reset at once.
    in_vain: u32,
}

impl ChannelSnapshots {
    /// `None` if there is no provider.
    pub(super) fn of(options: &ReadOptions) -> Option<Self> {
        SnapshotSource::of(options).map(|source| Self { source: Arc::new(source), last: None, in_vain: 0 })
    }

    /// One for a fresh start.
    pub(super) fn fresh(&self) -> SnapshotRequest {
        SnapshotRequest { decided: None, since: Moment::now(), delay: None, flight: None, slot: None }
    }

    /// One for a reader at `position` whose reset was decided by then.
    pub(super) fn after_reset(&mut self, position: Option<Cursor>, decided: Moment) -> SnapshotRequest {
        self.in_vain = if self.last.is_some() && self.last == position { self.in_vain + 1 } else { 0 };
        let delay = Some(backoff(self.in_vain)).filter(|delay| !delay.is_zero());
        let delay = delay.map(|delay| Box::pin(sleep(jittered(delay))));
        SnapshotRequest { decided: Some(decided), since: decided, delay, flight: None, slot: None }
    }

    /// Notes that a snapshot was handed out.
    pub(super) fn taken(&mut self, snapshot: &Snapshot) {
        self.last = Some(snapshot.cursor());
    }

    pub(super) fn poll(
        &self,
        request: &mut SnapshotRequest,
        shared: &Arc<Shared>,
        channel: &Channel,
        cx: &Context<'_>,
    ) -> Poll<Result<Snapshot, ReadError>> {
        if let Some(delay) = &mut request.delay {
            ready!(delay.as_mut().poll(&mut Context::from_waker(cx.waker())));
            request.delay = None;
        }
        let SnapshotRequest { decided, flight, slot, .. } = request;
        flight.get_or_insert_with(|| self.source.request(shared, channel, *decided)).poll(slot, cx)
    }
}

#[derive(Debug)]
pub(super) struct SnapshotRequest {
    /// When the reset was decided; `None` for a fresh start.
    decided: Option<Moment>,
    /// When the reader began, or its reset was decided.
    pub(super) since: Moment,
    delay: Option<Pin<Box<Sleep>>>,
    flight: Option<Arc<Flight>>,
    slot: Option<usize>,
}

/// None at first; then 200 ms, doubling up to 30 s.
fn backoff(in_vain: u32) -> Duration {
    match in_vain {
        0 => Duration::ZERO,
        _ => MAX_BACKOFF.min(Duration::from_millis(100 << in_vain.min(16))),
    }
}

const MAX_BACKOFF: Duration = Duration::from_secs(30);

#[cfg(all(test, not(tower_events_loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_delay_doubles_up_to_its_bound() {
        let delays: Vec<_> = [0, 1, 2, 3, 8, 9, 16, u32::MAX].map(|n| backoff(n).as_millis()).into();
        assert_eq!(delays, [0, 200, 400, 800, 25_600, 30_000, 30_000, 30_000]);
    }
}
