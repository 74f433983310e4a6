//! The NATS store beside the driver's own path, in one run, interleaved: `cargo bench --features nats --bench nats`.
//! Starts a server of its own; `NATS_SERVER` names another binary.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::unwrap_used, reason = "a panic ends the benchmark")]

use std::{
    future::poll_fn,
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use async_nats::Client;
use futures_core::Stream;
use serde_json::json;
use tower_events::{
    Channel, Event, NatsStore, Retention, Store,
    store::{Append, Change},
};

#[path = "../tests/nats/server.rs"]
#[allow(dead_code, unreachable_pub, reason = "the tests use the rest")]
mod server;

#[tokio::main]
async fn main() {
    for binary in server::servers() {
        let server = server::Server::start(&binary);
        println!("{}", binary.display());
        latency(&server.url()).await;
        for channels in [1, 64] {
            for publishers in [1, 16, 64] {
                rates(&server.url(), publishers, channels).await;
            }
        }
        contention(&server.url()).await;
        followed(&server.url()).await;
    }
}

fn channel(nth: usize) -> Channel {
    Channel::new(format!("bench:{nth}")).unwrap()
}

fn event() -> Append {
    Append::new([Event::text("x".repeat(200))])
}

async fn store(url: &str) -> NatsStore {
    let retention = Retention::default().events(1_000_000).bytes(1 << 30);
    NatsStore::options().prefix("bench").retention(retention).connect(url).await.unwrap()
}

/// A stream of the driver's own, with the same settings.
async fn plain(url: &str) -> Client {
    let client = async_nats::connect(url).await.unwrap();
    let config = json!({"name": "plain", "subjects": ["plain.>"], "retention": "limits", "storage": "file",
        "num_replicas": 1, "discard": "new", "duplicate_window": 1_000_000_000, "allow_direct": true,
        "allow_rollup_hdrs": true});
    client.request("$JS.API.STREAM.CREATE.plain", config.to_string().into()).await.unwrap();
    client
}

async fn latency(url: &str) {
    let (here, there, client, other) = (store(url).await, store(url).await, plain(url).await, plain(url).await);
    let mut changes = pin!(there.changes());
    while !matches!(poll_fn(|cx| changes.as_mut().poll_next(cx)).await, Some(Change::Resync)) {}
    let inbox = other.new_inbox();
    let mut messages = pin!(other.subscribe(inbox.clone()).await.unwrap());
    let consumer = json!({"stream_name": "plain", "config": {"deliver_subject": inbox, "deliver_policy": "new",
        "ack_policy": "none", "replay_policy": "instant", "mem_storage": true, "num_replicas": 1}});
    other.request("$JS.API.CONSUMER.CREATE.plain", consumer.to_string().into()).await.unwrap();
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    let (payload, to) = ("x".repeat(200), channel(0));
    for _ in 0..4_000 {
        let begun = Instant::now();
        let arrives = async {
            while !matches!(poll_fn(|cx| changes.as_mut().poll_next(cx)).await, Some(Change::Entries(_))) {}
            begun.elapsed()
        };
        ours.push(tokio::join!(here.append(&to, event()), arrives).1);
        let begun = Instant::now();
        let arrives = async {
            poll_fn(|cx| messages.as_mut().poll_next(cx)).await.unwrap();
            begun.elapsed()
        };
        theirs.push(tokio::join!(client.request("plain.0", payload.clone().into()), arrives).1);
    }
    for part in [0.5, 0.9, 0.99] {
        let (ours, theirs) = (quantile(&mut ours, part), quantile(&mut theirs, part));
        println!(
            "publish to delivery, p{:.0}: {ours:?}, driver {theirs:?}, ratio {:.2}",
            part * 100.0,
            ours.as_secs_f64() / theirs.as_secs_f64()
        );
    }
}

fn quantile(all: &mut [Duration], part: f64) -> Duration {
    all.sort();
    all[(all.len() as f64 * part) as usize]
}

/// Appends per second of many publishers that each wait for their acknowledgement, five rounds of each in turn.
async fn rates(url: &str, publishers: usize, channels: usize) {
    let (store, client) = (store(url).await, plain(url).await);
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..5 {
        let begin = |nth: usize| {
            let (store, channel) = (store.clone(), channel(nth % channels));
            move || {
                let (store, channel) = (store.clone(), channel.clone());
                async move { drop(store.append(&channel, event()).await.unwrap()) }
            }
        };
        ours.push(rate(publishers, begin).await);
        let begin = |nth: usize| {
            let (client, subject) = (client.clone(), format!("plain.{}", nth % channels));
            move || {
                let (client, subject) = (client.clone(), subject.clone());
                async move { drop(client.request_with_headers(subject, headers(), "x".repeat(217).into()).await.unwrap()) }
            }
        };
        theirs.push(rate(publishers, begin).await);
    }
    ours.sort_by(f64::total_cmp);
    theirs.sort_by(f64::total_cmp);
    let (ours, theirs) = (ours[2], theirs[2]);
    println!(
        "{publishers} publishers on {channels} channels: {ours:.0} appends/s, driver {theirs:.0}/s, ratio {:.2}",
        ours / theirs
    );
}

/// As many bytes of headers as the store writes.
fn headers() -> async_nats::HeaderMap {
    let mut headers = async_nats::HeaderMap::new();
    headers.insert("Tower-Events", "x".repeat(130));
    headers
}

async fn rate<P, F>(publishers: usize, begin: impl Fn(usize) -> P) -> f64
where
    P: Fn() -> F + Send + 'static,
    F: Future<Output = ()> + Send,
{
    let (begun, until) = (Instant::now(), Instant::now() + Duration::from_millis(700));
    let tasks: Vec<_> = (0..publishers)
        .map(|nth| {
            let publish = begin(nth);
            tokio::spawn(async move {
                let mut count = 0;
                while Instant::now() < until {
                    publish().await;
                    count += 1;
                }
                count
            })
        })
        .collect();
    let mut sum = 0;
    for task in tasks {
        sum += task.await.unwrap();
    }
    f64::from(sum) / begun.elapsed().as_secs_f64()
}

/// Four nodes on one hot channel, 16 publishers each.
async fn contention(url: &str) {
    let nodes = Arc::new([store(url).await, store(url).await, store(url).await, store(url).await]);
    for busy in [1, 2, 4] {
        let begin = |nth: usize| {
            let store = nodes[nth % busy].clone();
            move || {
                let store = store.clone();
                async move { drop(store.append(&channel(0), event()).await.unwrap()) }
            }
        };
        println!("{busy} nodes with 16 publishers each on one channel: {:.0} appends/s", rate(16 * busy, begin).await);
    }
}

/// What it costs to compare the heads of 10 000 channels.
async fn followed(url: &str) {
    let store = store(url).await;
    let channels: Vec<_> = (0..10_000).map(channel).collect();
    let begun = Instant::now();
    let mut made = tokio::task::JoinSet::new();
    for part in channels.chunks(250) {
        let (store, part) = (store.clone(), part.to_vec());
        made.spawn(async move {
            for channel in &part {
                store.append(channel, event()).await.unwrap();
            }
        });
    }
    made.join_all().await;
    println!("a first append to each of 10 000 channels: {:?}", begun.elapsed());
    for _ in 0..3 {
        let begun = Instant::now();
        for part in channels.chunks(1_000) {
            assert_eq!(store.heads(part).await.unwrap().len(), part.len());
        }
        println!("heads of 10 000 channels: {:?}", begun.elapsed());
    }
}
