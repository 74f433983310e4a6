//! Clients that people use, against the services: each follows a channel through a line that is cut again and again, and
//! must see everything once and in order, the names, the reset and the end.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a helper that panics is a failed test"
)]

#[path = "../../tests/support/mod.rs"]
mod support;

use std::{process::Stdio, time::Duration};

use eventsource_client::{Client as _, ReconnectOptions, SSE};
use futures_util::StreamExt as _;
use serde::Deserialize;
use support::{Proxy, Server, channel, serve};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    sync::mpsc,
    task::JoinHandle,
};
use tower_events::{Channels, Event, EventService, Hub, MemoryStore, sse::SseOptions};

/// What a client's user is told.
#[derive(Debug, Deserialize)]
struct Seen {
    #[serde(rename = "type")]
    name: String,
    data: String,
    #[serde(default)]
    id: String,
}

/// A client that follows a URL in a task of its own, which ends when this is dropped.
struct Follower {
    seen: mpsc::UnboundedReceiver<Seen>,
    task: JoinHandle<()>,
}

impl Follower {
    fn start<F: Future<Output = ()> + Send + 'static>(follow: impl FnOnce(mpsc::UnboundedSender<Seen>) -> F) -> Self {
        let (sender, seen) = mpsc::unbounded_channel();
        Self { seen, task: tokio::spawn(follow(sender)) }
    }

    async fn next(&mut self) -> Seen {
        let next = tokio::time::timeout(Duration::from_secs(30), self.seen.recv()).await;
        next.expect("the client sees something").expect("the client goes on")
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Rust: LaunchDarkly's client.
fn eventsource_client(url: String) -> Follower {
    Follower::start(|sender| async move {
        let (soon, later) = (Duration::from_millis(10), Duration::from_millis(50));
        let reconnect = ReconnectOptions::reconnect(true).retry_initial(true).delay(soon).delay_max(later).build();
        let transport = launchdarkly_sdk_transport::HyperTransport::builder().disable_proxy().build_http().unwrap();
        let client = eventsource_client::ClientBuilder::for_url(&url).unwrap().reconnect(reconnect);
        let mut stream = client.build_with_transport(transport).stream();
        while let Some(next) = stream.next().await {
            // An error is a cut; the client comes back by itself.
            if let Ok(SSE::Event(event)) = next {
                let id = event.id.unwrap_or_default();
                _ = sender.send(Seen { name: event.event_type, data: event.data, id });
            }
        }
    })
}

/// Rust: the other client that is in wide use.
fn reqwest_eventsource(url: String) -> Follower {
    use reqwest_eventsource::{Event, EventSource, retry::Constant};
    Follower::start(|sender| async move {
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let mut stream = EventSource::new(client.get(url)).unwrap();
        stream.set_retry_policy(Box::new(Constant::new(Duration::from_millis(10), None)));
        while let Some(next) = stream.next().await {
            if let Ok(Event::Message(message)) = next {
                _ = sender.send(Seen { name: message.event, data: message.data, id: message.id });
            }
        }
    })
}

/// Node: one of the clients of `node/follow.mjs`.
fn node(client: &'static str, url: String) -> Follower {
    Follower::start(move |sender| async move {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/node");
        assert!(
            std::path::Path::new(folder).join("node_modules").exists(),
            "once before the tests: npm --prefix interop/node ci"
        );
        let mut command = tokio::process::Command::new("node");
        command.current_dir(folder).args(["follow.mjs", client, &url, "said"]);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true).spawn().expect("node");
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        while let Some(line) = lines.next_line().await.unwrap() {
            _ = sender.send(serde_json::from_str(&line).expect("a line of follow.mjs"));
        }
        // The client has ended; its test says whether it should have.
        std::future::pending::<()>().await;
    })
}

async fn start() -> (Hub, Server) {
    let hub = Hub::new(MemoryStore::default());
    let soon = SseOptions::default().retry(Duration::from_millis(20));
    let service = EventService::new(hub.clone(), Channels::from_query).sse(soon);
    (hub, serve(service).await)
}

/// What a script of the Node clients prints and what a Rust client reads are texts in SSE, and JSON in long polls.
fn text(data: &str) -> String {
    serde_json::from_str(data).unwrap_or_else(|_| data.to_owned())
}

