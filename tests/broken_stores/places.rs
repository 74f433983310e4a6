//! A harness whose places can be reopened, wiped and made to fail, and the defects that show only then.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_core::Stream;
use tower_events::{
    Channel, Event, MemoryStore, Retention, Store, StoreError,
    store::{Append, Appended, Change, Clock, Expect, Head, Health, Limit, Page, Start},
    testing::{FaultStore, Harness, MemoryHarness, Time, Unable},
};

/// How the places are broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PlaceDefect {
    Nothing,
    /// Limits apply as they were when the place was created.
    KeepsTheFirstLimits,
    /// Lowered limits apply at once.
    LowersAtOnce,
    /// The largest limits that were ever set apply for ever.
    NeverLowers,
    /// The reported retention is the one with which the place was created.
    ReportsTheFirstLimits,
    /// A wiped place loses its channels, but not its epoch.
    KeepsTheEpoch,
    /// Health does not report a failure.
    HidesTrouble,
    /// Health reports a failure that has ended.
    StaysInTrouble,
}

/// A harness with this defect.
#[derive(Clone, Copy)]
pub(crate) struct Places(pub(crate) PlaceDefect);

pub(crate) struct Place {
    store: FaultStore<MemoryStore>,
    now: Arc<AtomicU64>,
    first: Retention,
    /// Until when the limits from before the last reopening apply.
    before: Mutex<Option<u64>>,
}

impl Places {
    fn reopened(self, mut place: Place, own: Retention) -> Place {
        let inner = place.store.inner();
        let largest = largest(&inner.retention(), &own);
        let all = match self.0 {
            PlaceDefect::KeepsTheFirstLimits => &place.first,
            PlaceDefect::LowersAtOnce => &own,
            _ => &largest,
        };
        let until = (self.0 != PlaceDefect::NeverLowers).then(|| place.now.load(Ordering::SeqCst) + GRACE_PERIOD);
        let inner = inner.reopened(own.clone(), all);
        place.store = FaultStore::new(inner).0;
        Place { before: Mutex::new(until), ..place }
    }
}

impl Harness for Places {
    type Store = ReportsRetention;
    type Place = Place;

    async fn place(&self, retention: Retention) -> Place {
        let now = Arc::new(AtomicU64::new(1_732_094_400_000));
        let clock = Arc::clone(&now);
        let store = MemoryStore::new(retention.clone()).clock(Clock::new(move || clock.load(Ordering::SeqCst)));
        Place { store: FaultStore::new(store).0, now, first: retention, before: Mutex::default() }
    }

    async fn open(&self, place: &Place) -> ReportsRetention {
        let reported =
            if self.0 == PlaceDefect::ReportsTheFirstLimits { place.first.clone() } else { place.store.retention() };
        ReportsRetention { store: place.store.clone(), reported }
    }

    fn time(&self) -> Time {
        MemoryHarness.time()
    }

    async fn advance(&self, place: &Place, by: Duration) {
        let now = place.now.fetch_add(by.as_millis() as u64, Ordering::SeqCst) + by.as_millis() as u64;
        if place.before.lock().unwrap().take_if(|until| *until < now).is_some() {
            let own = place.store.retention();
            _ = place.store.inner().reopened(own.clone(), &own);
        }
    }

    async fn reopen(&self, place: Place, retention: Retention) -> Result<Place, Unable> {
        Ok(self.reopened(place, retention))
    }

    async fn wipe(&self, place: Place, retention: Retention) -> Place {
        if self.0 != PlaceDefect::KeepsTheEpoch {
            return self.place(retention).await;
        }
        for (channel, _) in place.store.channels("", None, 1000).await.unwrap() {
            place.store.delete(&channel).await.unwrap();
        }
        place
    }

    async fn begin_trouble(&self, place: &Place) -> Result<(), Unable> {
        place.store.faults().fail_next_appends(usize::MAX);
        place.store.faults().report((self.0 != PlaceDefect::HidesTrouble).then_some(Health::Unavailable));
        Ok(())
    }

    async fn end_trouble(&self, place: &Place) {
        place.store.faults().fail_next_appends(0);
        place.store.faults().report((self.0 == PlaceDefect::StaysInTrouble).then_some(Health::Degraded));
    }
}

/// The larger of each setting.
fn largest(one: &Retention, other: &Retention) -> Retention {
    Retention::default()
        .events(one.events.max(other.events))
        .bytes(one.bytes.max(other.bytes))
        .age(one.age.max(other.age))
        .forget_after(one.forget_after.max(other.forget_after))
        .key_window(one.key_window.max(other.key_window))
}

/// How long limits still apply after they were lowered, in milliseconds.
const GRACE_PERIOD: u64 = 5 * 60 * 1000;

/// A store that reports this retention.
pub(crate) struct ReportsRetention {
    store: FaultStore<MemoryStore>,
    reported: Retention,
}

impl Store for ReportsRetention {
    async fn append(&self, channel: &Channel, append: Append) -> Result<Appended, StoreError> {
        self.store.append(channel, append).await
    }

    async fn read(&self, channel: &Channel, start: Start, limit: Limit) -> Result<Page, StoreError> {
        self.store.read(channel, start, limit).await
    }

    async fn heads(&self, channels: &[Channel]) -> Result<Vec<Head>, StoreError> {
        self.store.heads(channels).await
    }

    async fn init(&self, channel: &Channel, events: Vec<Event>, expect: Expect) -> Result<Head, StoreError> {
        self.store.init(channel, events, expect).await
    }

    async fn delete(&self, channel: &Channel) -> Result<(), StoreError> {
        self.store.delete(channel).await
    }

    async fn channels(
        &self,
        prefix: &str,
        after: Option<&Channel>,
        limit: usize,
    ) -> Result<Vec<(Channel, Head)>, StoreError> {
        self.store.channels(prefix, after, limit).await
    }

    fn changes(&self) -> impl Stream<Item = Change> + Send + 'static {
        self.store.changes()
    }

    fn retention(&self) -> Retention {
        self.reported.clone()
    }

    fn health(&self) -> Health {
        self.store.health()
    }
}
