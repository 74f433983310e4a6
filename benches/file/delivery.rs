//! The latency of an event from one process to another: through two hubs, with the same system calls without the store,
//! and of a write that inotify reports alone.

use std::{
    fs::{File, OpenOptions},
    io::{BufRead as _, BufReader, Write as _},
    os::unix::fs::FileExt as _,
    path::Path,
    process::Child,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rusqlite::Connection;
use rustix::{
    fs::inotify::{self, CreateFlags, Reader, WatchFlags},
    thread::{CpuSet, sched_getaffinity, sched_setaffinity},
};
use tower_events::{Channel, Delivery, Event, FileStore, Hub, Subscription, stores::file::Durability};

use super::{
    direct::Direct,
    report::{Dir, Spread, row, with_suffix},
    rounds, runtime,
    throughput::spawn,
};

pub(crate) fn between_processes() {
    println!("\npublish in one process to delivery in another, ms: median (least - most) of the rounds' medians");
    for placement in [Placement::Apart, Placement::Anywhere] {
        println!("  {}", placement.label());
        let (mut hubs, mut direct, mut wakes, mut ratios) = (vec![], vec![], vec![], vec![]);
        for _ in 0..rounds() {
            let by_hubs = measure("listen", publish, placement);
            let by_direct = measure("select", append, placement);
            let by_wake = measure("wake", touch, placement);
            hubs.push(by_hubs);
            direct.push(by_direct);
            wakes.push(by_wake);
            ratios.push(by_hubs / by_direct);
        }
        row("hub to hub, Process (0.3)", Spread::of(hubs));
        row("direct: SQLite's commit, a notify file, inotify, a select", Spread::of(direct));
        row("a write and inotify only", Spread::of(wakes));
        row("  ratio of hub to hub to direct (2)", Spread::of(ratios));
    }
}

/// Which processors the two processes run on.
#[derive(Clone, Copy)]
enum Placement {
    /// As the system schedules them. A process that sleeps after its write often frees its own processor, which is
    /// awake, for the process that it woke; if several threads wake each other, some run on another processor, which
    /// has to wake up.
    Anywhere,
    /// Each on a processor of its own, which sleeps until the write.
    Apart,
}

impl Placement {
    fn label(self) -> &'static str {
        match self {
            Self::Anywhere => "processes as the system schedules them:",
            Self::Apart => "each process on a processor of its own, which sleeps in between:",
        }
    }

    /// Starts the child on its processor, and moves this process to its own.
    fn spawn(self, what: &str, path: &Path) -> Child {
        let all = sched_getaffinity(None).expect("processors");
        let mut processors = (0..CpuSet::MAX_CPU).filter(|n| all.is_set(*n));
        let mut next = || {
            let mut one = CpuSet::new();
            processors.next().map(|n| one.set(n)).map(|()| one)
        };
        match (self, next(), next()) {
            (Self::Apart, Some(here), Some(there)) => {
                // The child inherits it.
                sched_setaffinity(None, &there).expect("a processor");
                let child = spawn(what, path, &[]);
                sched_setaffinity(None, &here).expect("a processor");
                child
            }
            _ => spawn(what, path, &[]),
        }
    }
}

/// The median of the latencies that the child prints, in milliseconds.
fn measure(what: &str, send: fn(&Path), placement: Placement) -> f64 {
    let dir = Dir::new();
    drop(FileStore::open(dir.file()).expect("a store"));
    _ = File::create(with_suffix(&dir.file(), "-notify")).and_then(|mut file| file.write_all(&[0; 8]));
    let before = sched_getaffinity(None).expect("processors");
    let mut child = placement.spawn(what, &dir.file());
    let mut lines = BufReader::new(child.stdout.take().expect("its output")).lines().map_while(Result::ok);
    assert_eq!(lines.next().as_deref(), Some("ready"));
    send(&dir.file());
    let taken: Vec<f64> = lines.take(EVENTS).map(|line| line.parse::<f64>().expect("a number") / 1e6).collect();
    child.wait().expect("a child");
    sched_setaffinity(None, &before).expect("processors");
    Spread::of(taken).median
}

