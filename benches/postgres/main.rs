//! The PostgreSQL store compared with the driver used directly, on a real server, in one run: `cargo bench --features postgres
//! --bench postgres`. Rounds alternate, so that other load on the machine affects both; trust the ratios. Words after `--`
//! select parts: latency, appends, hot, nodes, outbox, reads, follow.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, unreachable_pub, dead_code)]

mod driver;
#[path = "../../tests/postgres/server.rs"]
mod server;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures_core::Stream as _;
use tokio::task::JoinSet;
use tokio_postgres::{Client, NoTls, types::ToSql};
use tower_events::{
    Channel, Channels, Event, Hub, Retention, Store, Subscription, store::Append, stores::postgres::PostgresStore,
    testing::FaultStore,
};

use self::{
    driver::{Driver, Listener},
    server::Server,
};

#[tokio::main]
async fn main() {
    // `cargo test` runs benchmarks once, to check that they work.
    let quick = !std::env::args().any(|argument| argument == "--bench");
    let Some(server) = Server::start() else { return };
    let bench = Bench { server, quick };
    let chosen: Vec<_> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    for part in ["latency", "appends", "hot", "nodes", "outbox", "reads", "follow"] {
        if chosen.is_empty() || chosen.iter().any(|chosen| chosen == part) {
            bench.run(part).await;
        }
    }
}

struct Bench {
    server: Server,
    quick: bool,
}

/// Which channels the publishers write to.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Spread {
    /// Each publisher to its own channel.
    Own,
    /// All publishers to one channel.
    Hot,
}

impl Bench {
    async fn run(&self, part: &str) {
        match part {
            "latency" => self.latency().await,
            "appends" => {
                for publishers in [1, 16, 64] {
                    self.appends(publishers, Spread::Own).await;
                }
            }
            "hot" => self.appends(64, Spread::Hot).await,
            "nodes" => self.nodes_on_one_channel().await,
            "outbox" => self.outbox().await,
            "reads" => self.reads().await,
            _ => self.follow().await,
        }
    }

    async fn store(&self) -> PostgresStore {
        let retention = Retention::default().events(1_000_000).bytes(1 << 40);
        let store = PostgresStore::options().retention(retention).connections(CONNECTIONS);
        let store = store.connect(&self.server.url()).await.unwrap();
        store.migrate().await.unwrap();
        store
    }

    /// The time from the publishing call to the arrival at another node, compared with `pg_notify` and a query.
    async fn latency(&self) {
        let rounds = if self.quick { 20 } else { 2_000 };
        let channel = Channel::new("latency").unwrap();
        let (here, other) = (self.store().await, self.store().await);
        let (there, mut hints) = (Hub::new(other.clone()), Box::pin(other.changes()));
        let mut subscriber = there.subscribe(Subscription::new(channel.clone())).await.unwrap();
        let (writer, mut listener) = (self.client().await, Listener::start(&self.server, "bare").await);
        writer.batch_execute("create table bare (id bigserial primary key, data bytea)").await.unwrap();
        let insert =
            "with i as (insert into bare (data) values ($1) returning id) select pg_notify('bare', id::text) from i";
        let (insert, select) = (writer.prepare(insert).await.unwrap(), "select data from bare where id = $1");
        let reader = self.client().await;
        let select = reader.prepare(select).await.unwrap();
        let data = "x".repeat(200);
        let (mut ours, mut told, mut read) = (Vec::new(), Vec::new(), Vec::new());
        let (mut acknowledged, mut hinted) = (Vec::new(), Vec::new());
        tokio::time::sleep(Duration::from_millis(500)).await;
        std::future::poll_fn(|cx| hints.as_mut().poll_next(cx)).await; // the initial resync
        for _ in 0..rounds {
            let began = Instant::now();
            let append = here.append(&channel, Append::new([Event::text(&*data)]));
            let hint = std::future::poll_fn(|cx| hints.as_mut().poll_next(cx));
            let (acknowledged_after, hinted_after, after) = tokio::join!(
                async { append.await.map(|_| began.elapsed()).unwrap() },
                async { hint.await.map(|_| began.elapsed()).unwrap() },
                async { subscriber.next().await.unwrap().map(|_| began.elapsed()).unwrap() },
            );
            acknowledged.push(acknowledged_after);
            hinted.push(hinted_after);
            ours.push(after);
            pause().await;

            let began = Instant::now();
            let bytes = data.as_bytes();
            let params: [&(dyn ToSql + Sync); 1] = [&bytes];
            let (done, id) = tokio::join!(writer.query(&insert, &params), listener.next());
            told.push(began.elapsed());
            done.unwrap();
            reader.query_one(&select, &[&id]).await.unwrap();
            read.push(began.elapsed());
            pause().await;
        }
        println!("publish to delivery through another node, {rounds} alternating rounds, 200 bytes:");
        let [ours, told, read] = [ours, told, read].map(quantiles);
        println!("  INSERT + NOTIFY -> listener              {}", shown(&told));
        println!("  INSERT + NOTIFY -> listener -> SELECT    {}", shown(&read));
        println!("  append -> hub of another node            {}", shown(&ours));
        println!("    of which append -> acknowledged        {}", shown(&quantiles(acknowledged)));
        println!("    and append -> hint at the other node   {}", shown(&quantiles(hinted)));
        println!(
            "  ratio of medians: {:.2} to the first, {:.2} to the second",
            ratio(&ours, &told),
            ratio(&ours, &read)
        );
    }

