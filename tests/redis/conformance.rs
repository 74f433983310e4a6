//! The conformance suite, one test per clause, on a server that all of them share.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use tower_events::{
    AnyStore, RedisStore, Retention,
    store::Clock,
    testing::{Harness, Time, Unable, Wrapped, clauses},
};

use super::server::Server;

/// Stores on one server; each place has a prefix of its own, and each store its own connections, as on another node.
struct RedisHarness {
    server: Server,
    places: AtomicU32,
}

struct Place {
    prefix: String,
    retention: Retention,
    now: Arc<AtomicU64>,
}

impl RedisHarness {
    async fn start() -> Option<Self> {
        Some(Self { server: Server::start(&[]).await?, places: AtomicU32::new(0) })
    }
}

impl Harness for RedisHarness {
    type Store = RedisStore;
    type Place = Place;

    async fn place(&self, retention: Retention) -> Place {
        let nth = self.places.fetch_add(1, Ordering::Relaxed);
        Place { prefix: format!("test-{nth}"), retention, now: Arc::new(AtomicU64::new(1_732_094_400_000)) }
    }

    async fn open(&self, place: &Place) -> RedisStore {
        let now = Arc::clone(&place.now);
        RedisStore::builder(self.server.url())
            .prefix(&place.prefix)
            .retention(place.retention.clone())
            .patience(Duration::from_secs(30))
            .clock(Clock::new(move || now.load(Ordering::SeqCst)))
            .connect()
            .await
            .expect("a store")
    }

    fn time(&self) -> Time {
        Time::Controlled
    }

    async fn advance(&self, place: &Place, by: Duration) {
        place.now.fetch_add(by.as_millis() as u64, Ordering::SeqCst);
    }

    async fn step_back(&self, place: &Place, by: Duration) -> Result<(), Unable> {
        place.now.fetch_sub(by.as_millis() as u64, Ordering::SeqCst);
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keeps_the_contract() {
    let Some(harness) = RedisHarness::start().await else { return };
    for clause in clauses::all() {
        println!("clause {}", clause.name());
        clause.run(&harness).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keeps_the_contract_erased() {
    let Some(harness) = RedisHarness::start().await else { return };
    let erased = Wrapped::new(harness, AnyStore::new);
    for clause in clauses::all() {
        println!("clause {}", clause.name());
        clause.run(&erased).await;
    }
}
