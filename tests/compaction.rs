//! Catching up through a compaction, as clients see it: how much less they receive, from where they resume, and how old what they
//! receive is.
#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a helper that panics is a failed test"
)]

#[path = "support/program.rs"]
#[allow(dead_code, reason = "other tests use more of it")]
mod program;
mod support;

use std::time::Duration;

use axum::Router;
use http_body_util::BodyExt as _;
use program::Directory;
use proptest::{collection::vec, prelude::*};
use support::{BOTH, Message, Parser, Server, channel, serve};
use tokio::time::{Instant, sleep, sleep_until};
use tower_events::{
    AnyStore, Compaction, Cursor, Data, Event, EventName, EventService, FileStore, Hub, MemoryStore, Retention,
    Subscription, store::Entry,
};

/// Enough for everything that a test publishes.
fn retention() -> Retention {
    Retention::default().events(200_000).bytes(128 << 20)
}

/// A memory store and a file store.
fn stores(directory: &Directory) -> [AnyStore; 2] {
    let file = FileStore::options().retention(retention()).open(directory.0.join("events.db")).unwrap();
    [AnyStore::new(MemoryStore::new(retention())), AnyStore::new(file)]
}

/// `/all` without and `/less` with the compaction.
async fn app(hub: &Hub, compaction: Compaction) -> Server {
    let all = EventService::fixed(hub.clone(), channel("a"));
    let router = Router::new().route_service("/all", all.clone()).route_service("/less", all.compaction(compaction));
    serve(router).await
}

async fn publish(hub: &Hub, events: impl Iterator<Item = Event>) {
    let events: Vec<_> = events.collect();
    for batch in events.chunks(10_000) {
        hub.publish_all(&channel("a"), batch.to_vec()).await.unwrap();
    }
}

/// The events up to the end of the history, and how many bytes that took.
async fn history(server: &Server, path_and_query: &str) -> (Vec<Message>, usize) {
    let mut stream = server.get(path_and_query).sse().await;
    let live = stream.live().await;
    let bytes = stream.raw().len();
    let mut parser = Parser::default();
    let mut messages = parser.push(stream.raw());
    messages.retain(|message| message.name != live.name);
    (messages, bytes)
}

fn text(messages: &[Message]) -> String {
    messages.iter().map(|message| message.data.as_str()).collect()
}

#[tokio::test]
async fn an_answer_of_38_000_deltas_takes_a_twentieth_and_continues_after_each_of_its_events() {
    let directory = Directory::new("compaction");
    for store in stores(&directory) {
        let hub = Hub::new(store);
        let server = app(&hub, Compaction::joined_text()).await;
        publish(&hub, (0..38_000).map(|n| Event::text(format!("{} ", n % 10)).named("delta").unwrap())).await;
        let (all, all_bytes) = history(&server, "/all?after=earliest").await;
        let (less, less_bytes) = history(&server, "/less?after=earliest").await;
        assert_eq!(all.len(), 38_000);
        assert!(less.len() * 20 <= all.len() && less_bytes * 20 <= all_bytes, "{} {less_bytes}", less.len());
        let whole = text(&all);
        assert_eq!(text(&less), whole);
        let mut received = 0;
        for event in &less {
            received += event.data.len();
            let (rest, _) = history(&server, &format!("/less?after={}", event.id)).await;
            assert_eq!(text(&rest), whole[received..], "after {received} bytes");
        }
        // A client that comes from where nothing was merged.
        let (rest, _) = history(&server, &format!("/less?after={}", all[17_000].id)).await;
        assert_eq!(text(&rest), text(&all[17_001..]));
    }
}

/// How many bytes surround each of many events in a poll, whose answer may take several requests; and the data of all of them.
async fn polled(server: &Server, path: &str) -> (usize, Vec<String>) {
    let (mut bytes, mut data, mut after) = (0, Vec::new(), "earliest".to_owned());
    loop {
        let answer = server.get(&format!("{path}?after={after}&limit=50000&wait=0")).send().await.expect(200);
        bytes += answer.body.len();
        data.extend(answer.data().iter().map(|data| data.as_str().unwrap().to_owned()));
        if answer.try_header("events-live").is_some() {
            return (bytes, data);
        }
        after = answer.cursor();
    }
}

