//! The stop of the server with many clients, also such as take nothing.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use tokio::{task::JoinSet, time::sleep};

use crate::{
    long_form,
    program::Example,
    support::{self, Http1, eventually},
};

/// The kinds of connections that a stop has to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    IdleStream,
    Poll,
    /// Is sent what it missed.
    CatchingUp,
    /// Is sent what it missed, and reads nothing of it.
    TakingNothing,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_ends_at_once_when_clients_read_also_what_they_missed() {
    // Together almost 10 000, each of which takes a descriptor at both ends.
    let each = if long_form().is_some() { 4_900 } else { 200 };
    for frontend in ["axum", "hyper"] {
        let took = stop_with(frontend, &[(Kind::IdleStream, each), (Kind::Poll, each), (Kind::CatchingUp, 50)]).await;
        assert!(took < GRACE + WINDOW, "{frontend}: {took:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_waits_no_longer_than_the_window_for_clients_that_take_nothing() {
    const CLIENTS: [(Kind, usize); 3] = [(Kind::IdleStream, 20), (Kind::Poll, 20), (Kind::TakingNothing, 3)];
    let stops = ["axum", "hyper"].map(|frontend| tokio::spawn(stop_with(frontend, &CLIENTS)));
    for stop in stops {
        let took = stop.await.unwrap();
        assert!((GRACE + WINDOW..GRACE + WINDOW * 2).contains(&took), "{took:?}");
    }
}

const WINDOW: Duration = Duration::from_secs(2);
/// The default.
const GRACE: Duration = Duration::from_millis(500);

/// How long a stop takes with these clients, which check how they end.
async fn stop_with(frontend: &'static str, all: &[(Kind, usize)]) -> Duration {
    let drain = WINDOW.as_secs().to_string();
    let server = Example::start("server", &["--listen=127.0.0.1:0", "--frontend", frontend, "--drain", &drain]);
    fill(&server);
    let (mut clients, mut count) = (JoinSet::new(), 0);
    for (kind, of_kind) in all {
        // A thousand at a time, so that none waits for all the others.
        for part in (0..*of_kind).collect::<Vec<_>>().chunks(1_000) {
            part.iter().for_each(|_| _ = clients.spawn(client(server.address(), *kind)));
            count += part.len();
            tokio::task::block_in_place(|| server.until_it_has_readers(count as u64));
        }
    }
    if all.iter().any(|(kind, _)| *kind == Kind::TakingNothing) {
        sleep(Duration::from_secs(1)).await; // until the buffers of both ends are full
    }
    let began = Instant::now();
    tokio::task::block_in_place(|| server.stop("TERM"));
    let took = began.elapsed();
    println!("{frontend}: {count} clients, stopped in {took:.1?}");
    while let Some(ended) = clients.join_next().await {
        ended.unwrap();
    }
    took
}

/// Publishes more than fits into the buffers of both ends of a connection.
fn fill(server: &Example) {
    let text = "x".repeat(200 << 10);
    for _ in 0..35 {
        assert_eq!(server.post("/publish?channel=full", "text/plain", &text).status, 200);
    }
}

async fn client(server: SocketAddr, kind: Kind) {
    let mut http1 = Http1::connect(server).await.unwrap();
    let (query, accept) = match kind {
        Kind::IdleStream => ("channel=a", "text/event-stream"),
        Kind::Poll => ("channel=a&wait=55", "application/json"),
        Kind::CatchingUp | Kind::TakingNothing => ("channel=full&after=earliest", "text/event-stream"),
    };
    http1.send(format!("GET /events?{query} HTTP/1.1\r\nhost: a\r\naccept: {accept}\r\n\r\n")).await;
    if kind == Kind::TakingNothing {
        return sleep(GRACE + WINDOW * 3).await;
    }
    let (status, headers) = http1.head("GET").await.unwrap();
    assert_eq!(status, 200);
    let mut last = Vec::new();
    while let Some(chunk) = http1.chunk().await.unwrap_or_else(|error| panic!("{kind:?}: {error}")) {
        if kind == Kind::CatchingUp {
            sleep(Duration::from_millis(2)).await;
        }
        last.drain(..last.len().saturating_sub(200));
        last.extend(chunk);
    }
    match kind {
        Kind::Poll => assert!(headers.contains_key("retry-after"), "{headers:?}"),
        _ => assert!(String::from_utf8_lossy(&last).contains("event: stream-retry"), "{kind:?}: {last:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn until_the_grace_is_over_a_stopping_server_answers_and_sends_clients_away() {
    for frontend in ["axum", "hyper"] {
        let server = Example::start("server", &["--listen=127.0.0.1:0", "--frontend", frontend, "--grace=0.7"]);
        tokio::task::block_in_place(|| {
            let mut stream = server.stream("/events?channel=a", "text/event-stream");
            stream.until("event: stream-live");
            server.signal("TERM");
            let rest = stream.rest();
            assert!(rest.contains("event: stream-retry"), "{rest:?}");
            let refused = server.get("/events?channel=a");
            assert!(refused.status == 503 && refused.body.contains("draining"), "{refused:?}");
            assert_eq!(
                (server.get("/healthz").status, server.post("/publish?channel=a", "text/plain", "x").status),
                (200, 200)
            );
        });
        let address = server.address();
        let mut server = server;
        assert!(tokio::task::block_in_place(|| server.exit()).success());
        assert!(Http1::connect(address).await.is_err());
    }
}

#[test]
fn a_second_signal_ends_the_server_at_once() {
    support::arm_deadline();
    for (first, second) in [("TERM", "TERM"), ("INT", "TERM"), ("TERM", "INT")] {
        let mut server = Example::start("server", &["--listen=127.0.0.1:0", "--grace=60", "--drain=60"]);
        let mut stream = server.stream("/events?channel=a", "text/event-stream");
        stream.until("event: stream-live");
        server.signal(first);
        stream.rest();
        server.signal(second);
        assert_eq!(server.exit().code(), Some(1), "{first} {second}");
    }
}

/// Unlike `server`, most programs use `axum::serve`, which waits for every client.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn axums_own_graceful_shutdown_ends_too() {
    let hub = tower_events::Hub::new(tower_events::MemoryStore::default());
    let service = tower_events::EventService::new(hub.clone(), tower_events::Channels::from_query);
    let router = axum::Router::new().route_service("/events", service);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, draining) = (listener.local_addr().unwrap(), hub.clone());
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let served = tokio::spawn(
        axum::serve(listener, router)
            .with_graceful_shutdown(async move {
                _ = stopped.await;
                drop(draining.drain(Duration::from_secs(20)));
                sleep(Duration::from_millis(100)).await;
            })
            .into_future(),
    );
    let events = vec![tower_events::Event::text("x".repeat(200 << 10)); 35];
    for event in events {
        hub.publish(&support::channel("full"), event).await.unwrap();
    }
    let mut clients = JoinSet::new();
    for (kind, count) in [(Kind::IdleStream, 100), (Kind::Poll, 100), (Kind::CatchingUp, 50)] {
        for _ in 0..count {
            clients.spawn(client(address, kind));
        }
    }
    eventually("250 readers", || hub.stats().readers == 250).await;
    stop.send(()).unwrap();
    let began = Instant::now();
    served.await.unwrap().unwrap();
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    while let Some(ended) = clients.join_next().await {
        ended.unwrap();
    }
}
