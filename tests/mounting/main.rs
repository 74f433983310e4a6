//! The services mounted in every way that users mount them: in axum, on hyper's connections, behind tower-http's layers.
#![allow(clippy::unwrap_used, reason = "a helper that panics is a failed test")]

mod attached;
mod axum_responses;
mod layers;
#[path = "../support/patched_store.rs"]
mod patched_store;
mod routes;
#[path = "../support/mod.rs"]
mod support;
mod tokens;

use std::{convert::Infallible, time::Duration};

use axum::{
    Router,
    extract::{Path, Request, State},
    routing::get,
};
use http::{Method, Response, StatusCode};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    service::TowerToHyperService,
};
use serde_json::json;
use support::{BOTH, Http, Server, channel, serve};
use tower::{ServiceBuilder, service_fn};
use tower_events::{
    Body, Channels, Event, EventService, EventsLayer, Hub, LongPollService, MemoryStore, PublishService, SseService,
};

fn hub() -> Hub {
    Hub::new(MemoryStore::default())
}

fn events(hub: &Hub) -> EventService {
    EventService::new(hub.clone(), Channels::from_query)
}

/// Checks that both transports read what is published, live and from a start, and that a stream ends with its client.
async fn check(server: &Server, hub: &Hub, path_and_query: &str, name: &str) {
    let with = |more: &str| match path_and_query.contains('?') {
        true => format!("{path_and_query}&{more}"),
        false => format!("{path_and_query}?{more}"),
    };
    for http in BOTH {
        let mut stream = server.get(path_and_query).over(http).sse().await;
        stream.first_block().await;
        let id = hub.publish(&channel(name), Event::text("live")).await.unwrap().cursor.to_string();
        assert_eq!(stream.next().await.id, id, "{http:?}");
        let polled = server.get(&with("last=1&wait=0")).over(http).header("accept", "application/json").send().await;
        let polled = polled.expect(200);
        assert_eq!((polled.data(), polled.cursor()), (vec![json!("live")], id.clone()), "{http:?}");
        let after = with(&format!("after={id}"));
        let (parked, _) =
            tokio::join!(server.get(&after).over(http).header("accept", "application/json").send(), async {
                support::eventually("two readers", || hub.stats().readers == 2).await;
                hub.publish(&channel(name), Event::text("parked")).await.unwrap()
            });
        assert_eq!(parked.expect(200).data(), [json!("parked")], "{http:?}");
        drop(stream);
        support::eventually("no readers", || hub.stats().readers == 0).await;
    }
}

#[tokio::test]
async fn under_axums_route_service() {
    let hub = hub();
    let routes = Router::new().route_service("/events", events(&hub));
    check(&serve(routes).await, &hub, "/events?channel=a", "a").await;
}

#[tokio::test]
async fn with_a_publish_service_on_the_same_route() {
    let hub = hub();
    let publish = PublishService::new(hub.clone(), Channels::from_query);
    let routes = Router::new().route("/events", axum::routing::get_service(events(&hub)).post_service(publish));
    let server = serve(routes).await;
    check(&server, &hub, "/events?channel=a", "a").await;
    server.post("/events?channel=a", "text/plain", "x").send().await.expect(200);
}

#[tokio::test]
async fn under_axums_nest_service_with_the_channel_in_the_path() {
    let hub = hub();
    let routes = Router::new().nest_service("/rooms", EventService::new(hub.clone(), Channels::from_path));
    check(&serve(routes).await, &hub, "/rooms/a%20b", "a b").await;
}

#[tokio::test]
async fn under_axums_fallback_service() {
    let hub = hub();
    let routes = Router::new().route("/", get(|| async { "home" })).fallback_service(events(&hub));
    let server = serve(routes).await;
    check(&server, &hub, "/anything?channel=a", "a").await;
    assert_eq!(server.get("/").send().await.expect(200).text(), "home");
}

