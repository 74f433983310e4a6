//! Popular clients against the services: each follows a channel over connections that are cut repeatedly, and must deliver every
//! event once and in order, and no empty message.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a helper that panics is a failed test"
)]

mod clients;
mod cuts;
mod first_event;
mod follower;
#[path = "../../../tests/support/mod.rs"]
mod support;

use std::time::Duration;

use support::{Server, serve};
use tower_events::{Channels, EventService, Hub, MemoryStore, sse::SseOptions};

/// Defines a test of this scenario for each client that reads event streams.
macro_rules! with_each_client {
    ($scenario:ident) => {
        with_each_client! { $scenario:
            eventsource_client_in_rust reqwest_eventsource_in_rust
            eventsource_in_node eventsource_client_in_node event_source_polyfill_in_node
            launchdarkly_eventsource_in_node fetch_event_source_in_node
            httpx_sse_in_python aiohttp_sse_client2_in_python sseclient_py_in_python requests_sse_in_python
            requests_in_python
        }
    };
    ($scenario:ident: $($client:ident)*) => {
        mod with { $(#[tokio::test] async fn $client() { super::$scenario(crate::clients::$client).await; })* }
    };
}
use with_each_client;

async fn start() -> (Hub, Server) {
    let hub = Hub::new(MemoryStore::default());
    let soon = SseOptions::default().retry(Duration::from_millis(20));
    let service = EventService::new(hub.clone(), Channels::from_query).sse(soon);
    (hub, serve(service).await)
}

/// The panic message if the clients are not installed.
const PREPARE: &str = "run interop/prepare once before these tests";
