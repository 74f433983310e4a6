//! The pages for operators: `/`, `/metrics`, `/healthz`, `/readyz`. Independent of the HTTP frontend.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header};
use http_body_util::Full;
use serde_json::{Value, json};
use tokio::runtime::Handle;
use tower_events::{Hub, store::Health};

use super::metrics::Metrics;

pub(crate) struct Pages {
    hub: Hub,
    metrics: Metrics,
}

impl Pages {
    pub(crate) fn new(hub: Hub, metrics: Metrics) -> Self {
        Self { hub, metrics }
    }

    /// Answers what no other service does.
    pub(crate) fn respond(&self, method: &Method, path: &str) -> Response<Full<Bytes>> {
        let (status, kind, text) = match path {
            "/" => (StatusCode::OK, "text/html; charset=utf-8", Bytes::from_static(include_bytes!("status.html"))),
            "/metrics" => (StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", self.metrics.render().into()),
            "/healthz" => (StatusCode::OK, "application/json", health(&self.hub).to_string().into()),
            "/readyz" => self.readiness(),
            _ => (StatusCode::NOT_FOUND, "text/plain", Bytes::new()),
        };
        let allowed = [Method::GET, Method::HEAD].contains(method) || status == StatusCode::NOT_FOUND;
        let (status, text) = if allowed { (status, text) } else { (StatusCode::METHOD_NOT_ALLOWED, Bytes::new()) };
        let mut response = Response::new(Full::new(text));
        *response.status_mut() = status;
        response.headers_mut().extend(headers(kind));
        response
    }

    /// Whether to send clients here: not while they are being sent away, nor while the store cannot be reached. Where all nodes
    /// have the same store, let the load balancer ignore this check when all of them fail it, or use `/healthz`.
    fn readiness(&self) -> (StatusCode, &'static str, Bytes) {
        let stats = self.hub.stats();
        let (status, reason) = match (stats.draining, stats.store) {
            (true, _) => (StatusCode::SERVICE_UNAVAILABLE, "draining"),
            (false, Health::Unavailable) => (StatusCode::SERVICE_UNAVAILABLE, "store-unavailable"),
            (false, _) => (StatusCode::OK, "ready"),
        };
        (status, "application/json", json!({ "status": reason, "store": stats.store.as_str() }).to_string().into())
    }
}

fn headers(kind: &'static str) -> HeaderMap {
    let headers = [
        (header::CONTENT_TYPE, kind),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (
            header::CONTENT_SECURITY_POLICY,
            // The page is one file, and fetches nothing but its own stream.
            "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:; connect-src 'self'; \
             base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        ),
    ];
    headers.map(|(name, value): (HeaderName, _)| (name, HeaderValue::from_static(value))).into_iter().collect()
}

/// `/healthz`: healthy as long as the server responds; also reports the store's health and the number of readers. An
/// unavailable store is no reason to take a node out: its readers wait and catch up, and the other nodes lack it too.
fn health(hub: &Hub) -> Value {
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