#[tokio::test]
async fn as_a_layer_around_an_axum_router() {
    let hub = hub();
    let say = |request: Request| async move {
        let hub = request.extensions().get::<Hub>().expect("the layer's hub").clone();
        hub.publish(&channel("a"), Event::text("from a handler")).await.unwrap();
        StatusCode::NO_CONTENT
    };
    let layer = EventsLayer::new(hub.clone()).route("/events", events(&hub));
    let routes = Router::new().route("/", get(|| async { "home" })).route("/say", axum::routing::post(say));
    let server = serve(layer_over(layer, routes)).await;
    check(&server, &hub, "/events?channel=a", "a").await;
    for http in BOTH {
        assert_eq!(server.get("/").over(http).send().await.expect(200).text(), "home");
        assert_eq!(server.get("/nowhere").over(http).send().await.status, 404);
        server.request(Method::POST, "/say").over(http).send().await.expect(204);
        let polled = server.get("/events?channel=a&last=1&wait=0").over(http).send().await.expect(200);
        assert_eq!(polled.data(), [json!("from a handler")]);
    }
}

/// A layer around a whole router, so that it also sees requests that no route matches.
fn layer_over(
    layer: EventsLayer,
    routes: Router,
) -> impl tower_service::Service<
    http::Request<hyper::body::Incoming>,
    Response = Response<tower_events::layer::EventsBody<axum::body::Body>>,
    Error = Infallible,
    Future: Send,
> + Clone
+ Send
+ 'static {
    ServiceBuilder::new().layer(layer).service(routes)
}

#[tokio::test]
async fn by_axums_router_layer() {
    let hub = hub();
    let routes = Router::new()
        .route("/events", get(|| async { "never reached" }))
        .layer(EventsLayer::new(hub.clone()).route("/events", events(&hub)));
    check(&serve(routes).await, &hub, "/events?channel=a", "a").await;
}

#[tokio::test]
async fn inside_an_axum_handler_after_the_handlers_own_check() {
    async fn room(
        State(events): State<EventService>,
        Path(room): Path<String>,
        request: Request,
    ) -> Result<Response<Body>, StatusCode> {
        if room == "secret" {
            return Err(StatusCode::FORBIDDEN);
        }
        Ok(events.respond(request, channel(&room)).await)
    }
    let hub = hub();
    let routes = Router::new().route("/rooms/{room}", get(room)).with_state(events(&hub));
    let server = serve(routes).await;
    check(&server, &hub, "/rooms/a", "a").await;
    assert_eq!(server.get("/rooms/secret").send().await.status, 403);
}

#[tokio::test]
async fn channels_that_a_layer_put_into_the_request_take_precedence() {
    let hub = hub();
    let grant = axum::middleware::from_fn(|mut request: Request, next: axum::middleware::Next| async move {
        request.extensions_mut().insert(Channels::from(channel("granted")));
        next.run(request).await
    });
    let routes = Router::new().route_service("/events", events(&hub)).layer(grant);
    check(&serve(routes).await, &hub, "/events?channel=other", "granted").await;
}

#[tokio::test]
async fn the_question_mark_operator_in_a_handler_returns_the_right_status() {
    async fn say(State(hub): State<Hub>, Path(room): Path<String>, body: String) -> Result<StatusCode, Response<Body>> {
        let room = tower_events::Channel::new(room)?;
        hub.publish(&room, Event::text(body).named(room.as_str())?).await?;
        Ok(StatusCode::NO_CONTENT)
    }
    let hub = hub();
    let server = serve(Router::new().route("/{room}", axum::routing::post(say)).with_state(hub.clone())).await;
    server.post("/a", "text/plain", "x").send().await.expect(204);
    server.post("/a%0Ab", "text/plain", "x").send().await.problem(400);
    server.post("/stream-x", "text/plain", "x").send().await.problem(422);
    hub.close(&channel("a")).await.unwrap();
    server.post("/a", "text/plain", "x").send().await.problem(409);
}

