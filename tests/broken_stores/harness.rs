//! The harness of these tests, with all optional abilities of a harness or with none.

use std::time::Duration;

use tower_events::{
    Channel, MemoryStore, Retention, Store,
    store::Clock,
    testing::{Harness, MemoryHarness, MemoryPlace, Time, Unable},
};

/// What a harness can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Abilities {
    /// Open a store, move the clock, and truncate a log.
    All,
    /// Open a store; everything else is the trait's default. Time is tokio's, which is paused in these tests.
    OpenOnly,
}

/// Opens memory stores wrapped by `wrap`.
pub(crate) struct TestHarness<F> {
    pub(crate) abilities: Abilities,
    pub(crate) wrap: F,
}

pub(crate) struct Place {
    all: MemoryPlace,
    plain: MemoryStore,
}

impl<S: Store, F: Fn(MemoryStore) -> S + Send + Sync + 'static> Harness for TestHarness<F> {
    type Store = S;
    type Place = Place;

    async fn place(&self, retention: Retention) -> Place {
        let began = tokio::time::Instant::now();
        let clock = Clock::new(move || 1_732_094_400_000 + began.elapsed().as_millis() as u64);
        let plain = MemoryStore::new(retention.clone()).clock(clock);
        Place { all: MemoryHarness.place(retention).await, plain }
    }

    async fn open(&self, place: &Place) -> S {
        (self.wrap)(match self.abilities {
            Abilities::All => MemoryHarness.open(&place.all).await,
            Abilities::OpenOnly => place.plain.clone(),
        })
    }

    fn time(&self) -> Time {
        match self.abilities {
            Abilities::All => MemoryHarness.time(),
            // The trait's default.
            Abilities::OpenOnly => Time::Real { unit: Duration::from_millis(50) },
        }
    }

    async fn advance(&self, place: &Place, by: Duration) {
        match self.abilities {
            Abilities::All => MemoryHarness.advance(&place.all, by).await,
            Abilities::OpenOnly => tokio::time::sleep(by).await,
        }
    }

    async fn step_back(&self, place: &Place, by: Duration) -> Result<(), Unable> {
        match self.abilities {
            Abilities::All => MemoryHarness.step_back(&place.all, by).await,
            Abilities::OpenOnly => Err(Unable("as by default")),
        }
    }

    async fn lose_tail(&self, place: &Place, channel: &Channel, n: u64) -> Result<(), Unable> {
        match self.abilities {
            Abilities::All => MemoryHarness.lose_tail(&place.all, channel, n).await,
            Abilities::OpenOnly => Err(Unable("as by default")),
        }
    }
}