/// Runs a task on a worker thread of a runtime, like the tasks of a server.
fn run(task: impl Future<Output = ()> + Send + 'static) {
    runtime().block_on(async { tokio::spawn(task).await.expect("a task") });
}

fn publish(path: &Path) {
    let hub = Hub::new(FileStore::open(path).expect("a store"));
    run(async move {
        let channel = Channel::new("bench").expect("a name");
        for _ in 0..EVENTS {
            tokio::time::sleep(GAP).await;
            let text = format!("{:0>200}", now());
            hub.publish(&channel, Event::text(text)).await.expect("an append");
        }
    });
}

pub(crate) fn listen(path: &Path) {
    let hub = Hub::new(FileStore::open(path).expect("a store"));
    run(async move {
        let subscription = Subscription::new(Channel::new("bench").expect("a name"));
        let mut subscriber = hub.subscribe(subscription).await.expect("a subscription");
        println!("ready");
        let mut left = EVENTS;
        while left > 0 {
            let delivery = subscriber.next().await;
            let Some(Ok(Delivery::Events(events))) = delivery else { continue };
            for entry in events.entries() {
                print_latency(entry.data.as_shown());
                left -= 1;
            }
        }
    });
}

fn append(path: &Path) {
    let mut direct = Direct::open(path, Durability::Process, 1);
    let notify_file = OpenOptions::new().write(true).open(with_suffix(path, "-notify")).expect("the notify file");
    for n in 0..EVENTS {
        std::thread::sleep(GAP);
        direct.append(1, format!("{:0>200}", now()).as_bytes());
        notify_file.write_all_at(&n.to_le_bytes(), 0).expect("a write");
    }
}

pub(crate) fn select(path: &Path) {
    let db = Connection::open(path).expect("a connection");
    let mut seq = 0_i64;
    let mut left = EVENTS;
    watch(path, || {
        let sql = "SELECT seq, data FROM entries WHERE channel = 1 AND seq > ?1";
        let mut select = db.prepare_cached(sql).expect("a statement");
        let mut rows = select.query([seq]).expect("rows");
        while let Some(row) = rows.next().expect("a row") {
            seq = row.get(0).expect("a seq");
            print_latency(&String::from_utf8(row.get(1).expect("data")).expect("text"));
            left -= 1;
        }
        left > 0
    });
}

fn touch(path: &Path) {
    let notify_file = OpenOptions::new().write(true).open(with_suffix(path, "-notify")).expect("the notify file");
    for _ in 0..EVENTS {
        std::thread::sleep(GAP);
        notify_file.write_all_at(&now().to_le_bytes(), 0).expect("a write");
    }
}

pub(crate) fn wake(path: &Path) {
    let notify_file = File::open(with_suffix(path, "-notify")).expect("the notify file");
    let mut left = EVENTS;
    watch(path, || {
        let mut bytes = [0; 16];
        notify_file.read_exact_at(&mut bytes, 0).expect("a write");
        print_latency(&u128::from_le_bytes(bytes).to_string());
        left -= 1;
        left > 0
    });
}

/// Calls `act` for each write until it returns `false`.
fn watch(path: &Path, mut act: impl FnMut() -> bool) {
    let inotify_fd = inotify::init(CreateFlags::CLOEXEC).expect("inotify");
    inotify::add_watch(&inotify_fd, with_suffix(path, "-notify"), WatchFlags::MODIFY).expect("a watch");
    println!("ready");
    let mut buffer = [std::mem::MaybeUninit::uninit(); 4096];
    let mut reader = Reader::new(&inotify_fd, &mut buffer);
    while reader.next().is_ok() && act() {}
}

fn print_latency(sent: &str) {
    println!("{}", now() - sent.parse::<u128>().expect("a time"));
}

fn now() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_nanos()
}

const EVENTS: usize = 200;
const GAP: Duration = Duration::from_millis(5);
