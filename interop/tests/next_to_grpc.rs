//! The services and a gRPC service on one port, as in the `tonic` example.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a helper that panics is a failed test"
)]

#[path = "../../tests/support/mod.rs"]
mod support;

use std::{process::Stdio, time::Duration};

use serde_json::json;
use support::{BOTH, Server, channel};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    net::TcpListener,
};
use tonic::{service::Routes, transport::server::TcpIncoming};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tower_events::{Channels, Event, EventService, EventsLayer, Hub, MemoryStore, PublishService};
use tower_http::{cors::CorsLayer, trace::TraceLayer};

fn hub() -> Hub {
    Hub::new(MemoryStore::default())
}

/// Serves with tonic's own server, with HTTP/1.1 enabled.
async fn serve(routes: Routes) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    let server = tonic::transport::Server::builder().accept_http1(true).layer(TraceLayer::new_for_grpc());
    tokio::spawn(server.layer(CorsLayer::new()).add_routes(routes).serve_with_incoming(incoming));
    Server::at(addr)
}

async fn check_both(server: &Server, hub: &Hub) {
    for http in BOTH {
        let mut stream = server.get("/events?channel=a").over(http).sse().await;
        let id = hub.publish(&channel("a"), Event::text("x")).await.unwrap().cursor.to_string();
        assert_eq!(stream.next().await.id, id);
        let polled = server.get("/events?channel=a&last=1&wait=0").over(http).send().await.expect(200);
        assert_eq!(polled.data(), [json!("x")]);

        let channel = tonic::transport::Endpoint::from_shared(server.url("")).unwrap().connect().await.unwrap();
        let health = HealthClient::new(channel).check(HealthCheckRequest::default()).await.unwrap();
        assert_eq!(health.into_inner().status, 1);
    }
}

#[tokio::test]
async fn on_routes_next_to_a_grpc_service() {
    let hub = hub();
    let (_reporter, health) = tonic_health::server::health_reporter();
    let routes = Routes::new(health)
        .into_axum_router()
        .route_service("/events", EventService::new(hub.clone(), Channels::from_query))
        .route_service("/publish", PublishService::new(hub.clone(), Channels::from_query));
    let server = serve(Routes::from(routes)).await;
    check_both(&server, &hub).await;
    for http in BOTH {
        server.post("/publish?channel=a", "text/plain", "x").over(http).send().await.expect(200);
    }
}

#[tokio::test]
async fn as_a_layer_in_front_of_a_grpc_service() {
    let hub = hub();
    let (_reporter, health) = tonic_health::server::health_reporter();
    let events = EventService::new(hub.clone(), Channels::from_query);
    let layer = EventsLayer::new(hub.clone()).route("/events", events);
    let routes = Routes::new(health).into_axum_router().layer(layer);
    check_both(&serve(Routes::from(routes)).await, &hub).await;
}

#[tokio::test]
async fn a_drain_lets_tonics_graceful_shutdown_finish() {
    let hub = hub();
    let (_reporter, health) = tonic_health::server::health_reporter();
    let routes = Routes::new(health).into_axum_router();
    let routes = routes.route_service("/events", EventService::new(hub.clone(), Channels::from_query));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = Server::at(listener.local_addr().unwrap());
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let stopping = async move {
        _ = stopped.await;
        hub.drain(Duration::from_millis(10));
    };
    let builder = tonic::transport::Server::builder().accept_http1(true).add_routes(Routes::from(routes));
    let serving = tokio::spawn(builder.serve_with_incoming_shutdown(TcpIncoming::from(listener), stopping));
    let mut streams = Vec::new();
    for http in BOTH {
        let mut stream = server.get("/events?channel=a").over(http).sse().await;
        stream.first_block().await;
        streams.push(stream);
    }
    stop.send(()).unwrap();
    for stream in &mut streams {
        let names: Vec<_> = stream.remaining().await.into_iter().map(|message| message.name).collect();
        assert_eq!(names, ["stream-retry"]);
    }
    drop(streams);
    tokio::time::timeout(Duration::from_secs(30), serving).await.expect("ends").unwrap().unwrap();
}

#[tokio::test]
async fn the_example_serves_both_and_ends_on_an_interrupt() {
    // Cargo puts examples next to the directory of the test binaries.
    let tests = std::env::current_exe().unwrap();
    let example = tests.ancestors().nth(2).unwrap().join("examples/tonic");
    let mut command = tokio::process::Command::new(example);
    command.arg("127.0.0.1:0").stdout(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().expect("a plain `cargo test -p interop` builds the example first");
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let line = lines.next_line().await.unwrap().unwrap();
    let address = line.rsplit('/').next().unwrap().parse().unwrap();

    let server = Server::at(address);
    let polled = server.get("/events?channel=health&after=earliest").send().await.expect(200);
    assert_eq!(polled.data()[0]["service"], "clockwork");
    let mut stream = server.get("/events?channel=health").sse().await;
    stream.first_block().await;
    let channel = tonic::transport::Endpoint::from_shared(server.url("")).unwrap().connect().await.unwrap();
    HealthClient::new(channel).check(HealthCheckRequest::default()).await.unwrap();

    let interrupt = tokio::process::Command::new("kill").args(["-INT", &child.id().unwrap().to_string()]).status();
    assert!(interrupt.await.unwrap().success());
    while stream.next_or_end().await.is_some() {}
    drop(stream);
    let ended = tokio::time::timeout(Duration::from_secs(30), child.wait()).await.expect("ends");
    assert!(ended.unwrap().success());
}
