//! Reads a channel's head, then calls the snapshot provider, for all readers that need the state of a channel.

use std::{
    future::poll_fn,
    sync::{Arc, Weak},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::{
    runtime::Handle,
    sync::Semaphore,
    time::{sleep, sleep_until},
};

use super::{
    admission::Refused,
    delivery::Snapshot,
    error::ReadError,
    heads::request_head,
    moment::Moment,
    read_options::ReadOptions,
    shared::Shared,
    shared_call::Completion,
    snapshot_flights::{Flight, FlightKey, Joined, SnapshotFlights},
    stats::RefusedBy,
};
use crate::{
    channel::Channel,
    cursor::Cursor,
    snapshot::{SnapshotError, SnapshotRequest, Snapshots, State},
    store::Entry,
};

/// Where the snapshots of a subscription come from.
#[derive(Clone, Debug)]
pub(super) struct SnapshotSource {
    snapshots: Snapshots,
    flights: Arc<SnapshotFlights>,
    filter_id: Option<Box<str>>,
}

impl SnapshotSource {
    /// `None` if there is no provider.
    pub(super) fn of(options: &ReadOptions) -> Option<Self> {
        let snapshots = options.snapshots.as_ref()?;
        let make = || SnapshotFlights::new(snapshots);
        // Only hubs use providers, so nothing else is kept with one.
        let flights = snapshots.kept(make).unwrap_or_else(|| Arc::new(make()));
        let filter_id = options.filter.as_ref().map(|filter| filter.id().into());
        Some(Self { snapshots: snapshots.clone(), flights, filter_id })
    }

    /// Joins a flight whose head was, or will be, read after `decided`, or begins one; any flight if that is `None`.
    pub(super) fn request(&self, shared: &Arc<Shared>, channel: &Channel, decided: Option<Moment>) -> Arc<Flight> {
        let Ok(runtime) = Handle::try_current() else { return Arc::new(Flight::failed(ReadError::no_runtime())) };
        let key = FlightKey { hub: shared.id, channel: channel.clone(), filter_id: self.filter_id.clone() };
        let (flight, turn) = match self.flights.join(&key, decided) {
            Joined::Existing(flight) => return flight,
            Joined::New(flight, turn) => (flight, turn),
        };
        let call = SnapshotCall { source: self.clone(), shared: shared.clone(), key };
        let task = runtime.spawn(call.complete(turn, Arc::downgrade(&flight)));
        flight.set_task(task.abort_handle());
        flight
    }
}

struct SnapshotCall {
    source: SnapshotSource,
    shared: Arc<Shared>,
    key: FlightKey,
}

impl SnapshotCall {
    async fn complete(self, turn: Arc<Semaphore>, flight: Weak<Flight>) {
        let completion = Completion::new(flight);
        let result = self.result(&turn, completion.weak()).await;
        let bytes = result.as_ref().ok().map(Snapshot::size_in_memory);
        let kept = bytes.and_then(|bytes| self.source.flights.keep(bytes)).zip(completion.call());
        completion.complete(result);
        // The hub is not kept alive for this.
        drop(self);
        if kept.is_some() {
            sleep(KEEP_FOR).await;
        }
    }

    async fn result(&self, turn: &Semaphore, flight: Weak<Flight>) -> Result<Snapshot, ReadError> {
        let Self { source: SnapshotSource { snapshots, flights, .. }, shared, key } = self;
        // Never closed.
        let _turn = turn.acquire().await;
        if let Some(due) = flights.due(key) {
            sleep_until(due).await;
        }
        let permit = flights.admission.acquire().await;
        let _permit = permit.map_err(|Refused { retry, .. }| {
            shared.counters.refused(RefusedBy::WaitingSnapshots);
            ReadError::Overloaded { retry }
        })?;
        let asked = flights.begin(key, flight);
        // Position first, then state: every event at or below the position is in the state.
        let (request, mut slot) = (request_head(shared, &key.channel), None);
        let head = poll_fn(|cx| request.poll(&mut slot, cx)).await?;
        let state = snapshots.call(SnapshotRequest::new(key.channel.clone(), key.filter_id.clone())).await;
        let entry = state.map(|state| entry(&key.channel, head.cursor, state));
        match entry.and_then(|entry| bounded(entry, snapshots.most_bytes())) {
            Ok(entry) => {
                flights.outage.succeeded();
                Ok(Snapshot::new(entry, asked))
            }
            Err(error) => {
                flights.outage.failed(&error);
                Err(ReadError::Snapshot { retry: flights.outage.backoff(), error })
            }
        }
    }
}

fn entry(channel: &Channel, head: Cursor, state: State) -> Entry {
    let State { event, position } = state;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
    let time = event.time().unwrap_or(now);
    let (data, name) = event.into_parts();
    Entry::new(channel.clone(), position.unwrap_or(head), data).appended(now).at(time).named(name)
}

fn bounded(entry: Entry, max: usize) -> Result<Entry, SnapshotError> {
    let bytes = entry.size();
    if bytes > max { Err(SnapshotError::too_large(bytes, max)) } else { Ok(entry) }
}

/// How long a snapshot is kept for readers to come: clients that all come back do so within seconds.
const KEEP_FOR: Duration = Duration::from_secs(2);
