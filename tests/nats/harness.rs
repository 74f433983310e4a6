//! How the suite opens stores on a server: each place is a stream of its own, under a clock that the suite moves.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tower_events::{
    Channel, NatsStore, Retention,
    store::Clock,
    testing::{Harness, Time, Unable},
};

use crate::server::Server;

/// Opens stores on this server.
pub struct NatsHarness(pub Arc<Server>);

/// A stream, by its prefix.
pub struct NatsPlace {
    server: Arc<Server>,
    prefix: String,
    retention: Retention,
    now: Arc<AtomicU64>,
}

impl NatsHarness {
    pub fn new(binary: PathBuf) -> Self {
        Self(Arc::new(Server::start(&binary)))
    }
}

impl Harness for NatsHarness {
    type Store = NatsStore;
    type Place = NatsPlace;

    async fn place(&self, retention: Retention) -> NatsPlace {
        static SERIAL: AtomicU64 = AtomicU64::new(0);
        let prefix = format!("place-{}", SERIAL.fetch_add(1, Ordering::Relaxed));
        let now = Arc::new(AtomicU64::new(1_732_094_400_000));
        NatsPlace { server: Arc::clone(&self.0), prefix, retention, now }
    }

    async fn open(&self, place: &NatsPlace) -> NatsStore {
        let now = Arc::clone(&place.now);
        let options = NatsStore::options()
            .prefix(&place.prefix)
            .retention(place.retention.clone())
            .clock(Clock::new(move || now.load(Ordering::SeqCst)));
        options.connect(&place.server.url()).await.expect("a store")
    }

    fn time(&self) -> Time {
        Time::Controlled
    }

    async fn advance(&self, place: &NatsPlace, by: Duration) {
        place.now.fetch_add(by.as_millis() as u64, Ordering::SeqCst);
    }

    async fn step_back(&self, place: &NatsPlace, by: Duration) -> Result<(), Unable> {
        place.now.fetch_sub(by.as_millis() as u64, Ordering::SeqCst);
        Ok(())
    }

    async fn lose_tail(&self, place: &NatsPlace, channel: &Channel, n: u64) -> Result<(), Unable> {
        self.open(place).await.lose_tail(channel, n).await.expect("a cut");
        Ok(())
    }
}
