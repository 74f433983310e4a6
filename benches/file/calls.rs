//! Calls per second of each kind, and the processor time per call, for comparison with another version of this crate:
//! run both alternately, several times. On a machine with other load, trust the processor time.

use std::{
    future::Future,
    time::{Duration, Instant},
};

use tower_events::{
    Channel, Event, FileStore, Retention, Store,
    store::{Append, Expect, Limit, Start},
    stores::file::Durability,
};

use super::{
    report::Dir,
    runtime,
    throughput::{TIME, appends, open, run_four},
};

pub(crate) fn calls() {
    for durability in [Durability::Process, Durability::Power] {
        for publishers in [1, 16] {
            let dir = Dir::new();
            let store = open(&dir.file(), durability);
            let before = processor_time();
            let (rate, events) = runtime().block_on(appends(&store, publishers, TIME));
            let each = (processor_time() - before) / events as f64;
            report(&format!("{durability:?}, {publishers} publishers"), rate, Some(each));
        }
    }
    for publishers in ["1", "4"] {
        let dir = Dir::new();
        let (rate, _) = run_four("append", &dir.file(), &["Process", publishers]);
        report(&format!("Process, 4 processes with {publishers}"), rate, None);
    }
    runtime().block_on(async {
        tokio::spawn(writes()).await.expect("a task");
        tokio::spawn(reads()).await.expect("a task");
    });
}

async fn writes() {
    let dir = Dir::new();
    let store = FileStore::open(dir.file()).expect("a store");
    let texts = |count| (0..count).map(|_| Event::text("x".repeat(200)));
    let (one, many) = (name(0), names(1000));
    rate("append that trims", async |_| drop(store.append(&one, Append::new(texts(1))).await.expect("done"))).await;
    rate("append of 100 events", async |_| drop(store.append(&one, Append::new(texts(100))).await.expect("done")))
        .await;
    rate("append to 1 000 channels in rotation", async |n| {
        store.append(&many[n % 1000], Append::new(texts(1))).await.expect("done");
    })
    .await;
    rate("append with a key", async |n| {
        let event = Event::text("x").keyed(n.to_string()).expect("a key");
        store.append(&one, Append::new([event])).await.expect("done");
    })
    .await;
    rate("append of a known key", async |_| {
        let event = Event::text("x").keyed("0").expect("a key");
        store.append(&one, Append::new([event])).await.expect("done");
    })
    .await;
    rate("init of no events", async |n| {
        store.init(&many[n % 1000], Vec::new(), Expect::Any).await.expect("done");
    })
    .await;
    rate("init of 100 events", async |n| {
        store.init(&many[n % 1000], texts(100).collect(), Expect::Any).await.expect("done");
    })
    .await;
    rate("append to a new channel, and delete", async |n| {
        store.append(&name(10_000 + n), Append::new(texts(1))).await.expect("done");
        store.delete(&name(10_000 + n)).await.expect("done");
    })
    .await;
}

async fn reads() {
    let dir = Dir::new();
    let retention = Retention::default().events(100_000).bytes(1 << 30);
    let store = FileStore::options().retention(retention).open(dir.file()).expect("a store");
    let (one, many) = (name(0), names(1000));
    for channel in &many {
        store.append(channel, Append::new([Event::text("x")])).await.expect("done");
    }
    for _ in 0..10 {
        store.append(&one, Append::new((0..1000).map(|_| Event::text("x".repeat(200))))).await.expect("done");
    }
    let limit = Limit::new(100, 1 << 20);
    rate("read of 100 events", async |_| drop(store.read(&one, Start::Last(100), limit).await.expect("done"))).await;
    rate("read of 1 event", async |_| drop(store.read(&one, Start::Last(1), limit).await.expect("done"))).await;
    rate("read of a position", async |_| {
        store.read(&one, Start::Latest, Limit::POSITION).await.expect("done");
    })
    .await;
    rate("heads of 1 channel", async |_| drop(store.heads(&many[..1]).await.expect("done"))).await;
    rate("heads of 1 000 channels", async |_| drop(store.heads(&many).await.expect("done"))).await;
    rate("append, and heads of 1 000 channels", async |_| {
        store.append(&one, Append::new([Event::text("x")])).await.expect("done");
        store.heads(&many).await.expect("done");
    })
    .await;
    rate("open", async |_| drop(FileStore::open(dir.file()).expect("a store"))).await;
}

async fn rate<F: Future<Output = ()>>(what: &str, call: impl Fn(usize) -> F) {
    let (started, before, mut calls) = (Instant::now(), processor_time(), 0);
    while started.elapsed() < Duration::from_millis(400) {
        call(calls).await;
        calls += 1;
    }
    let each = (processor_time() - before) / calls as f64;
    report(what, calls as f64 / started.elapsed().as_secs_f64(), Some(each));
}

fn report(what: &str, rate: f64, each: Option<f64>) {
    let each = each.map_or(String::new(), |each| format!(", {each:.2} µs of a processor"));
    println!("{what}: {rate:.0}/s{each}");
}

/// The processor time of this process, in microseconds.
fn processor_time() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 * 1e6 + time.tv_nsec as f64 / 1e3
}

fn name(n: usize) -> Channel {
    Channel::new(format!("room:{n}")).expect("a name")
}

fn names(count: usize) -> Vec<Channel> {
    (0..count).map(name).collect()
}
