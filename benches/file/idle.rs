//! The cost of an idle store, and what short-lived channels leave behind. Processor time and bytes written are those of
//! the whole process, as the system counts them. `TOWER_EVENTS_BENCH_SECONDS` sets the duration (default 60).

use std::{
    fs,
    time::{Duration, Instant},
};

use tower_events::{
    Channel, Channels, Event, FileStore, Hub, Retention, Store as _, Subscription,
    store::{Append, Expect},
};

fn seconds() -> u64 {
    std::env::var("TOWER_EVENTS_BENCH_SECONDS").ok().and_then(|seconds| seconds.parse().ok()).unwrap_or(60)
}

/// Processor time in milliseconds, and bytes written.
fn usage() -> (u64, u64) {
    let stat = fs::read_to_string("/proc/self/stat").expect("linux");
    let fields: Vec<_> = stat.rsplit_once(") ").expect("a name").1.split(' ').collect();
    let ticks = |at: usize| fields[at].parse::<u64>().expect("a number");
    let io = fs::read_to_string("/proc/self/io").expect("linux");
    let written = io.lines().find_map(|line| line.strip_prefix("write_bytes: ")).expect("a line");
    ((ticks(11) + ticks(12)) * 10, written.parse().expect("a number"))
}

fn directory(name: &str) -> std::path::PathBuf {
    let dir = std::env::temp_dir().join(format!("tower-events-bench-{name}-{}", std::process::id()));
    fs::create_dir_all(&dir).expect("a directory");
    dir
}

/// 100 000 empty channels, of which a hub follows 10 000.
pub(crate) fn idle() {
    super::runtime().block_on(async {
        let dir = directory("idle");
        let store = FileStore::open(dir.join("events.db")).expect("a store");
        let mut made = tokio::task::JoinSet::new();
        for task in 0..32 {
            let store = store.clone();
            made.spawn(async move {
                for n in (task..100_000).step_by(32) {
                    let channel = Channel::new(format!("room:{n}")).expect("a name");
                    store.init(&channel, Vec::new(), Expect::Any).await.expect("an init");
                }
            });
        }
        made.join_all().await;
        tokio::time::sleep(Duration::from_secs(20)).await;
        report("idle, 100 000 empty channels", measure().await);
        let hub = Hub::new(store);
        let mut readers = Vec::new();
        for reader in 0..200 {
            let names = (0..50).map(|n| format!("room:{}", reader * 50 + n));
            let channels = Channels::new(names.map(|name| Channel::new(name).expect("a name"))).expect("channels");
            readers.push(hub.subscribe(Subscription::new(channels)).await.expect("a reader"));
        }
        report("idle, 10 000 of them followed", measure().await);
        drop(readers);
        _ = fs::remove_dir_all(dir);
    });
}

async fn measure() -> (u64, u64) {
    let before = usage();
    tokio::time::sleep(Duration::from_secs(seconds())).await;
    let after = usage();
    (after.0 - before.0, after.1 - before.1)
}

fn report(what: &str, (millis, bytes): (u64, u64)) {
    let seconds = seconds();
    println!(
        "{what}: {:.2} % of a core, {:.1} KiB/s written, over {seconds} s",
        millis as f64 / seconds as f64 / 10.0,
        bytes as f64 / 1024.0 / seconds as f64
    );
}

/// A hundred new channels a second, each with an event and a key, and a retention of 10 s.
pub(crate) fn short_lived() {
    super::runtime().block_on(async {
        let dir = directory("short-lived");
        let short = Duration::from_secs(10);
        let retention = Retention::default().age(short).forget_after(short).key_window(short);
        let path = dir.join("events.db");
        let store = FileStore::options().retention(retention).open(&path).expect("a store");
        let db = rusqlite::Connection::open(&path).expect("the file");
        let count = |sql: &str| db.query_row(sql, [], |row| row.get::<_, i64>(0)).expect("a count");
        let (begun, before) = (Instant::now(), usage());
        let mut tick = tokio::time::interval(Duration::from_millis(10));
        for n in 0..seconds() * 100 {
            tick.tick().await;
            let event = Event::text("x".repeat(200)).keyed("k").expect("a key");
            let channel = Channel::new(format!("short:{n}")).expect("a name");
            store.append(&channel, Append::new([event])).await.expect("an append");
            if n % 2000 == 1999 {
                let [channels, entries, keys, garbage] = ["channels", "entries", "keys", "garbage"]
                    .map(|table| count(&format!("SELECT count(*) FROM {table}")));
                let pages = count("PRAGMA page_count");
                let wal = fs::metadata(dir.join("events.db-wal")).map_or(0, |wal| wal.len() >> 10);
                println!(
                    "short-lived, after {:>4} s: {channels} channels, {entries} entries, {keys} keys, {garbage} removed, \
                     {} KiB, WAL {wal} KiB",
                    begun.elapsed().as_secs(),
                    pages * 4
                );
            }
        }
        let after = usage();
        report("short-lived, 100 new channels a second", (after.0 - before.0, after.1 - before.1));
        _ = fs::remove_dir_all(dir);
    });
}
