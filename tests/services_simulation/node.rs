//! A process: a hub on the shared store, which it may fail to reach, and the services on a server in memory.

use std::time::{Duration, SystemTime};

use axum::Router;
use fastrand::Rng;
use http::request::Parts;
use tower_events::{
    Channels, EventService, Grant, Hub, HubOptions, MemoryStore, PublishService, Rejection,
    store::Limit,
    testing::{FaultStore, Faults},
};

use crate::support::{Server, serve_in_memory};

pub(crate) struct Node {
    pub(crate) hub: Hub,
    pub(crate) faults: Faults,
    pub(crate) server: Server,
}

impl Node {
    pub(crate) fn start(store: &MemoryStore, rng: &mut Rng) -> Self {
        let (store, faults) = FaultStore::new(store.clone());
        let options = HubOptions::default()
            .ring_bytes(rng.usize(1..1_500))
            .page(Limit::new(rng.usize(1..9), rng.usize(1..2_000)))
            .max_reads(rng.usize(1..4))
            .max_waiting_reads(rng.usize(2..30))
            .max_readers(rng.usize(4..20))
            .max_readers_per_subject(rng.usize(2..6))
            .stall_timeout(Duration::from_secs(rng.u64(5..60)))
            .linger(Duration::from_secs(rng.u64(0..5)));
        let hub = Hub::with_options(store, options);
        let events = EventService::new(hub.clone(), granted);
        let publish = PublishService::new(hub.clone(), Channels::from_query);
        let router = Router::new().route_service("/events", events).route_service("/publish", publish);
        Self { hub, faults, server: serve_in_memory(router) }
    }

    /// Ends all that goes wrong.
    pub(crate) fn mend(&self) {
        self.faults.fail_next_reads(0);
        self.faults.fail_next_heads(0);
        self.faults.fail_next_appends(0);
        self.faults.lose_next_appends(0);
        self.faults.lose_next_answers(0);
        self.faults.cut_next_reads(0);
        self.faults.lose_hints(0);
        self.faults.duplicate_hints(0);
        self.faults.reorder_hints(0);
        self.faults.delay(Duration::ZERO);
    }
}

/// Access to the channels of the query, as the user that it names, for as many seconds as it says.
fn granted(request: &Parts) -> Result<Grant, Rejection> {
    let parameter = |name: &str| {
        let query = request.uri.query().unwrap_or_default();
        form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
    };
    let grant = Grant::new(Channels::from_query(request)?);
    let grant = match parameter("user") {
        Some(user) => grant.subject(user),
        None => grant,
    };
    Ok(match parameter("seconds") {
        Some(seconds) => grant.until(SystemTime::now() + Duration::from_secs(seconds.parse().unwrap())),
        None => grant,
    })
}
