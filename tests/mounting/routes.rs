//! What can be mounted by the crate's own layer, and what its inner service finds in a request.

use std::{
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
};

use http::{HeaderValue, header};
use tower_events::{Channel, layer::RequestBody};
use tower_http::{set_header::SetResponseHeaderLayer, trace::TraceLayer};
use tower_service::Service;

use super::*;

/// The inner service: says which hubs it finds.
async fn home(request: http::Request<hyper::body::Incoming>) -> Result<Response<String>, Infallible> {
    let found = |is_found: bool| if is_found { "found" } else { "missing" };
    let any = found(request.extensions().get::<Hub>().is_some());
    let typed = found(request.extensions().get::<Hub<MemoryStore>>().is_some());
    Ok(Response::new(format!("any {any}, typed {typed}")))
}

#[tokio::test]
async fn a_service_is_mounted_behind_layers_of_its_own() {
    let hub = hub();
    let wrapped = ServiceBuilder::new()
        .layer(TraceLayer::new_for_http())
        .layer(SetResponseHeaderLayer::overriding(header::SERVER, HeaderValue::from_static("events")))
        .service(events(&hub));
    let publish = ServiceBuilder::new()
        .layer(TraceLayer::new_for_http())
        .service(PublishService::new(hub.clone(), Channels::from_query));
    let layer = EventsLayer::new(hub.clone()).route("/events", wrapped).route("/publish", publish);
    let server = serve(ServiceBuilder::new().layer(layer).service(service_fn(home))).await;
    check(&server, &hub, "/events?channel=a", "a").await;
    for http in BOTH {
        let polled = server.get("/events?channel=a&wait=0").over(http).send().await.expect(200);
        assert_eq!(polled.header("server"), "events");
        let body: Vec<_> = server.get("/").over(http).send().await.expect(200).body;
        assert_eq!(body, b"any found, typed missing");
        server.post("/publish?channel=a", "text/plain", "x").over(http).send().await.expect(200);
    }
}

#[tokio::test]
async fn an_axum_router_is_mounted_at_a_path() {
    let hub = hub();
    let layer = EventsLayer::new(hub.clone())
        .route("/events", events(&hub))
        .route("/echo", Router::new().route("/echo", axum::routing::post(|body: String| async { body })));
    let server = serve(ServiceBuilder::new().layer(layer).service(service_fn(home))).await;
    check(&server, &hub, "/events?channel=a", "a").await;
    for http in BOTH {
        let long = "x".repeat(100_000);
        let echoed = server.post("/echo", "text/plain", long.clone()).over(http).send().await.expect(200);
        assert!(echoed.text() == long, "{} bytes", echoed.body.len());
        assert_eq!(server.get("/echo").over(http).send().await.status, 405);
    }
}

#[tokio::test]
async fn a_mounted_publish_knows_how_long_a_body_is_before_it_is_sent() {
    let hub = hub();
    let publish = PublishService::fixed(hub.clone(), channel("a")).max_body(10);
    let layer = EventsLayer::new(hub).route("/publish", publish);
    let server = serve(ServiceBuilder::new().layer(layer).service(service_fn(home))).await;
    let mut client = server.http1().await;
    let head = "POST /publish HTTP/1.1\r\nhost: a\r\ncontent-type: text/plain\r\nexpect: 100-continue\r\n";
    client.send(format!("{head}content-length: 11\r\n\r\n")).await;
    client.answer_to("POST").await.unwrap().problem(413);
}

/// Ready once it is opened; panics when it is called without having been ready.
#[derive(Clone, Default)]
struct Gated {
    gate: Arc<Mutex<Gate>>,
    ready: bool,
}

#[derive(Default)]
struct Gate {
    open: bool,
    wakers: Vec<Waker>,
}

impl Service<http::Request<RequestBody>> for Gated {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = std::future::Ready<Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        let mut gate = self.gate.lock().unwrap();
        self.ready = gate.open;
        if gate.open {
            return Poll::Ready(Ok(()));
        }
        gate.wakers.push(cx.waker().clone());
        Poll::Pending
    }

    fn call(&mut self, _: http::Request<RequestBody>) -> Self::Future {
        assert!(std::mem::take(&mut self.ready), "called without having been ready");
        std::future::ready(Ok(Response::default()))
    }
}

#[tokio::test]
async fn a_mounted_service_is_called_when_it_is_ready() {
    let gated = Gated::default();
    let layer = EventsLayer::new(hub()).route("/gated", gated.clone());
    let server = serve(ServiceBuilder::new().layer(layer).service(service_fn(home))).await;
    let open = async {
        let is_waiting = || gated.gate.lock().unwrap().wakers.iter().any(|waker| !waker.will_wake(Waker::noop()));
        support::eventually("the request waits", is_waiting).await;
        assert_eq!(server.get("/").send().await.status, 200);
        let mut gate = gated.gate.lock().unwrap();
        gate.open = true;
        gate.wakers.drain(..).for_each(Waker::wake);
    };
    let (answer, ()) = tokio::join!(server.get("/gated").send(), open);
    assert_eq!(answer.status, 200);
    assert_eq!(server.get("/gated").send().await.status, 200);
}

#[tokio::test]
async fn the_hub_is_found_whether_or_not_it_keeps_its_stores_type() {
    let typed = EventsLayer::new(Hub::typed(MemoryStore::default()));
    let server = serve(ServiceBuilder::new().layer(typed).service(service_fn(home))).await;
    assert_eq!(server.get("/").send().await.expect(200).text(), "any found, typed found");
    let erased = EventsLayer::new(Hub::typed(MemoryStore::default()).erase());
    let server = serve(ServiceBuilder::new().layer(erased).service(service_fn(home))).await;
    assert_eq!(server.get("/").send().await.expect(200).text(), "any found, typed missing");
}

#[tokio::test]
async fn a_handler_that_does_not_know_the_stores_type_shares_the_hub_with_the_mounted_services() {
    let hub = Hub::typed(MemoryStore::default());
    let service = EventService::fixed(hub.clone(), Channel::new("a").unwrap());
    let handle = |request: http::Request<hyper::body::Incoming>| async move {
        let hub = request.extensions().get::<Hub>().unwrap();
        match request.uri().path() {
            "/say" => drop(hub.publish(&channel("a"), Event::text("said")).await.unwrap()),
            _ => drop(hub.drain(Duration::from_secs(1))),
        }
        Ok::<_, Infallible>(Response::new(hub.stats().readers.to_string()))
    };
    let layer = EventsLayer::new(hub.clone()).route("/events", service);
    let server = serve(ServiceBuilder::new().layer(layer).service(service_fn(handle))).await;
    let mut stream = server.get("/events").sse().await;
    stream.first_block().await;
    assert_eq!(server.get("/say").send().await.expect(200).text(), "1");
    assert_eq!(stream.next().await.data, "said");
    server.get("/drain").send().await.expect(200);
    let names: Vec<_> = stream.remaining().await.into_iter().map(|message| message.name).collect();
    assert_eq!(names, ["stream-retry"]);
    support::eventually("no readers", || hub.stats().readers == 0).await;
}
