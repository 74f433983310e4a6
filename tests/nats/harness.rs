//! How the suite opens stores on a server: each place is a stream of its own, with a clock that the suite moves.

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
    stores::nats::NatsOptions,
    testing::{Harness, Time, Unable},
};

use crate::{faults::api, grant, server::Server};

/// Opens stores on a server.
pub struct NatsHarness {
    server: Arc<Server>,
    users: Users,
    places: AtomicU64,
}

/// The user as which the stores connect.
#[derive(Clone, Copy)]
enum Users {
    Anybody,
    /// Each stream has a user with exactly the permissions that the store needs there.
    Granted,
}

/// A stream, by its prefix.
pub struct NatsPlace {
    server: Arc<Server>,
    users: Users,
    prefix: String,
    retention: Retention,
    now: Arc<AtomicU64>,
}

impl NatsHarness {
    pub fn new(binary: PathBuf) -> Self {
        Self { server: Arc::new(Server::start(&binary)), users: Users::Anybody, places: AtomicU64::new(0) }
    }

    pub fn granted(binary: PathBuf) -> Self {
        let prefixes: Vec<_> = (0..MOST_PLACES).map(|nth| format!("place-{nth}")).collect();
        let users: Vec<_> = prefixes.iter().map(|prefix| grant::user(prefix, &grant::Grant::of(prefix))).collect();
        let config = grant::config(&users);
        let server = Arc::new(Server::with_config(&binary, Some(config)));
        Self { server, users: Users::Granted, places: AtomicU64::new(0) }
    }
}

impl Harness for NatsHarness {
    type Store = NatsStore;
    type Place = NatsPlace;

    async fn place(&self, retention: Retention) -> NatsPlace {
        let nth = self.places.fetch_add(1, Ordering::Relaxed);
        assert!(nth < MOST_PLACES, "too few users");
        let now = Arc::new(AtomicU64::new(1_732_094_400_000));
        let (server, users) = (Arc::clone(&self.server), self.users);
        NatsPlace { server, users, prefix: format!("place-{nth}"), retention, now }
    }

    async fn open(&self, place: &NatsPlace) -> NatsStore {
        let options = match place.users {
            Users::Anybody => place.options(),
            Users::Granted => grant::known_as(place.options(), &place.prefix),
        };
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
        let options = match place.users {
            Users::Anybody => place.options(),
            Users::Granted => grant::as_admin(place.options()),
        };
        let store = options.connect(&place.server.url()).await.expect("a store");
        store.lose_tail(channel, n).await.expect("a cut");
        Ok(())
    }

    async fn reopen(&self, place: NatsPlace, retention: Retention) -> Result<NatsPlace, Unable> {
        Ok(NatsPlace { retention, ..place })
    }

    /// Deletes the stream.
    async fn wipe(&self, place: NatsPlace, retention: Retention) -> NatsPlace {
        let admin = match place.users {
            Users::Anybody => async_nats::ConnectOptions::new(),
            Users::Granted => async_nats::ConnectOptions::with_user_and_password("admin".into(), "s3cret".into()),
        };
        let admin = admin.connect(self.server.url()).await.expect("a client");
        let answer = api(&admin, &format!("STREAM.DELETE.{}", place.prefix), "").await;
        assert_eq!(answer["success"], true, "{answer}");
        NatsPlace { retention, ..place }
    }

    /// Makes the server hang.
    async fn begin_trouble(&self, _: &NatsPlace) -> Result<(), Unable> {
        self.server.pause();
        Ok(())
    }

    async fn end_trouble(&self, _: &NatsPlace) {
        self.server.go_on();
    }
}

impl NatsPlace {
    fn options(&self) -> NatsOptions {
        let now = Arc::clone(&self.now);
        let options = NatsStore::options().prefix(&self.prefix).retention(self.retention.clone());
        options.clock(Clock::new(move || now.load(Ordering::SeqCst)))
    }
}

/// The maximum number of places of one harness.
const MOST_PLACES: u64 = 300;
