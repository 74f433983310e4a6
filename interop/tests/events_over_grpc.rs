//! The example `tonic_stream`, read by the example `tonic_client`.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a helper that panics is a failed test"
)]

#[path = "../../tests/support/mod.rs"]
mod support;
#[path = "../examples/tonic_client.rs"]
#[allow(dead_code, unreachable_pub, reason = "its `main`")]
mod tonic_client;
#[path = "../examples/tonic_stream.rs"]
#[allow(dead_code, unreachable_pub, reason = "its `main`")]
mod tonic_stream;

use std::{
    net::SocketAddr,
    time::{Duration, SystemTime},
};

use support::{Proxy, channel, within};
use tonic::{
    Code, Request, Response, Status, Streaming,
    transport::{Endpoint, server::TcpIncoming},
};
use tonic_client::{
    Follower,
    events::{Closed, FollowRequest, Reset, Update, events_client::EventsClient, update::Content},
};
use tonic_stream::{Events, events::events_server::EventsServer};
use tower_events::{Channels, Event, Hub, MemoryStore, testing::FaultStore};

#[tokio::test]
async fn a_client_resumes_over_more_than_20_breaks_with_nothing_lost_and_nothing_doubled() {
    const EVENTS: usize = 300;
    let hub = Hub::new(MemoryStore::default());
    let both = Channels::new([channel("a"), channel("b")]).unwrap();
    // Cut within the head, within an update, and between two.
    let proxy = Proxy::start(serve(&hub).await, (0..25).map(|n| 60 + 1_997 * n)).await;
    let endpoint = Endpoint::from_shared(proxy.url("")).unwrap();
    let mut follower = Follower::new(endpoint.connect_lazy(), ["a".into(), "b".into()]);
    follower.request.cursor = hub.position(&both).await.unwrap().to_string();
    follower.pause = Duration::from_millis(5);

    // A few of them fill a frame of HTTP/2, so that some of a batch arrive before a cut.
    let event = |n: &usize| Event::text(format!("{n:3000}"));
    let publishing = tokio::spawn({
        let hub = hub.clone();
        async move {
            for batch in (0..EVENTS).collect::<Vec<_>>().chunks(10) {
                for (name, remainders) in [("a", &[1, 2][..]), ("b", &[0])] {
                    let events = batch.iter().filter(|n| remainders.contains(&(*n % 3)));
                    hub.publish_all(&channel(name), events.map(event)).await.unwrap();
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    });
    let (mut a, mut b) = ((0..EVENTS).filter(|n| n % 3 != 0), (0..EVENTS).step_by(3));
    for _ in 0..EVENTS {
        let update = within(LONG, follower.next()).await.expect("in time").unwrap().expect("not closed");
        let expected = if update.channel == "a" { a.next() } else { b.next() };
        assert_eq!(text(&update).trim_start().parse().ok(), expected, "{}", update.channel);
    }
    publishing.await.unwrap();
    assert!(proxy.accepted() > 20, "{}", proxy.accepted());
}

#[tokio::test]
async fn a_client_that_is_disconnected_before_the_first_update_has_a_position() {
    let hub = Hub::new(MemoryStore::default());
    let server = serve(&hub).await;
    let response = call(server, LONG, &["a"], "").await.unwrap();
    let cursor = response.metadata().get("events-cursor").unwrap().to_str().unwrap().to_owned();
    drop(response);
    hub.publish(&channel("a"), Event::text("meanwhile")).await.unwrap();
    let mut updates = call(server, LONG, &["a"], &cursor).await.unwrap().into_inner();
    assert_eq!(text(&updates.message().await.unwrap().unwrap()), "meanwhile");
}

#[tokio::test]
async fn a_reset_is_an_update_and_a_close_ends_the_call() {
    let hub = Hub::new(MemoryStore::default());
    let server = serve(&hub).await;
    let first = hub.publish(&channel("a"), Event::text("first")).await.unwrap().cursor.to_string();
    hub.init(&channel("a"), vec![Event::text("anew")]).await.unwrap();
    hub.close(&channel("a")).await.unwrap();
    for (cursor, reason) in [(first.as_str(), "epoch-changed"), ("nonsense", "unknown")] {
        let mut updates = call(server, LONG, &["a"], cursor).await.unwrap().into_inner();
        let reset = updates.message().await.unwrap().unwrap();
        assert_eq!(reset.content, Some(Content::Reset(Reset { reason: reason.into() })));
        assert_eq!(text(&updates.message().await.unwrap().unwrap()), "anew");
        assert_eq!(updates.message().await.unwrap().unwrap().content, Some(Content::Closed(Closed {})));
        assert_eq!(updates.message().await.unwrap(), None);
    }
}

#[tokio::test]
async fn a_call_ends_with_its_token_and_is_refused_without_a_right() {
    let hub = Hub::new(MemoryStore::default());
    let server = serve(&hub).await;
    let mut updates = call(server, Duration::from_millis(300), &["a"], "").await.unwrap().into_inner();
    assert_eq!(updates.message().await.unwrap_err().code(), Code::Unauthenticated);
    for (seconds, channels, code) in [
        (Duration::ZERO, &["a"][..], Code::Unauthenticated),
        (LONG, &["secret"], Code::PermissionDenied),
        (LONG, &[], Code::InvalidArgument),
        (LONG, &["a\n"], Code::InvalidArgument),
    ] {
        assert_eq!(call(server, seconds, channels, "").await.unwrap_err().code(), code, "{channels:?}");
    }
}

#[tokio::test]
async fn a_drain_says_when_to_come_back() {
    let hub = Hub::new(MemoryStore::default());
    let server = serve(&hub).await;
    let mut updates = call(server, LONG, &["a"], "").await.unwrap().into_inner();
    hub.drain(Duration::from_secs(5));
    for status in [updates.message().await.unwrap_err(), call(server, LONG, &["a"], "").await.unwrap_err()] {
        assert_eq!(status.code(), Code::Unavailable);
        assert!((1_000..=5_000).contains(&pushback(&status)), "{status:?}");
    }
}

#[tokio::test]
async fn a_failing_store_is_unavailable_and_corrupt_data_is_lost() {
    let (store, faults) = FaultStore::new(MemoryStore::default());
    let hub = Hub::new(store);
    let server = serve(&hub).await;
    let cursor = hub.publish(&channel("a"), Event::text("first")).await.unwrap().cursor.to_string();
    hub.publish(&channel("a"), Event::text("second")).await.unwrap();
    faults.fail_channel(&channel("a"));
    let status = call(server, LONG, &["a"], &cursor).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::Unavailable, "the event store failed"));
    assert!(pushback(&status) >= 500, "{status:?}");
    faults.mend_channel(&channel("a"));
    faults.corrupt_channel(&channel("a"));
    let status = call(server, LONG, &["a"], &cursor).await.unwrap_err();
    assert_eq!(status.code(), Code::DataLoss);
}

/// Serves the example's service.
async fn serve(hub: &Hub) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    let service = EventsServer::new(Events(hub.clone()));
    tokio::spawn(tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming));
    address
}

/// Calls with a token that expires after `time`.
async fn call(
    server: SocketAddr,
    time: Duration,
    channels: &[&str],
    cursor: &str,
) -> Result<Response<Streaming<Update>>, Status> {
    let endpoint = Endpoint::from_shared(format!("http://{server}")).unwrap();
    let channels = channels.iter().map(ToString::to_string).collect();
    let mut request = Request::new(FollowRequest { channels, cursor: cursor.to_owned() });
    let expires = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap() + time;
    let token = format!("Bearer {}", expires.as_secs_f64());
    request.metadata_mut().insert("authorization", token.parse().unwrap());
    EventsClient::new(endpoint.connect_lazy()).follow(request).await
}

fn text(update: &Update) -> String {
    let Some(Content::Event(event)) = &update.content else { panic!("an event expected: {update:?}") };
    serde_json::from_str(&event.data).unwrap()
}

fn pushback(status: &Status) -> u64 {
    status.metadata().get("grpc-retry-pushback-ms").unwrap().to_str().unwrap().parse().unwrap()
}

/// More than a test takes.
const LONG: Duration = Duration::from_secs(60);
