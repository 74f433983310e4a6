//! The NATS store compared with the driver used directly, interleaved in one run: `cargo bench --features nats --bench nats`.
//! Starts its own server; `NATS_SERVER` names another binary.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::unwrap_used, reason = "a panic ends the benchmark")]

use std::{
    future::poll_fn,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use async_nats::Client;
use futures_core::Stream;
use serde_json::json;
use tower_events::{
    Channel, Channels, Event, Hub, NatsStore, Retention, Store, Subscription,
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
        // `-- followed` runs only this part.
        if std::env::args().any(|argument| argument == "followed") {
            followed(&server.url()).await;
            continue;
        }
        latency(&server.url()).await;
        println!(
            "| publishers | channels | store, appends/s | same writes, /s | ratio | plain, /s | ratio | µs of processor, client + server: store | same | plain |"
        );
        println!("|---|---|---|---|---|---|---|---|---|---|");
        for channels in [1, 64] {
            for publishers in [1, 16, 64] {
                rates(&server, publishers, channels).await;
            }
        }
        contention(&server).await;
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

/// A client of the driver, and a stream with the same settings as the store's.
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

/// Appends per second of many publishers that each wait for their acknowledgement, compared with as many requests through the
/// driver: conditional writes as the store makes them, which the server accepts only directly after the message that each
/// names (measured only where every publisher has a channel of its own), and plain writes. Five rounds, which alternate.
async fn rates(server: &server::Server, publishers: usize, channels: usize) {
    let (store, client) = (store(&server.url()).await, plain(&server.url()).await);
    let (mut figures, mut costs) = ([const { Vec::new() }; 3], [Cost::default(); 3]);
    for _ in 0..5 {
        let ours = |nth: usize| {
            let (store, channel) = (store.clone(), channel(nth % channels));
            move || {
                let (store, channel) = (store.clone(), channel.clone());
                async move { drop(store.append(&channel, event()).await.unwrap()) }
            }
        };
        let same = |nth: usize| {
            let (client, subject, last) = (client.clone(), format!("plain.same.{nth}"), Arc::new(AtomicU64::new(0)));
            move || conditional(client.clone(), subject.clone(), Arc::clone(&last))
        };
        let plain = |nth: usize| {
            let (client, subject) = (client.clone(), format!("plain.{}", nth % channels));
            move || {
                let (client, subject) = (client.clone(), subject.clone());
                async move { drop(client.request_with_headers(subject, headers(), "x".repeat(217).into()).await.unwrap()) }
            }
        };
        let purge = json!({"filter": "plain.same.>"}).to_string();
        client.request("$JS.API.STREAM.PURGE.plain", purge.into()).await.unwrap();
        let all = [
            cost(server, rate(publishers, ours)).await,
            cost(server, rate(if channels < publishers { 0 } else { publishers }, same)).await,
            cost(server, rate(publishers, plain)).await,
        ];
        for (nth, (rate, cost)) in all.into_iter().enumerate() {
            figures[nth].push(rate);
            costs[nth] = cost;
        }
    }
    figures.iter_mut().for_each(|figures| figures.sort_by(f64::total_cmp));
    let [ours, same, plain] = figures.each_ref().map(|figures| figures[2]);
    let same = if same > 0.0 { format!("{same:.0} | {:.2}", ours / same) } else { "- | -".into() };
    println!(
        "| {publishers} | {channels} | {ours:.0} | {same} | {plain:.0} | {:.2} | {} | {} | {} |",
        ours / plain,
        costs[0],
        costs[1],
        costs[2]
    );
}

/// Publishes only if the previous message is the last of the subject, as a log with several writers must.
async fn conditional(client: Client, subject: String, last: Arc<AtomicU64>) {
    let mut headers = headers();
    headers.insert("Nats-Expected-Last-Subject-Sequence", last.load(Ordering::Relaxed).to_string());
    let answer = client.request_with_headers(subject, headers, "x".repeat(217).into()).await.unwrap();
    let answer: serde_json::Value = serde_json::from_slice(&answer.payload).unwrap();
    last.store(answer["seq"].as_u64().expect("an acknowledgement"), Ordering::Relaxed);
}

/// Processor time per append, in microseconds.
#[derive(Clone, Copy, Default)]
struct Cost {
    client: f64,
    server: f64,
}

impl std::fmt::Display for Cost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.1} + {:.1}", self.client, self.server)
    }
}

