//! The server's services, independent of the HTTP frontend.

use serde_json::{Value, json};
use tokio::runtime::Handle;
use tower_events::{EventService, Hub, PublishService, SseService};
use tower_http::cors::CorsLayer;

use super::{connections::ConnectionLimits, pages::Pages};

#[derive(Clone)]
pub(crate) struct App {
    pub(crate) hub: Hub,
    /// `/events`
    pub(crate) events: EventService,
    /// `/publish`
    pub(crate) publish: PublishService,
    /// `/status`
    pub(crate) status: SseService,
    /// All other paths.
    pub(crate) pages: Pages,
    /// Around all services, when pages from other origins are allowed.
    pub(crate) cors: Option<CorsLayer>,
    pub(crate) limits: ConnectionLimits,
}

/// `/healthz`: healthy as long as the server responds; also reports the store's health and the number of readers. An
/// unavailable store is no reason to take a node out: its readers wait and catch up, and the other nodes lack it too.
pub(crate) fn health(hub: &Hub) -> Value {
    let stats = hub.stats();
    let tasks = Handle::current().metrics().num_alive_tasks();
    json!({
        "status": "ok",
        "store": stats.store.as_str(),
        "readers": stats.readers,
        "channels": stats.followed_channels,
        "tasks": tasks,
    })
}
