//! What the server answers, whatever speaks HTTP in front.

use std::time::Duration;

use serde_json::{Value, json};
use tower_events::{EventService, Hub, PublishService};
use tower_http::cors::CorsLayer;

#[derive(Clone)]
pub(crate) struct App {
    pub(crate) hub: Hub,
    /// `/events`
    pub(crate) events: EventService,
    /// `/publish`
    pub(crate) publish: PublishService,
    /// Around it all, when pages of other origins are let in.
    pub(crate) cors: Option<CorsLayer>,
    /// After how long a client is cut off that takes nothing.
    pub(crate) stall_timeout: Duration,
}

/// `/healthz`: answers as long as the server does, and says how its store is and how many are reading. A store that is away
/// is no reason to take a node out: its readers wait and catch up, and the store is away for the other nodes too.
pub(crate) fn health(hub: &Hub) -> Value {
    let stats = hub.stats();
    json!({ "status": "ok", "store": stats.store.as_str(), "readers": stats.readers, "channels": stats.topics })
}
