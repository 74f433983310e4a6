//! The Redis store compared with the driver used directly, on a server that the benchmark starts: `cargo bench --features redis
//! --bench redis`. The rounds alternate; trust the ratios, because absolute figures depend on the machine.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a benchmark")]

#[path = "../tests/redis/server.rs"]
#[allow(dead_code, reason = "shared with the tests")]
mod server;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use redis::{AsyncConnectionConfig, Value, aio::MultiplexedConnection};
use server::Server;
use tower_events::{Channel, Delivery, Event, Hub, RedisStore, Store, Subscription, store::Append};

const ROUNDS: usize = 7;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let Some(server) = Server::start(&[]).await else { return };
    latency(&server).await;
    println!(
        "| publishers | channels | store, appends/s | same writes, /s | ratio, median of {ROUNDS} (least to most) | bare XADD, /s | ratio |"
    );
    println!("|---|---|---|---|---|---|---|");
    for (publishers, channels) in [(1, 1), (16, 1), (16, 16), (64, 1), (64, 64)] {
        throughput(&server, publishers, channels).await;
    }
    hot(&server).await;
}

fn text() -> String {
    "x".repeat(200)
}

async fn connection(server: &Server) -> MultiplexedConnection {
    let config = AsyncConnectionConfig::new().set_response_timeout(None);
    let info = redis::IntoConnectionInfo::into_connection_info(server.url()).unwrap();
    let tcp = info.tcp_settings().clone().set_nodelay(true);
    let client = redis::Client::open(info.set_tcp_settings(tcp)).unwrap();
    client.get_multiplexed_async_connection_with_config(&config).await.unwrap()
}

