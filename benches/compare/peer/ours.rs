//! Our servers: the example server's frontends with their settings, in front of a memory store.

#[path = "../../../examples/server/app.rs"]
mod app;
#[path = "../../../examples/server/axum.rs"]
mod axum;
#[path = "../../../examples/server/connections.rs"]
#[allow(dead_code, reason = "only the defaults are used")]
pub(super) mod connections;
#[path = "../../../examples/server/hyper.rs"]
pub(super) mod hyper;
#[path = "../../../examples/server/socket.rs"]
mod socket;

use std::{future::pending, net::TcpListener, sync::Arc};

use http::Response;
use tower_events::{Channels, EventService, Hub, MemoryStore, PublishService, Retention, SseService};

use self::{app::App, connections::ConnectionLimits};
use super::tokio::run;

pub(crate) fn serve_in_axum(listener: TcpListener, workers: usize) {
    run(listener, workers, |listener| axum::serve(listener, app(), pending()));
}

pub(crate) fn serve_on_hyper(listener: TcpListener, workers: usize) {
    run(listener, workers, |listener| hyper::serve(listener, app(), pending()));
}

fn app() -> App {
    let hub = Hub::new(MemoryStore::new(Retention::default().events(10_000).bytes(64 << 20)));
    App {
        events: EventService::new(hub.clone(), Channels::from_query),
        publish: PublishService::new(hub.clone(), Channels::from_query),
        status: SseService::new(hub.clone(), Channels::from_query),
        other: Arc::new(|_, _| Response::default()),
        hub,
        cors: None,
        limits: ConnectionLimits::default(),
    }
}
