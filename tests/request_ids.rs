//! A request can be followed from its id: what is logged on its behalf is in the span that a layer around the services made.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::{
    future::poll_fn,
    io::{self, Write},
    sync::{Arc, Mutex},
    task::Poll,
};

use axum::Router;
use http::Request;
use http_body_util::BodyExt as _;
use tower::{Layer as _, ServiceExt as _};
use tower_events::{Channel, Channels, Event, EventService, Hub, MemoryStore, Subscription, testing::FaultStore};
use tower_http::trace::TraceLayer;
use tracing_subscriber::fmt::MakeWriter;

#[tokio::test]
async fn a_request_and_its_stream_are_polled_in_the_span_of_the_layer_and_log_no_secrets() {
    let logs = Logs::default();
    let subscriber = tracing_subscriber::fmt().json().with_max_level(tracing::Level::DEBUG).with_writer(logs.clone());
    let _guard = tracing::subscriber::set_default(subscriber.finish());
    let (store, faults) = FaultStore::new(MemoryStore::default());
    let hub = Hub::new(store);
    let channel = Channel::new("a").unwrap();
    let first = hub.publish(&channel, Event::text("secret-data")).await.unwrap().cursor.to_string();
    hub.publish(&channel, Event::text("secret-data")).await.unwrap();
    let span = |request: &Request<axum::body::Body>| {
        let id = request.headers().get("x-request-id").and_then(|id| id.to_str().ok()).unwrap_or_default();
        tracing::info_span!("request", id)
    };
    let resolver = |request: &http::request::Parts| {
        tracing::info!("resolving");
        Channels::from_query(request)
    };
    let stream = {
        let hub = hub.clone();
        async move || {
            let stream = hub.sse(Subscription::new(Channel::new("a").unwrap())).await.unwrap();
            let signal = poll_fn(|_| {
                tracing::info!("the stream is polled");
                Poll::Ready(())
            });
            stream.until(signal).into_response()
        }
    };
    let services = Router::new()
        .route_service("/events", EventService::new(hub.clone(), resolver))
        .route("/stream", axum::routing::get(stream));
    let service = TraceLayer::new_for_http().make_span_with(span).on_request(()).on_response(()).layer(services);
    for accept in ["application/json", "text/event-stream"] {
        faults.fail_next_heads(20);
        faults.fail_next_reads(20);
        let request = Request::get("/events?channel=a&token=secret-token&wait=1").header("accept", accept);
        let request = request.header("last-event-id", &first).header("x-request-id", format!("id-of-{accept}"));
        let response = service.clone().oneshot(request.body(axum::body::Body::empty()).unwrap()).await.unwrap();
        response.into_body().collect().await.unwrap();
    }
    faults.fail_next_heads(0);
    faults.fail_next_reads(0);
    let request = Request::get("/stream").header("x-request-id", "id-of-a-stream").body(axum::body::Body::empty());
    service.oneshot(request.unwrap()).await.unwrap().into_body().collect().await.unwrap();
    let text = logs.text();
    let lines = [
        ("resolving", "id-of-application/json"),
        ("response failed", "id-of-application/json"),
        ("resolving", "id-of-text/event-stream"),
        ("the stream is polled", "id-of-a-stream"),
    ];
    for (what, id) in lines {
        let is_followed = |line: &&str| line.contains(what) && line.contains(id);
        assert_eq!(text.lines().filter(is_followed).count(), 1, "{what} {id}: {text}");
    }
    assert!(!text.contains("secret") && !text.contains(&first), "neither data, tokens nor cursors: {text}");
    // One line says that it began to fail, however many requests meet that.
    assert_eq!(
        text.lines().filter(|line| line.contains("while it does, this is logged once a minute")).count(),
        1,
        "{text}"
    );
}

#[derive(Clone, Default)]
struct Logs(Arc<Mutex<Vec<u8>>>);

impl Logs {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Logs {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Logs {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}