/// Serves each connection in a spawned task with the builder of one HTTP version; `support::serve` uses the automatic builder.
async fn serve_spawned<S>(service: S, version: Http) -> std::net::SocketAddr
where
    S: tower_service::Service<http::Request<hyper::body::Incoming>, Response = Response<Body>, Error = Infallible>
        + Clone
        + Send
        + 'static,
    S::Future: Send + 'static,
{
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((io, _)) = listener.accept().await {
            io.set_nodelay(true).unwrap();
            let (io, service) = (TokioIo::new(io), TowerToHyperService::new(service.clone()));
            match version {
                Http::One => _ = tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(io, service)),
                Http::Two => {
                    let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                    tokio::spawn(builder.serve_connection(io, service));
                }
            }
        }
    });
    addr
}

#[tokio::test]
async fn under_spawned_hyper_connections_of_each_version() {
    for http in BOTH {
        let hub = hub();
        let server = Server::at(serve_spawned(events(&hub), http).await);
        let mut stream = server.get("/?channel=a").over(http).sse().await;
        hub.publish(&channel("a"), Event::text("x")).await.unwrap();
        assert_eq!(stream.next().await.data, "x");

        let server = Server::at(serve_spawned(LongPollService::fixed(hub.clone(), channel("a")), http).await);
        assert_eq!(server.get("/?last=1").over(http).send().await.expect(200).data(), [json!("x")]);
        let server = Server::at(serve_spawned(SseService::fixed(hub.clone(), channel("a")), http).await);
        assert_eq!(server.get("/?last=1").over(http).sse().await.next().await.data, "x");
        let server = Server::at(serve_spawned(PublishService::fixed(hub.clone(), channel("a")), http).await);
        server.post("/", "text/plain", "y").over(http).send().await.expect(200);
    }
}

#[tokio::test]
async fn under_hypers_automatic_connections() {
    let hub = hub();
    check(&serve(events(&hub)).await, &hub, "/?channel=a", "a").await;
}

#[tokio::test]
async fn as_a_layer_around_a_plain_hyper_service() {
    let hub = hub();
    let inner = service_fn(|_: http::Request<_>| async { Ok::<_, Infallible>(Response::new("home".to_owned())) });
    let layer = EventsLayer::new(hub.clone()).route("/events", events(&hub));
    let server = serve(ServiceBuilder::new().layer(layer).service(inner)).await;
    check(&server, &hub, "/events?channel=a", "a").await;
    assert_eq!(server.get("/").send().await.expect(200).text(), "home");
}

#[tokio::test]
async fn with_a_hub_that_keeps_its_stores_type() {
    let hub = Hub::typed(MemoryStore::default());
    let server = serve(EventService::fixed(hub.clone(), channel("a"))).await;
    let mut stream = server.get("/").sse().await;
    hub.publish(&channel("a"), Event::text("x")).await.unwrap();
    assert_eq!(stream.next().await.data, "x");
}

#[tokio::test]
async fn a_drain_lets_a_graceful_shutdown_finish() {
    for http in BOTH {
        let hub = hub();
        let server = serve(Router::new().route_service("/events", events(&hub))).await;
        let mut stream = server.get("/events?channel=a").over(http).sse().await;
        stream.first_block().await;
        let url = server.url("");
        let poll = server.get("/events?channel=a").over(http).open();
        let draining = async {
            support::eventually("two readers", || hub.stats().readers == 2).await;
            hub.drain(Duration::from_millis(10));
        };
        let (poll, ()) = tokio::join!(poll, draining);
        assert_eq!(poll.status, 200, "{url}");
        assert_eq!(poll.rest().await, b"[]");
        let last: Vec<_> = stream.remaining().await.into_iter().map(|message| message.name).collect();
        assert_eq!(last, ["stream-retry"]);
        server.stop().await;
        assert_eq!(hub.stats().readers, 0);
    }
}