    /// Appends per second, compared with the driver writing the same rows on as many connections.
    async fn appends(&self, publishers: usize, spread: Spread) {
        let store = self.store().await;
        let driver = Driver::new(&self.server, &self.client().await).await;
        let (mut ours, mut theirs, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
        let mut cpu = [Cpu::default(), Cpu::default()];
        for _ in 0..self.rounds() {
            let append = |publisher| {
                let (store, channel) = (store.clone(), channel(publisher, spread));
                async move { drop(store.append(&channel, Append::new([Event::text("x".repeat(200))])).await.unwrap()) }
            };
            let mine = self.costs(&mut cpu[0], self.rate(publishers, append)).await;
            let insert = |publisher| {
                let (driver, channel) = (driver.clone(), channel(publisher, spread));
                async move { driver.append(publisher, &channel).await }
            };
            let driver = self.costs(&mut cpu[1], self.rate(publishers, insert)).await;
            ours.push(mine);
            theirs.push(driver);
            ratios.push(mine / driver);
        }
        let [ours, theirs, ratio] = [ours, theirs, ratios].map(median);
        println!("{publishers} publishers, channels {spread:?}: {ours:.0}/s, driver {theirs:.0}/s, ratio {ratio:.2}");
        let [ours, theirs] = cpu.map(|cpu| cpu.shown());
        println!("  processor an append, store: {ours}; driver: {theirs}");
    }

    /// Adds the processor time of a measurement to `cpu`.
    async fn costs(&self, cpu: &mut Cpu, rate: impl Future<Output = f64>) -> f64 {
        let (before, began) = ([cpu_ticks(), self.server_ticks()], Instant::now());
        let rate = rate.await;
        cpu.calls += rate * began.elapsed().as_secs_f64();
        for (sum, (before, after)) in
            cpu.ticks.iter_mut().zip(before.into_iter().zip([cpu_ticks(), self.server_ticks()]))
        {
            *sum += after.saturating_sub(before);
        }
        rate
    }

    /// Processor time of the server's running processes.
    fn server_ticks(&self) -> u64 {
        self.server.pids().iter().map(|pid| ticks_of(&format!("/proc/{pid}/stat"))).sum()
    }

    /// The limit is the channel's row, which each transaction locks until its commit is on disk: two processors were idle for
    /// two fifths of the time, and writers waited for the row (`Lock/transactionid`) or the disk (`IO/WALSync`).
    async fn nodes_on_one_channel(&self) {
        for count in [1, 2, 4] {
            let mut nodes = Vec::new();
            for _ in 0..count {
                nodes.push(self.store().await);
            }
            let append = |publisher: usize| {
                let (store, channel) = (nodes[publisher % count].clone(), channel(0, Spread::Hot));
                async move { drop(store.append(&channel, Append::new([Event::text("x".repeat(200))])).await.unwrap()) }
            };
            let rate = self.rate(16 * count, append).await;
            println!("{count} nodes with 16 publishers each on one hot channel: {rate:.0}/s");
        }
    }

    async fn outbox(&self) {
        self.store().await;
        let clients: Vec<_> = futures(16, || self.client()).await.into_iter().map(Arc::new).collect();
        for (what, notify) in [("with a notification", true), ("without", false)] {
            let call = |publisher: usize| {
                let client = Arc::clone(&clients[publisher]);
                async move {
                    let sql = "select tower_events.append_text($1, $2, notify => $3)";
                    let statement = client.prepare(sql).await.unwrap();
                    let (channel, data) = (format!("outbox {publisher}"), "x".repeat(200));
                    for _ in 0..20 {
                        client.query(&statement, &[&channel, &data, &notify]).await.unwrap();
                    }
                }
            };
            let rate = self.rate(16, call).await * 20.0;
            println!("outbox function, 16 clients, {what}: {rate:.0}/s");
        }
    }

    /// The number of reads of the database per event at a node, for different numbers of subscribers.
    async fn reads(&self) {
        let (channel, events) = (Channel::new("read").unwrap(), if self.quick { 20 } else { 500 });
        for count in [1, 100, 1_000] {
            let (store, faults) = FaultStore::new(self.store().await);
            let (writer, hub) = (self.store().await, Hub::new(store));
            let mut subscribers = Vec::new();
            for _ in 0..count {
                subscribers.push(hub.subscribe(Subscription::new(channel.clone())).await.unwrap());
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
            let (before, cpu) = (faults.reads(), cpu_ticks());
            for _ in 0..events {
                writer.append(&channel, Append::new([Event::text("x")])).await.unwrap();
                for subscriber in &mut subscribers {
                    subscriber.next().await.unwrap().unwrap();
                }
            }
            let reads = (faults.reads() - before) as f64 / f64::from(events);
            let cpu = (cpu_ticks() - cpu) as f64 * 10_000.0 / f64::from(events);
            println!(
                "{count} subscribers on one node: {reads:.2} reads of the store and {cpu:.0} us of processor an event"
            );
        }
    }

    /// The cost of following many channels for a node.
    async fn follow(&self) {
        let count = if self.quick { 200 } else { 10_000 };
        let (writer, store) = (self.store().await, self.store().await);
        let hub = Hub::new(store.clone());
        let before = resident();
        let names: Vec<_> = (0..count).map(|n| Channel::new(format!("followed {n}")).unwrap()).collect();
        for some in names.chunks(500) {
            let mut all = JoinSet::new();
            for name in some {
                let (writer, name) = (writer.clone(), name.clone());
                all.spawn(async move { writer.append(&name, Append::new([Event::text("x")])).await.map(drop) });
            }
            all.join_all().await;
        }
        let began = Instant::now();
        let mut subscribers = Vec::new();
        for name in &names {
            subscribers.push(hub.subscribe(Subscription::new(Channels::from(name))).await.unwrap());
        }
        println!("{count} channels followed in {:?}, {} KiB resident more", began.elapsed(), resident() - before);
        let began = Instant::now();
        for some in names.chunks(1000) {
            store.heads(some).await.unwrap();
        }
        println!("comparing the heads of all of them: {:?}", began.elapsed());
        let cpu = cpu_ticks();
        tokio::time::sleep(Duration::from_secs(if self.quick { 1 } else { 20 })).await;
        println!("processor of this process while nothing happens: {} ticks of 10 ms in 20 s", cpu_ticks() - cpu);
        let mut took = Vec::new();
        for _ in 0..if self.quick { 10 } else { 500 } {
            let n = fastrand::usize(..count);
            let began = Instant::now();
            let append = writer.append(&names[n], Append::new([Event::text("y")]));
            let (done, delivered) = tokio::join!(append, subscribers[n].next());
            took.push(began.elapsed());
            done.unwrap();
            delivered.unwrap().unwrap();
            pause().await;
        }
        println!("publish to delivery with {count} followed:  {}", shown(&quantiles(took)));
    }

    fn rounds(&self) -> usize {
        if self.quick { 1 } else { 7 }
    }

    /// Calls per second of this many concurrent publishers.
    async fn rate<F: Future<Output = ()> + Send + 'static>(&self, publishers: usize, call: impl Fn(usize) -> F) -> f64 {
        let length = Duration::from_millis(if self.quick { 100 } else { 1_500 });
        let calls = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let began = Instant::now();
        let local = (0..publishers).map(|publisher| {
            let (call, calls) = (&call, Arc::clone(&calls));
            async move {
                while began.elapsed() < length {
                    tokio::spawn(call(publisher)).await.unwrap();
                    calls.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                }
            }
        });
        join_all(local).await;
        calls.load(std::sync::atomic::Ordering::Relaxed) as f64 / began.elapsed().as_secs_f64()
    }

    async fn client(&self) -> Client {
        let (client, connection) = tokio_postgres::connect(&self.server.url(), NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    }
}

fn channel(publisher: usize, spread: Spread) -> Channel {
    Channel::new(if spread == Spread::Hot { "hot".to_owned() } else { format!("own {publisher}") }).unwrap()
}

async fn futures<T, F: Future<Output = T>>(count: usize, make: impl Fn() -> F) -> Vec<T> {
    let mut all = Vec::new();
    for _ in 0..count {
        all.push(make().await);
    }
    all
}

/// Runs futures concurrently, in this task.
async fn join_all(futures: impl Iterator<Item = impl Future<Output = ()>>) {
    let mut all: Vec<_> = futures.map(|future| Some(Box::pin(future))).collect();
    std::future::poll_fn(|cx| {
        for slot in &mut all {
            if slot.as_mut().is_some_and(|future| future.as_mut().poll(cx).is_ready()) {
                *slot = None;
            }
        }
        if all.iter().all(Option::is_none) { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
}

/// Waits longer than a node does between two notifications, so that rounds do not affect each other.
async fn pause() {
    tokio::time::sleep(Duration::from_millis(8)).await;
}

fn quantiles(mut times: Vec<Duration>) -> [Duration; 3] {
    times.sort_unstable();
    [50, 90, 99].map(|percent| times[(times.len() - 1) * percent / 100])
}

fn shown([median, most, nearly_all]: &[Duration; 3]) -> String {
    format!("p50 {median:>10.1?}  p90 {most:>10.1?}  p99 {nearly_all:>10.1?}")
}

fn ratio(ours: &[Duration; 3], theirs: &[Duration; 3]) -> f64 {
    ours[0].as_secs_f64() / theirs[0].as_secs_f64()
}

fn median(mut all: Vec<f64>) -> f64 {
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}

/// Memory of this process, in KiB.
fn resident() -> i64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().split(' ').next()?.parse().ok()).unwrap_or(0)
}

/// The processor time of calls.
#[derive(Default)]
struct Cpu {
    calls: f64,
    /// The time of this process, and that of the server.
    ticks: [u64; 2],
}

impl Cpu {
    fn shown(self) -> String {
        let [here, server] = self.ticks.map(|ticks| ticks as f64 * 10_000.0 / self.calls);
        format!("{here:.0} us here and {server:.0} us in the server")
    }
}

/// Processor time of this process, in ticks of the kernel, usually 10 ms.
fn cpu_ticks() -> u64 {
    ticks_of("/proc/self/stat")
}

fn ticks_of(stat: &str) -> u64 {
    let stat = std::fs::read_to_string(stat).unwrap_or_default();
    let fields: Vec<_> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
    [11, 12].iter().filter_map(|at| fields.get(*at)?.parse::<u64>().ok()).sum()
}

/// The number of connections of a store's pool, and of the driver.
const CONNECTIONS: usize = 16;
