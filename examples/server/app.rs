//! The server's services, independent of the HTTP frontend.

use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Response};
use http_body_util::Full;
use tower_events::{EventService, Hub, PublishService, SseService};
use tower_http::cors::CorsLayer;

use super::connections::ConnectionLimits;

#[derive(Clone)]
pub(crate) struct App {
    pub(crate) hub: Hub,
    /// `/events`
    pub(crate) events: EventService,
    /// `/publish`
    pub(crate) publish: PublishService,
    /// `/status`
    pub(crate) status: SseService,
    /// Answers all other paths.
    pub(crate) other: Arc<Respond>,
    /// Around all services, when pages from other origins are allowed.
    pub(crate) cors: Option<CorsLayer>,
    pub(crate) limits: ConnectionLimits,
}

/// Answers a method and a path.
pub(crate) type Respond = dyn Fn(&Method, &str) -> Response<Full<Bytes>> + Send + Sync;