async fn cost(server: &server::Server, rate: impl Future<Output = (f64, u32)>) -> (f64, Cost) {
    let all = || ["self".to_owned(), server.id().to_string()].map(|id| processor(&id));
    let before = all();
    let (rate, count) = rate.await;
    let after = all();
    let per = |nth: usize| (after[nth] - before[nth]) * 1e6 / f64::from(count.max(1));
    (rate, Cost { client: per(0), server: per(1) })
}

/// Processor time of a process, in seconds; 0 where it is not available.
fn processor(id: &str) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let ticks = |nth: usize| after_name.split_whitespace().nth(nth).and_then(|ticks| ticks.parse().ok()).unwrap_or(0.0);
    let ticks: f64 = ticks(11) + ticks(12);
    ticks / 100.0
}

/// Headers of the same size as the store's.
fn headers() -> async_nats::HeaderMap {
    let mut headers = async_nats::HeaderMap::new();
    headers.insert("Tower-Events", "x".repeat(130));
    headers
}

/// The number of calls per second, and in total.
async fn rate<P, F>(publishers: usize, begin: impl Fn(usize) -> P) -> (f64, u32)
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
    (f64::from(sum) / begun.elapsed().as_secs_f64(), sum)
}

/// Up to four nodes on one channel, with 16 publishers each. The processor limits them: an append that loses the race against
/// another node's is decided and sent again, so that an append costs almost twice as much with four nodes as with one.
async fn contention(server: &server::Server) {
    let url = &server.url();
    let nodes = Arc::new([store(url).await, store(url).await, store(url).await, store(url).await]);
    for busy in [1, 2, 4] {
        let begin = |nth: usize| {
            let store = nodes[nth % busy].clone();
            move || {
                let store = store.clone();
                async move { drop(store.append(&channel(0), event()).await.unwrap()) }
            }
        };
        let (rate, cost) = cost(server, rate(16 * busy, begin)).await;
        println!(
            "{busy} nodes with 16 publishers each on one channel: {rate:.0} appends/s, {cost} µs of processor each"
        );
    }
}

/// The cost of following 10 000 channels for a node.
async fn followed(url: &str) {
    let (writer, other) = (store(url).await, store(url).await);
    let channels: Vec<_> = (0..10_000).map(channel).collect();
    let begun = Instant::now();
    let mut made = tokio::task::JoinSet::new();
    for part in channels.chunks(250) {
        let (store, part) = (writer.clone(), part.to_vec());
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
            assert_eq!(writer.heads(part).await.unwrap().len(), part.len());
        }
        println!("heads of 10 000 channels: {:?}", begun.elapsed());
    }
    let (hub, before, begun) = (Hub::new(other), resident(), Instant::now());
    let mut subscribers = Vec::new();
    for channel in &channels {
        subscribers.push(hub.subscribe(Subscription::new(Channels::from(channel))).await.unwrap());
    }
    println!("10 000 channels followed, one after the other: {:?}", begun.elapsed());
    println!("memory of that: {} KiB resident", resident() - before);
    let mut took = Vec::new();
    for nth in (0..channels.len()).step_by(20) {
        let begun = Instant::now();
        let (appended, delivered) = tokio::join!(writer.append(&channels[nth], event()), subscribers[nth].next());
        took.push(begun.elapsed());
        appended.unwrap();
        delivered.unwrap().unwrap();
    }
    println!("publish to delivery at the other node, p50: {:?}", quantile(&mut took, 0.5));
}

/// The resident memory of this process, in KiB.
fn resident() -> i64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().split(' ').next()?.parse().ok()).unwrap_or(0)
}