/// What is left of 38 000 deltas is their text: no way to join them without loss leaves less, however long a delta is.
#[tokio::test]
async fn joined_deltas_take_as_many_bytes_as_their_text() {
    const DELTAS: usize = 38_000;
    for (delta, name) in [("to", None), ("token ", None), ("token ", Some("delta")), ("a \"b\"\u{e9} ", Some("delta"))]
    {
        let hub = Hub::new(MemoryStore::new(retention()));
        let server = app(&hub, Compaction::joined_text()).await;
        let event = || match name {
            Some(name) => Event::text(delta).named(name).unwrap(),
            None => Event::text(delta),
        };
        publish(&hub, (0..DELTAS).map(|_| event())).await;
        let (all, all_bytes) = history(&server, "/all?after=earliest").await;
        let (less, less_bytes) = history(&server, "/less?after=earliest").await;
        let (polled_all_bytes, polled_all) = polled(&server, "/all").await;
        let (polled_less_bytes, polled_less) = polled(&server, "/less").await;
        assert_eq!((text(&all), polled_all.concat()), (text(&less), polled_less.concat()));
        let in_json = serde_json::to_string(delta).unwrap().len() - 2;
        let framing = 41 + name.map_or(0, |name| 8 + name.len());
        for (all, less, all_bytes, less_bytes, length, framing) in [
            (all.len(), less.len(), all_bytes, less_bytes, delta.len(), framing),
            (polled_all.len(), polled_less.len(), polled_all_bytes, polled_less_bytes, in_json, 83 + framing - 41),
        ] {
            let saved = all_bytes as f64 / less_bytes as f64;
            let bound = (framing + length) as f64 / length as f64;
            println!(
                "{name:?} {delta:?}: {all} events become {less}, {all_bytes} bytes {less_bytes}: {saved:.1} of {bound:.1}"
            );
            assert!(less <= 10 && all == DELTAS, "{less} of {all} events");
            assert!(saved > bound * 0.98, "{saved} times fewer bytes of at most {bound}");
        }
    }
}

#[tokio::test]
async fn the_newest_event_of_each_name_comes_and_a_limit_counts_what_is_left() {
    for http in BOTH {
        let hub = Hub::new(MemoryStore::new(retention()));
        let server = app(&hub, Compaction::newest_per_name()).await;
        let gauge = |n: u32| Event::text(n.to_string()).named(format!("gauge {}", n % 50)).unwrap();
        publish(&hub, (0..5_000).map(gauge)).await;
        let (less, _) = history(&server, "/less?after=earliest").await;
        let newest: Vec<_> = (4_950..5_000).map(|n| n.to_string()).collect();
        assert_eq!(less.iter().map(|message| message.data.clone()).collect::<Vec<_>>(), newest);

        let first = server.get("/less?after=earliest&limit=20&wait=0").over(http).send().await.expect(200);
        assert_eq!(
            (first.data(), first.try_header("events-live")),
            (newest[..20].iter().map(|n| n.as_str().into()).collect(), None)
        );
        let rest = server.get(&format!("/less?after={}&wait=0", first.cursor())).over(http).send().await.expect(200);
        assert_eq!(rest.data(), newest[20..]);
        assert_eq!(rest.header("events-live"), "true");
    }
}

