//! The publish service and the layer, called directly: the simple cases.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests")]

use std::{
    convert::Infallible,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Empty, Full};
use serde_json::{Value, json};
use tower_events::{
    Channel, Channels, EventService, EventsLayer, Hub, Listen, MemoryStore, PublishService, Rejection, Subscription,
    layer::EventsBody, store::Start,
};
use tower_layer::Layer;
use tower_service::Service;

fn hub() -> Hub {
    Hub::new(MemoryStore::default())
}

async fn post(hub: &Hub, uri: &str, headers: &[(&str, &str)], body: &'static str) -> (u16, HeaderMap, Value) {
    let mut request = Request::post(uri);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::new(Bytes::from_static(body.as_bytes()))).unwrap();
    let mut service = PublishService::new(hub.clone(), Channels::from_query).max_body(100);
    let (parts, body) = service.call(request).await.unwrap().into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    (parts.status.as_u16(), parts.headers, serde_json::from_slice(&bytes).unwrap_or_default())
}

async fn texts(hub: &Hub) -> Vec<String> {
    let all = Subscription::new(Channel::new("a").unwrap()).start(Start::Earliest);
    let listened = hub.listen(Listen::from(all).wait(std::time::Duration::ZERO)).await.unwrap();
    listened.entries().iter().map(|entry| entry.data.as_shown().to_owned()).collect()
}

const JSON: (&str, &str) = ("content-type", "application/json");
const TEXT: (&str, &str) = ("content-type", "text/plain; charset=utf-8");
const LINES: (&str, &str) = ("content-type", "application/x-ndjson");

#[tokio::test]
async fn every_content_type_is_appended() {
    let hub = hub();
    let (status, headers, answer) = post(&hub, "/?channel=a&name=n&time=5", &[JSON], "{ \"x\": 1 }").await;
    assert_eq!((status, answer["id"].as_str()), (200, headers["last-event-id"].to_str().ok()));
    assert_eq!(
        (&headers["content-type"], &headers["cache-control"]),
        (&JSON.1.parse().unwrap(), &"no-store".parse().unwrap())
    );
    assert_eq!(post(&hub, "/?channel=a", &[TEXT], "hello").await.0, 200);
    let (status, headers, answer) = post(&hub, "/?channel=a", &[LINES], "{\"data\":1}\n\n{\"data\":\"two\"}\n").await;
    assert_eq!((status, answer["ids"].as_array().unwrap().len()), (200, 2));
    assert_eq!(answer["ids"][1], headers["last-event-id"].to_str().unwrap());
    assert_eq!(texts(&hub).await, ["{\"x\":1}", "hello", "1", "two"]);
    let (status, headers, answer) = post(&hub, "/?channel=a", &[LINES], "").await;
    assert_eq!((status, answer, headers.contains_key("last-event-id")), (200, json!({"ids": []}), true));
}

#[tokio::test]
async fn a_repeated_publish_appends_nothing() {
    let hub = hub();
    let key = ("idempotency-key", "\"k\"");
    let first = post(&hub, "/?channel=a", &[TEXT, key], "x").await;
    assert_eq!(post(&hub, "/?channel=a", &[TEXT, ("idempotency-key", "k")], "x").await.2["id"], first.2["id"]);
    let batch = "{\"data\":1}\n{\"data\":\"x\",\"key\":\"k\"}";
    let first = post(&hub, "/?channel=a", &[LINES, key], batch).await;
    assert_eq!(post(&hub, "/?channel=a", &[LINES, key], batch).await.2["ids"], first.2["ids"]);
    assert_eq!(texts(&hub).await, ["x", "1"]);
}

#[tokio::test]
async fn a_close_ends_the_channel() {
    let hub = hub();
    let close = ("events-closed", "true");
    assert_eq!(post(&hub, "/?channel=a", &[close], "x").await.0, 415);
    let (status, headers, _) = post(&hub, "/?channel=a", &[TEXT, close], "last").await;
    assert_eq!((status, &headers["events-closed"]), (200, &"true".parse().unwrap()));
    let (status, _, answer) = post(&hub, "/?channel=a", &[close], "").await;
    assert_eq!((status, answer), (200, json!({"ids": []})));
    let (status, headers, problem) = post(&hub, "/?channel=a", &[TEXT], "late").await;
    assert_eq!((status, &headers["events-closed"]), (409, &"true".parse().unwrap()));
    assert_eq!(problem["type"], "urn:tower-events:closed");
    assert_eq!(texts(&hub).await, ["last"]);
}

