//! Clients that are cut off after any byte, change transports, and resume in a log that has changed: nothing is lost or
//! repeated, and every reset is announced.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

mod support;

use std::time::Duration;

use fastrand::Rng;
use support::{Message, Server, serve_in_memory};
use tower_events::{
    Channel, Channels, Cursor, Event, EventService, Hub, MemoryStore, Retention, Store,
    store::{Append, Expect},
};

const STREAM: &str = "text/event-stream";

fn channel(name: &str) -> Channel {
    Channel::new(name).unwrap()
}

fn app(store: &MemoryStore) -> (Hub, Server) {
    let hub = Hub::new(store.clone());
    let server = serve_in_memory(EventService::new(hub.clone(), Channels::from_query));
    (hub, server)
}

async fn publish(hub: &Hub, texts: &[&str]) {
    for text in texts {
        hub.publish(&channel("a"), Event::text(*text).named("message").unwrap()).await.unwrap();
    }
}

fn data(messages: &[Message]) -> Vec<String> {
    messages.iter().map(|message| message.data.clone()).collect()
}

/// Connects as `EventSource` does: always the same URL, and the last id if there is one.
async fn stream(server: &Server, query: &str, id: &str) -> support::Sse {
    let request = server.get(&format!("/events?{query}")).header("accept", STREAM);
    if id.is_empty() { request.sse().await } else { request.last_event_id(id).sse().await }
}