/// The story that every client lives through.
async fn follows(client: impl FnOnce(String) -> Follower) {
    const EVENTS: usize = 60;
    let (hub, server) = start().await;
    let room = channel("room");
    let publish = async |n: usize| {
        let event = Event::text(format!("event {n}: ключ\nof two lines"));
        let event = if n.is_multiple_of(3) { event.named("said").unwrap() } else { event };
        hub.publish(&room, event).await.unwrap();
    };
    for n in 0..EVENTS / 2 {
        publish(n).await;
    }

    // Cuts in the middle of a replay: between events, inside them, and before the first of a connection.
    let cuts = [600, 700, 450, 333, 1000, 801, 802, 803];
    let proxy = Proxy::start(server.addr(), cuts).await;
    let mut follower = client(proxy.url("/?channel=room&after=earliest&wait=20"));
    for n in 0..EVENTS {
        let seen = follower.next().await;
        assert_eq!(text(&seen.data), format!("event {n}: ключ\nof two lines"));
        assert_eq!(seen.name, if n.is_multiple_of(3) { "said" } else { "message" });
        assert_eq!(seen.id.len(), 28, "{seen:?}");
        // While the client is away, events go on; then the line is cut once more.
        match n + EVENTS / 2 {
            next if next < EVENTS => publish(next).await,
            EVENTS => proxy.cut(),
            _ => {}
        }
    }
    assert!(proxy.accepted() > cuts.len() / 2, "only {} connections", proxy.accepted());

    // Another history: the client is told, then gets all of it.
    hub.init(&room, vec![Event::text("anew")]).await.unwrap();
    assert_eq!(follower.next().await.name, "stream-reset");
    assert_eq!(text(&follower.next().await.data), "anew");

    hub.close(&room).await.unwrap();
    assert_eq!(follower.next().await.name, "stream-end");
}

#[tokio::test]
async fn eventsource_client_in_rust() {
    follows(eventsource_client).await;
}

#[tokio::test]
async fn reqwest_eventsource_in_rust() {
    follows(reqwest_eventsource).await;
}

#[tokio::test]
async fn eventsource_in_node() {
    follows(|url| node("eventsource", url)).await;
}

#[tokio::test]
async fn eventsource_client_in_node() {
    follows(|url| node("eventsource-client", url)).await;
}

#[tokio::test]
async fn a_long_poll_with_fetch_in_node() {
    follows(|url| node("fetch", url)).await;
}

#[tokio::test]
async fn a_long_poll_with_reqwest_in_rust() {
    follows(|url| Follower::start(|sender| poll_with_reqwest(url, sender))).await;
}

async fn poll_with_reqwest(url: String, sender: mpsc::UnboundedSender<Seen>) {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let said = |name: &str, data: String, id: &str| {
        _ = sender.send(Seen { name: name.into(), data, id: id.into() });
    };
    let mut next = url;
    loop {
        // A cut: ask again from the same cursor.
        let Ok(response) = client.get(&next).send().await else { continue };
        let header = |name: &str| response.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
        let (cursor, reset, closed) = (header("last-event-id"), header("events-reset"), header("events-closed"));
        let Ok(body) = response.bytes().await else { continue };
        let events: Vec<serde_json::Value> = serde_json::from_slice(&body).expect("an array");
        if let Some(reset) = reset {
            said("stream-reset", reset, "");
        }
        for event in events {
            let name = event["name"].as_str().unwrap_or("message");
            said(name, event["data"].to_string(), event["id"].as_str().unwrap());
        }
        if closed.is_some() {
            return said("stream-end", String::new(), "");
        }
        next = format!("{}?channel=room&wait=20&after={}", next.split('?').next().unwrap(), cursor.unwrap());
    }
}

#[tokio::test]
async fn event_source_in_node_stops_when_the_channel_has_ended() {
    let (hub, server) = start().await;
    let room = channel("room");
    hub.publish(&room, Event::text("last words")).await.unwrap();
    hub.close(&room).await.unwrap();
    let proxy = Proxy::start(server.addr(), []).await;
    let mut follower = node("eventsource", proxy.url("/?channel=room&after=earliest"));
    let mut names = Vec::new();
    while names.len() < 3 {
        names.push(follower.next().await.name);
    }
    // It reconnects once, is answered with 204, and gives up.
    assert_eq!(names, ["message", "stream-end", "closed"]);
}
