//! Which readers share a call of a snapshot provider. Bookkeeping only: `snapshot_calls` makes the calls.
//!
//! A *flight* reads a channel's head and then calls the provider; both are one value, so that a reader that joins takes both. Any
//! flight is complete for any reader: reading on from its head yields every event that its state may lack, or a reset. But
//! a reader that was reset makes progress only with a head that was read after that was decided, so it joins no earlier flight.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{sync::Semaphore, time::Instant};

use super::{
    admission::Admission,
    delivery::Snapshot,
    moment::Moment,
    outage::Outage,
    outage_log::OutageLog,
    shared_call::{CallStatus, SharedCall},
    sweep::SweepThreshold,
};
use crate::{channel::Channel, snapshot::Snapshots};

/// The snapshot's cursor is the head.
pub(super) type Flight = SharedCall<Snapshot>;

/// Whose state it is. A provider may serve several hubs, and the heads of each are its own.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct FlightKey {
    pub(super) hub: u64,
    pub(super) channel: Channel,
    /// Readers with different filters may not see the same.
    pub(super) filter_id: Option<Box<str>>,
}

/// All flights of one provider. Must not hold the provider, which keeps it.
#[derive(Debug)]
pub(super) struct SnapshotFlights {
    pub(super) admission: Admission,
    pub(super) outage: Outage,
    kept_bytes: AtomicUsize,
    channels: Mutex<Channels>,
}

#[derive(Debug, Default)]
struct Channels {
    flights: HashMap<FlightKey, ChannelFlights>,
    sweep_threshold: SweepThreshold,
}

/// At most one flight of a channel is under way, and one waits for its turn.
#[derive(Debug)]
struct ChannelFlights {
    turn: Arc<Semaphore>,
    waiting: Weak<Flight>,
    last: Option<BegunFlight>,
}

#[derive(Debug)]
struct BegunFlight {
    /// Before its head was read.
    moment: Moment,
    at: Instant,
    flight: Weak<Flight>,
}

pub(super) enum Joined {
    Existing(Arc<Flight>),
    /// The caller has to make it, when it has its turn.
    New(Arc<Flight>, Arc<Semaphore>),
}

impl SnapshotFlights {
    pub(super) fn new(snapshots: &Snapshots) -> Self {
        Self {
            admission: Admission::new(snapshots.most_concurrent(), MAX_QUEUED, snapshots.call_timeout()),
            outage: Outage::new("snapshots", Arc::new(OutageLog::of_snapshots())),
            kept_bytes: AtomicUsize::new(0),
            channels: Mutex::default(),
        }
    }

    /// Joins a flight whose head was, or will be, read after `decided`; any flight if that is `None`.
    pub(super) fn join(&self, key: &FlightKey, decided: Option<Moment>) -> Joined {
        let mut channels = self.channels();
        let flights = channels.entry(key);
        if let Some(flight) = flights.joinable(decided) {
            return Joined::Existing(flight);
        }
        let flight = Arc::new(Flight::new());
        flights.waiting = Arc::downgrade(&flight);
        Joined::New(flight, flights.turn.clone())
    }

    /// When the next flight of the channel may begin.
    pub(super) fn due(&self, key: &FlightKey) -> Option<Instant> {
        self.channels().flights.get(key)?.last.as_ref().map(|last| last.at + MIN_INTERVAL)
    }

    /// `flight` has waited and begins: its head is read next, after the moment that this returns.
    pub(super) fn begin(&self, key: &FlightKey, flight: Weak<Flight>) -> Moment {
        let mut channels = self.channels();
        let flights = channels.entry(key);
        // Another one waits if nobody was left that waited for this one.
        if flights.waiting.ptr_eq(&flight) {
            flights.waiting = Weak::new();
        }
        let moment = Moment::now();
        flights.last = Some(BegunFlight { moment, at: Instant::now(), flight });
        moment
    }

    /// Counts the bytes of a snapshot that is kept for readers to come, unless too many are.
    pub(super) fn keep(self: &Arc<Self>, bytes: usize) -> Option<KeptBytes> {
        let more = |kept: usize| kept.checked_add(bytes).filter(|kept| *kept <= MAX_KEPT_BYTES);
        self.kept_bytes.fetch_update(Relaxed, Relaxed, more).ok()?;
        Some(KeptBytes { flights: self.clone(), bytes })
    }

    fn channels(&self) -> MutexGuard<'_, Channels> {
        self.channels.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Channels {
    fn entry(&mut self, key: &FlightKey) -> &mut ChannelFlights {
        if !self.flights.contains_key(key) {
            let retain = |flights: &mut HashMap<_, ChannelFlights>| flights.retain(|_, flights| flights.is_used());
            self.sweep_threshold.before_adding(&mut self.flights, HashMap::len, retain);
        }
        let new = || ChannelFlights { turn: Arc::new(Semaphore::new(1)), waiting: Weak::new(), last: None };
        self.flights.entry(key.clone()).or_insert_with(new)
    }
}

impl ChannelFlights {
    fn joinable(&self, decided: Option<Moment>) -> Option<Arc<Flight>> {
        let is_later = |last: &&BegunFlight| decided.is_none_or(|decided| last.moment > decided);
        let begun = self.last.as_ref().filter(is_later).and_then(|last| last.flight.upgrade());
        let begun = begun.filter(|flight| !matches!(flight.status(), CallStatus::Failed));
        begun.or_else(|| self.waiting.upgrade().filter(|flight| matches!(flight.status(), CallStatus::Pending)))
    }

    fn is_used(&self) -> bool {
        let last = self.last.as_ref().map_or(0, |last| last.flight.strong_count());
        last + self.waiting.strong_count() > 0
    }
}

/// Dropping it stops counting.
#[derive(Debug)]
pub(super) struct KeptBytes {
    flights: Arc<SnapshotFlights>,
    bytes: usize,
}

impl Drop for KeptBytes {
    fn drop(&mut self) {
        self.flights.kept_bytes.fetch_sub(self.bytes, Relaxed);
    }
}

/// Least time between the starts of two flights of a channel: readers that are reset one after another share the next flight,
/// and a channel that trims faster than its state is read costs no more calls than that.
const MIN_INTERVAL: Duration = Duration::from_millis(100);

/// Most channels that wait for a call.
const MAX_QUEUED: usize = 1024;

/// Most bytes of snapshots that are kept for readers to come.
const MAX_KEPT_BYTES: usize = 16 << 20;