/// The time from publishing at one node to the delivery by another node's hub, compared with that from XADD to XREAD.
async fn latency(server: &Server) {
    let channel = Channel::new("latency").unwrap();
    let publisher = Hub::new(RedisStore::connect(&server.url()).await.unwrap());
    let other = Hub::new(RedisStore::connect(&server.url()).await.unwrap());
    let mut subscriber = other.subscribe(Subscription::new(&channel)).await.unwrap();
    let (mut writer, mut reader) = (connection(server).await, connection(server).await);
    let mut last = "0-0".to_owned();
    let (mut ours, mut theirs, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..=ROUNDS {
        let (mut a, mut b) = (Vec::new(), Vec::new());
        for _ in 0..300 {
            let began = Instant::now();
            let published = publisher.publish(&channel, Event::text(text()));
            let delivered = async {
                assert!(matches!(subscriber.next().await, Some(Ok(Delivery::Events(_)))));
                began.elapsed()
            };
            let (published, took) = tokio::join!(published, delivered);
            published.unwrap();
            a.push(took);
        }
        for _ in 0..300 {
            let began = Instant::now();
            let mut add = redis::cmd("XADD");
            add.arg("stream").arg("MAXLEN").arg("~").arg(1000).arg("*").arg("d").arg(text());
            let mut read = redis::cmd("XREAD");
            read.arg("BLOCK").arg(5000).arg("STREAMS").arg("stream").arg(&last);
            let reading = async {
                let answer: Value = read.query_async(&mut reader).await.unwrap();
                (last_id(&answer), began.elapsed())
            };
            let adding = async {
                // The reader has to be blocked first, as the subscriber is.
                tokio::task::yield_now().await;
                add.query_async::<String>(&mut writer).await.unwrap()
            };
            let ((id, took), _) = tokio::join!(reading, adding);
            last = id;
            b.push(took);
        }
        // The first round warms up.
        if round > 0 {
            ratios.push(median(&mut a).as_secs_f64() / median(&mut b).as_secs_f64());
            ours.append(&mut a);
            theirs.append(&mut b);
        }
    }
    ratios.sort_by(f64::total_cmp);
    println!(
        "publish to delivery through another node: median {:?}, p99 {:?}; XADD to XREAD: median {:?}, p99 {:?}; ratio {:.2} ({:.2} to {:.2})",
        median(&mut ours),
        ours[ours.len() * 99 / 100],
        median(&mut theirs),
        theirs[theirs.len() * 99 / 100],
        ratios[ROUNDS / 2],
        ratios[0],
        ratios[ROUNDS - 1],
    );
}

fn last_id(answer: &Value) -> String {
    let Value::Array(streams) = answer else { panic!("{answer:?}") };
    let Value::Array(stream) = &streams[0] else { panic!("{answer:?}") };
    let Value::Array(entries) = &stream[1] else { panic!("{answer:?}") };
    let Some(Value::Array(entry)) = entries.last() else { panic!("{answer:?}") };
    redis::from_redis_value_ref(&entry[0]).unwrap()
}

fn median(samples: &mut [Duration]) -> Duration {
    samples.sort_unstable();
    samples[samples.len() / 2]
}

/// Appends per second of publishers that wait for each acknowledgement, compared with as many that write through one pipelined
/// connection of the driver: the same writes in one transaction (the entry with its header, the channel's record, the message
/// to other nodes), and a bare XADD of the event, with which no client could detect that a log has lost its tail.
async fn throughput(server: &Server, publishers: usize, channels: usize) {
    let store = RedisStore::connect(&server.url()).await.unwrap();
    let connection = connection(server).await;
    let mut figures = [const { Vec::new() }; 5];
    let mut processor = [Cost::default(); 3];
    let name = |n: usize| format!("room:{}", n % channels);
    for round in 0..=ROUNDS {
        let (a, cost_a) = cost(
            server,
            rate(publishers, |n| {
                let (store, channel) = (store.clone(), Channel::new(name(n)).unwrap());
                move || append(store.clone(), channel.clone())
            }),
        )
        .await;
        let (b, cost_b) = cost(
            server,
            rate(publishers, |n| {
                let (connection, key) = (connection.clone(), name(n));
                move || add(connection.clone(), key.clone())
            }),
        )
        .await;
        let (c, cost_c) = cost(
            server,
            rate(publishers, |n| {
                let (connection, key) = (connection.clone(), name(n));
                move || add_record_publish(connection.clone(), key.clone())
            }),
        )
        .await;
        if round > 0 {
            for (figures, figure) in figures.iter_mut().zip([a, b, a / b, c, a / c]) {
                figures.push(figure);
            }
            processor = [cost_a, cost_b, cost_c];
        }
    }
    for figures in &mut figures {
        figures.sort_by(f64::total_cmp);
    }
    let [ours, bare, ratio_bare, same, ratio] = figures.each_ref().map(|figures| figures[ROUNDS / 2]);
    let (least, most) = (figures[4][0], figures[4][ROUNDS - 1]);
    println!(
        "| {publishers} | {channels} | {ours:.0} | {same:.0} | {ratio:.2} ({least:.2} to {most:.2}) | {bare:.0} | {ratio_bare:.2} |"
    );
    println!(
        "<!-- µs of processor, client + server: store {}, XADD {}, same writes {} -->",
        processor[0], processor[1], processor[2]
    );
}

/// Processor time per call, in microseconds.
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

async fn cost(server: &Server, rate: impl Future<Output = (f64, u64)>) -> (f64, Cost) {
    let before = [processor("self"), processor(&server.id().to_string())];
    let (rate, count) = rate.await;
    let after = [processor("self"), processor(&server.id().to_string())];
    let per = |nth: usize| (after[nth] - before[nth]) * 1e6 / count as f64;
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

async fn append(store: RedisStore, channel: Channel) {
    store.append(&channel, Append::new([Event::text(text())])).await.unwrap();
}

async fn add(mut connection: MultiplexedConnection, key: String) {
    let mut add = redis::cmd("XADD");
    add.arg(&key).arg("MAXLEN").arg("~").arg(1000).arg("*").arg("d").arg(text());
    add.query_async::<()>(&mut connection).await.unwrap();
}

async fn add_record_publish(mut connection: MultiplexedConnection, key: String) {
    let mut pipeline = redis::pipe();
    pipeline.atomic();
    let event = "x".repeat(14 + 200);
    let add = pipeline.cmd("XADD").arg(&key).arg("MAXLEN").arg("~").arg(1000).arg("*");
    add.arg("h").arg("x".repeat(40)).arg("e").arg(&event);
    pipeline.cmd("HSET").arg("records").arg(&key).arg("x".repeat(97));
    pipeline.cmd("PUBLISH").arg("bell").arg("x".repeat(36 + 8 + 40 + event.len()));
    pipeline.exec_async(&mut connection).await.unwrap();
}

/// Four nodes with 16 publishers each on one channel.
async fn hot(server: &Server) {
    let mut nodes = Vec::new();
    for _ in 0..4 {
        nodes.push(RedisStore::connect(&server.url()).await.unwrap());
    }
    let (mut rates, mut busy) = (Vec::new(), 0.0);
    for _ in 0..ROUNDS {
        let (before, began) = (processor(&server.id().to_string()), Instant::now());
        let together = rate(64, |n| {
            let (store, channel) = (nodes[n % 4].clone(), Channel::new("hot").unwrap());
            move || append(store.clone(), channel.clone())
        });
        rates.push(together.await.0);
        busy = (processor(&server.id().to_string()) - before) / began.elapsed().as_secs_f64();
    }
    rates.sort_by(f64::total_cmp);
    println!(
        "four nodes on one hot channel, 16 publishers each: {:.0} appends/s, the server's one thread busy {:.0}% of the time",
        rates[ROUNDS / 2],
        busy * 100.0,
    );
}

/// The number of calls of `act` per second, and in total, by this many concurrent tasks.
async fn rate<A, F>(tasks: usize, act: impl Fn(usize) -> A) -> (f64, u64)
where
    A: Fn() -> F + Send + 'static,
    F: Future<Output = ()> + Send,
{
    let (stop, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let began = Instant::now();
    let running = (0..tasks).map(|n| {
        let (act, stop, count) = (act(n), Arc::clone(&stop), Arc::clone(&count));
        tokio::spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                act().await;
                count.fetch_add(1, Ordering::Relaxed);
            }
        })
    });
    let running: Vec<_> = running.collect();
    tokio::time::sleep(Duration::from_millis(700)).await;
    stop.store(true, Ordering::Relaxed);
    for task in running {
        task.await.unwrap();
    }
    let count = count.load(Ordering::Relaxed);
    (count as f64 / began.elapsed().as_secs_f64(), count)
}