#[tokio::test]
async fn a_refused_publish_changes_nothing() {
    let hub = hub();
    const LONG: &str =
        "0123456789 0123456789 0123456789 0123456789 0123456789 0123456789 0123456789 0123456789 0123456789 012";
    type Row = (&'static str, &'static [(&'static str, &'static str)], &'static str, u16, &'static str);
    let table: &[Row] = &[
        ("/", &[TEXT], "x", 400, "channel"),
        ("/?channel=a&channel=b", &[TEXT], "x", 400, "channel"),
        ("/?channel=a", &[], "x", 415, "Content-Type"),
        ("/?channel=a", &[JSON], "{", 400, "body"),
        ("/?channel=a", &[TEXT], LONG, 413, "body"),
        ("/?channel=a&name=stream-x", &[TEXT], "x", 422, "name"),
        ("/?channel=a&time=now", &[TEXT], "x", 400, "time"),
        ("/?channel=a", &[LINES], "{\"data\":1}\n{\"data\":2,\"x\":3}", 422, "body"),
        ("/?channel=a", &[TEXT, ("idempotency-key", "")], "x", 400, "Idempotency-Key"),
        ("/?channel=a", &[TEXT, ("events-closed", "maybe")], "x", 400, "Events-Closed"),
    ];
    for (uri, headers, body, expected, parameter) in table {
        let (status, headers, problem) = post(&hub, uri, headers, body).await;
        assert_eq!((status, problem["parameter"].as_str()), (*expected, Some(*parameter)), "{uri} {body}");
        assert_eq!(headers["content-type"], "application/problem+json");
        assert!(problem["detail"].as_str().is_some_and(|detail| detail.len() > 5));
    }
    assert!(texts(&hub).await.is_empty());
    let mut service = PublishService::new(hub, |_| Err::<Channels, _>(Rejection::unauthorized("Bearer")));
    let mut ask =
        |method: &str| service.call(Request::builder().method(method).uri("/").body(Empty::<Bytes>::new()).unwrap());
    assert_eq!(ask("POST").await.unwrap().status(), 401);
    assert_eq!(ask("OPTIONS").await.unwrap().headers()["allow"], "POST, OPTIONS");
    assert_eq!(ask("GET").await.unwrap().status(), 405);
}

/// Answers with the request's path; panics without a hub in the extensions, or when it is called without having been ready.
#[derive(Clone)]
struct Inner {
    ready: bool,
}

impl Service<Request<Full<Bytes>>> for Inner {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = std::future::Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.ready = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Full<Bytes>>) -> Self::Future {
        assert!(std::mem::take(&mut self.ready), "called without having been ready");
        assert!(request.extensions().get::<Hub>().is_some());
        std::future::ready(Ok(Response::new(Full::new(Bytes::from(request.uri().path().to_owned())))))
    }
}

#[tokio::test]
async fn the_layer_mounts_services_in_front_of_the_inner_service() {
    let hub = hub();
    let layer = EventsLayer::new(hub.clone())
        .route("/events", EventService::new(hub.clone(), Channels::from_query))
        .route("/publish", PublishService::new(hub, Channels::from_query));
    let mut service = layer.layer(Inner { ready: false });
    let mut ask = async |request: Request<Full<Bytes>>| {
        std::future::poll_fn(|cx| service.poll_ready(cx)).await.unwrap();
        let (parts, body): (_, EventsBody<Full<Bytes>>) = service.call(request).await.unwrap().into_parts();
        (parts.status.as_u16(), body.collect().await.unwrap().to_bytes())
    };
    let publish = Request::post("/publish?channel=a").header("content-type", "text/plain");
    assert_eq!(ask(publish.body(Full::new("x".into())).unwrap()).await.0, 200);
    let (status, list) = ask(Request::get("/events?channel=a&after=earliest").body(Full::default()).unwrap()).await;
    assert_eq!((status, list.starts_with(b"[{")), (200, true));
    for path in ["/", "/events/", "/other"] {
        assert_eq!(ask(Request::get(path).body(Full::default()).unwrap()).await, (200, path.into()));
    }
}

#[test]
fn services_and_futures_have_the_bounds_that_servers_need() {
    fn service<T: Clone + Send + Sync + 'static>(service: T) -> T {
        service
    }
    fn send<T: Send + 'static>(_: T) {}
    let request = || Request::new(Full::<Bytes>::default());
    let channel = Channel::new("a").unwrap();
    send(service(PublishService::fixed(hub(), channel.clone())).call(request()));
    let layer = EventsLayer::new(Hub::typed(MemoryStore::default()));
    let mut mounted = service(layer.clone()).layer(Inner { ready: true });
    send(service(mounted.clone()));
    send(mounted.call({
        let mut request = request();
        request.extensions_mut().insert(hub());
        request
    }));
}