#[tokio::test]
async fn live_events_come_one_by_one() {
    for http in BOTH {
        let hub = Hub::new(MemoryStore::new(retention()));
        let server = app(&hub, Compaction::newest_per_name()).await;
        let mut stream = server.get("/less").over(http).sse().await;
        stream.live().await;
        publish(&hub, (0..100).map(|n| Event::text(n.to_string()))).await;
        assert_eq!(stream.data(100).await, (0..100).map(|n| n.to_string()).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn a_client_that_is_too_far_behind_is_told_on_both_transports() {
    let hub = Hub::new(MemoryStore::new(retention()));
    let server = serve(EventService::fixed(hub.clone(), channel("a")).max_behind(10)).await;
    let receipts = hub.publish_all(&channel("a"), (0..12).map(|n| Event::text(n.to_string()))).await.unwrap().receipts;
    let (far, near, head) = (receipts[0].cursor, receipts[1].cursor, receipts[11].cursor);
    for http in BOTH {
        let poll = server.get(&format!("/?after={far}&wait=0")).over(http).send().await.expect(200);
        assert_eq!((poll.header("events-reset"), poll.data().len()), ("behind", 0));
        assert_eq!(poll.cursor(), head.to_string());
        let near = server.get(&format!("/?after={near}&wait=0")).over(http).send().await.expect(200);
        assert_eq!((near.try_header("events-reset"), near.data().len()), (None, 10));

        let mut stream = server.get("/").over(http).last_event_id(far.to_string()).sse().await;
        let reset = stream.next().await;
        assert_eq!((reset.name.as_str(), reset.id), ("stream-reset", head.to_string()));
        assert!(reset.data.contains(r#""reason":"behind""#), "{}", reset.data);
    }
}

/// Publishes an update of each of 500 gauges every 100 ms; its data is the milliseconds since `start`.
async fn update_gauges(hub: Hub, start: Instant) {
    let names: Vec<_> = (0..500).map(|n| format!("g{n}")).collect();
    for tick in 0.. {
        sleep_until(start + Duration::from_millis(100 * tick)).await;
        let update = |name: &String| Event::text(start.elapsed().as_millis().to_string()).named(name).unwrap();
        hub.publish_all(&channel("a"), names.iter().map(update)).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_reader_of_500_gauges_gets_values_of_the_last_two_seconds() {
    const BYTES_PER_SECOND: f64 = 20_000.0;
    let hub = Hub::new(MemoryStore::new(retention()));
    let start = Instant::now();
    let subscription = Subscription::new(channel("a")).compaction(Compaction::newest_per_name());
    let mut body = hub.sse(subscription).await.unwrap();
    let publisher = tokio::spawn(update_gauges(hub.clone(), start));
    let (mut parser, mut oldest, mut received) = (Parser::default(), Duration::ZERO, 0);
    while start.elapsed() < Duration::from_secs(10) {
        let chunk = body.frame().await.unwrap().unwrap().into_data().unwrap();
        let taken = start.elapsed();
        // A byte has arrived when all before it have: so the age counts the way through the client's connection, too.
        for (n, byte) in chunk.iter().enumerate() {
            for message in parser.push(&[*byte]).iter().filter(|message| message.name.starts_with('g')) {
                let arrived = taken + Duration::from_secs_f64((n + 1) as f64 / BYTES_PER_SECOND);
                oldest = oldest.max(arrived - Duration::from_millis(message.data.parse().unwrap()));
                received += 1;
            }
        }
        sleep(Duration::from_secs_f64(chunk.len() as f64 / BYTES_PER_SECOND)).await;
    }
    publisher.abort();
    assert!(oldest <= Duration::from_secs(2), "{oldest:?}");
    assert!((2_500..5_000).contains(&received), "about each gauge every 1.4 s: {received}");
}

fn entry(seq: usize, name: Option<&str>, data: Data) -> Entry {
    let cursor = Cursor { epoch: 1, seq: seq as u64 + 1, tag: seq as u32 + 1 };
    Entry::new(channel("a"), cursor, data).named(name.map(|name| EventName::new(name).unwrap()))
}

fn entries() -> impl Strategy<Value = Vec<Entry>> {
    let data = prop_oneof![4 => "[a-z]{0,9}".prop_map(Data::text), 1 => Just(Data::from_json("[1]").unwrap())];
    let name = prop_oneof![Just(None), Just(Some("a")), Just(Some("b"))];
    let made = |all: Vec<(Option<&str>, Data)>| {
        all.into_iter().enumerate().map(|(seq, (name, data))| entry(seq, name, data)).collect()
    };
    vec((name, data), 0..40).prop_map(made)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn compacting_what_was_compacted_and_more_gives_what_compacting_all_at_once_does(all in entries(), at in 0..40_usize) {
        let length = Compaction::newest_per("length", |entry| Some(entry.data.len()).filter(|length| *length > 1));
        let ready_made = [Compaction::newest_per_name(), length, Compaction::joined_text(), Compaction::joined_text_up_to(12)];
        for compaction in ready_made {
            let (first, second) = all.split_at(at.min(all.len()));
            let in_parts = compaction.compact([compaction.compact(first.to_vec()), second.to_vec()].concat());
            prop_assert_eq!(in_parts, compaction.compact(all.clone()), "{:?}", compaction);
        }
    }
}