#[tokio::test(start_paused = true)]
async fn a_stream_cut_after_any_byte_resumes_without_loss() {
    let texts = ["one", "", "two\nlines", "id: 7\n\nevent: x", ": comment", "é😀", "last"];
    for several in [false, true] {
        let query = if several { "channel=a&channel=b&after=earliest" } else { "channel=a&after=earliest" };
        let (hub, server) = app(&MemoryStore::default());
        publish(&hub, &texts).await;
        let mut whole = stream(&server, query, "").await;
        whole.take(texts.len()).await;
        for cut in 0..=whole.raw().len() {
            let (mut seen, id) = stream(&server, query, "").await.cut_after(cut.saturating_sub(1)).await;
            let left = texts.len() - seen.len();
            if left > 0 {
                seen.extend(stream(&server, query, &id).await.take(left).await);
            }
            assert_eq!(data(&seen), texts, "cut before byte {cut}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_drops_before_its_first_event_misses_nothing() {
    let (hub, server) = app(&MemoryStore::default());
    publish(&hub, &["old"]).await;
    let mut first = stream(&server, "channel=a", "").await;
    first.first_block().await;
    let id = first.last_event_id().to_owned();
    drop(first);
    publish(&hub, &["meanwhile"]).await;
    assert_eq!(stream(&server, "channel=a", &id).await.data(1).await, ["meanwhile"]);
}

#[tokio::test(start_paused = true)]
async fn a_client_continues_from_its_position_when_it_changes_transports() {
    for several in [false, true] {
        let channels = if several { "channel=a&channel=b" } else { "channel=a" };
        let (hub, server) = app(&MemoryStore::default());
        let mut id = server.get(&format!("/events?{channels}&wait=0")).send().await.cursor();
        let mut seen = Vec::new();
        for round in 0..12 {
            publish(&hub, &[&format!("{round}.1"), &format!("{round}.2")]).await;
            if round % 2 == 0 {
                let mut stream = stream(&server, channels, &id).await;
                seen.extend(stream.data(2).await);
                id = stream.last_event_id().to_owned();
            } else {
                let answer = server.get(&format!("/events?{channels}&after={id}&limit=1")).send().await;
                let rest = server.get(&format!("/events?{channels}")).last_event_id(answer.cursor()).send().await;
                assert_eq!(answer.try_header("events-reset"), None);
                seen.extend(
                    answer.data().into_iter().chain(rest.data()).map(|datum| datum.as_str().unwrap().to_owned()),
                );
                id = rest.cursor();
            }
        }
        let expected: Vec<_> = (0..12).flat_map(|round| [format!("{round}.1"), format!("{round}.2")]).collect();
        assert_eq!(seen, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_cut_before_the_reset_is_seen_does_not_hide_it() {
    let store = MemoryStore::new(Retention::default().events(2));
    let (hub, server) = app(&store);
    publish(&hub, &["1"]).await;
    let old = server.get("/events?channel=a&wait=0&after=earliest").send().await.cursor();
    publish(&hub, &["2", "3", "4", "5"]).await;
    // Resume at another node: the first one's ring still holds what the store has dropped.
    let (_hub, server) = app(&store);
    let mut whole = stream(&server, "channel=a", &old).await;
    assert_eq!(whole.next().await.name, "stream-reset");
    let reset_ends = whole.text().find("\n\n").unwrap() + 2;
    for cut in 0..reset_ends {
        let (seen, id) = stream(&server, "channel=a", &old).await.cut_after(cut).await;
        assert!(seen.is_empty());
        // Before the event that announces the reset is complete, the client has no id but the old one.
        assert!(id.is_empty() || id == old, "cut at {cut}");
    }
    let (seen, id) = stream(&server, "channel=a", &old).await.cut_after(reset_ends).await;
    assert_eq!(seen[0].name, "stream-reset");
    let mut rest = stream(&server, "channel=a", &id).await;
    assert_eq!(rest.data(2).await, ["4", "5"]);
}

/// Random cuts on both transports, over a log that is trimmed, replaced, truncated and appended to again.
#[test]
fn every_client_sees_an_unbroken_history_or_a_reset() {
    let replay = std::env::var("TOWER_EVENTS_SEED").ok().map(|seed| seed.parse().expect("a number"));
    let seeds = replay.map_or_else(|| (0..60).chain((0..20).map(|_| fastrand::u64(..))).collect(), |seed| vec![seed]);
    for seed in seeds {
        let done = std::panic::catch_unwind(|| {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
            runtime.block_on(async { World::new(seed).run().await });
        });
        assert!(done.is_ok(), "replay with TOWER_EVENTS_SEED={seed}");
    }
}

struct World {
    rng: Rng,
    store: MemoryStore,
    hub: Hub,
    server: Server,
    clients: Vec<Client>,
}

#[derive(Default)]
struct Client {
    id: String,
    last: Option<Cursor>,
    resets: usize,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let store = MemoryStore::new(Retention::default().events(rng.u64(3..30)));
        let (hub, server) = app(&store);
        Self { rng, store, hub, server, clients: (0..4).map(|_| Client::default()).collect() }
    }

    async fn run(mut self) {
        for _ in 0..80 {
            match self.rng.u32(..20) {
                0..9 => {
                    let count = self.rng.usize(1..6);
                    let events = (0..count).map(|n| Event::text(format!("{n}\n{n}")));
                    drop(self.hub.publish_all(&channel("a"), events).await);
                }
                9 => drop(self.store.append(&channel("a"), Append::new([Event::text("past")])).await),
                10 => drop(self.store.init(&channel("a"), vec![Event::text("new")], Expect::Any).await),
                11 => self.store.lose_tail(&channel("a"), self.rng.u64(..4)),
                12 => drop(self.store.delete(&channel("a")).await),
                13 => tokio::time::sleep(Duration::from_secs(4)).await,
                _ => self.read().await,
            }
        }
        self.store.init(&channel("a"), vec![Event::text("the end")], Expect::Any).await.unwrap();
        for at in 0..self.clients.len() {
            while !self.poll(at, 30).await.contains(&"the end".to_owned()) {}
        }
    }

    async fn read(&mut self) {
        let at = self.rng.usize(..self.clients.len());
        if self.rng.bool() {
            self.poll(at, 0).await;
            return;
        }
        let id = self.clients[at].id.clone();
        let request = self.server.get("/events?channel=a&after=earliest").header("accept", STREAM);
        let request = if id.is_empty() { request } else { request.last_event_id(&id) };
        let mut stream = request.sse().await;
        let bytes = self.rng.usize(1..600);
        while stream.raw().len() < bytes {
            let more = tokio::time::timeout(Duration::from_secs(4), stream.read_more()).await;
            if !matches!(more, Ok(Ok(true))) {
                break;
            }
        }
        let (messages, id) = {
            let bytes = bytes.min(stream.raw().len());
            stream.cut_after(bytes).await
        };
        let client = &mut self.clients[at];
        messages.iter().for_each(|message| client.see(message));
        if !id.is_empty() {
            client.id = id;
        }
    }

    /// Makes one long poll and returns the texts received.
    async fn poll(&mut self, at: usize, wait: u32) -> Vec<String> {
        let limit = self.rng.usize(1..9);
        let request = self.server.get(&format!("/events?channel=a&wait={wait}&limit={limit}&after=earliest"));
        let client = &mut self.clients[at];
        let request = if client.id.is_empty() { request } else { request.last_event_id(&client.id) };
        let answer = request.send().await.expect(200);
        if answer.try_header("events-reset").is_some() {
            client.last = None;
            client.resets += 1;
        }
        for entry in answer.json().as_array().unwrap() {
            client.take(entry["id"].as_str().unwrap());
        }
        client.id = answer.cursor();
        client.last = Some(client.id.parse().unwrap());
        answer.data().iter().map(|datum| datum.as_str().unwrap_or_default().to_owned()).collect()
    }
}

impl Client {
    fn see(&mut self, message: &Message) {
        if message.name == "stream-reset" {
            let reset: serde_json::Value = serde_json::from_str(&message.data).unwrap();
            assert_eq!(reset["earliest"], message.id);
            self.last = Some(message.id.parse().unwrap());
            self.resets += 1;
        } else {
            self.take(&message.id);
        }
    }

    fn take(&mut self, id: &str) {
        let cursor: Cursor = id.parse().unwrap();
        if let Some(last) = self.last {
            assert_eq!((cursor.epoch, cursor.seq), (last.epoch, last.seq + 1), "skipped or repeated");
        }
        self.last = Some(cursor);
    }
}
