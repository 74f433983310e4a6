//! Our servers: the example server's frontends with their settings, in front of a memory store.

#[path = "../../../examples/server/app.rs"]
mod app;
#[path = "../../../examples/server/axum.rs"]
mod axum;
#[path = "../../../examples/server/hyper.rs"]
pub(super) mod hyper;
#[path = "../../../examples/server/socket.rs"]
mod socket;

use std::{future::pending, net::TcpListener, time::Duration};

use ::tokio::net::TcpStream;

use tower_events::{Channels, EventService, Hub, MemoryStore, PublishService, Retention};

use self::app::App;
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
        hub,
        cors: None,
        stall_timeout: STALLED,
    }
}

/// Sets socket options as the example server does.
pub(super) fn set(io: &TcpStream) {
    socket::prepare(io, STALLED);
}

const STALLED: Duration = Duration::from_secs(60);
