//! From one process to another: how long an event takes, through two hubs, by hand with the same parts, and how long the
//! doorbell alone does.

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
    rounds, runtime,
    table::{Dir, Spread, beside, row},
    throughput::spawn,
};

pub(crate) fn between_processes() {
    println!("\npublish in one process to delivery in another, ms: median (least - most) of the rounds' medians");
    for place in [Place::Apart, Place::Anywhere] {
        println!("  {}", place.said());
        let (mut hubs, mut hand, mut bell, mut ratios) = (vec![], vec![], vec![], vec![]);
        for _ in 0..rounds() {
            let by_hubs = measure("listen", publish, place);
            let by_hand = measure("hear", append, place);
            let by_bell = measure("bell", ring, place);
            hubs.push(by_hubs);
            hand.push(by_hand);
            bell.push(by_bell);
            ratios.push(by_hubs / by_hand);
        }
        row("hub to hub, Process (0.3)", Spread::of(hubs));
        row("by hand: SQLite's commit, a bell, inotify, a select", Spread::of(hand));
        row("a write and inotify only", Spread::of(bell));
        row("  hub to hub to by hand (2)", Spread::of(ratios));
    }
}

/// Where the two processes run.
#[derive(Clone, Copy)]
enum Place {
    /// Where the system puts them: who does nothing after its ring often makes room on its own processor, which is awake,
    /// for the one process that it woke; of several threads that wake each other, some are put on another one, which has
    /// to wake up first.
    Anywhere,
    /// Each on a processor of its own, which sleeps until it is rung for.
    Apart,
}

impl Place {
    fn said(self) -> &'static str {
        match self {
            Self::Anywhere => "the processes where the system puts them:",
            Self::Apart => "each process on a processor of its own, which sleeps in between:",
        }
    }

    /// Starts the child in its place, and goes to this process's own.
    fn spawn(self, what: &str, path: &Path) -> Child {
        let all = sched_getaffinity(None).expect("processors");
        let mut processors = (0..CpuSet::MAX_CPU).filter(|n| all.is_set(*n));
        let mut next = || {
            let mut one = CpuSet::new();
            processors.next().map(|n| one.set(n)).map(|()| one)
        };
        match (self, next(), next()) {
            (Self::Apart, Some(here), Some(there)) => {
                // Inherited.
                sched_setaffinity(None, &there).expect("a processor");
                let child = spawn(what, path, &[]);
                sched_setaffinity(None, &here).expect("a processor");
                child
            }
            _ => spawn(what, path, &[]),
        }
    }
}

/// The median in milliseconds of what the child prints.
fn measure(what: &str, send: fn(&Path), place: Place) -> f64 {
    let dir = Dir::new();
    drop(FileStore::open(dir.file()).expect("a store"));
    _ = File::create(beside(&dir.file(), "-hand")).and_then(|mut file| file.write_all(&[0; 8]));
    let before = sched_getaffinity(None).expect("processors");
    let mut child = place.spawn(what, &dir.file());
    let mut lines = BufReader::new(child.stdout.take().expect("its output")).lines().map_while(Result::ok);
    assert_eq!(lines.next().as_deref(), Some("ready"));
    send(&dir.file());
    let taken: Vec<f64> = lines.take(EVENTS).map(|line| line.parse::<f64>().expect("a number") / 1e6).collect();
    child.wait().expect("a child");
    sched_setaffinity(None, &before).expect("processors");
    Spread::of(taken).median
}

/// Runs a task on one of the threads of a runtime, as a server's are.
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
                taken(entry.data.as_shown());
                left -= 1;
            }
        }
    });
}

fn append(path: &Path) {
    let mut direct = Direct::open(path, Durability::Process, 1);
    let bell = OpenOptions::new().write(true).open(beside(path, "-hand")).expect("a bell");
    for n in 0..EVENTS {
        std::thread::sleep(GAP);
        direct.append(1, format!("{:0>200}", now()).as_bytes());
        bell.write_all_at(&n.to_le_bytes(), 0).expect("a ring");
    }
}

pub(crate) fn hear(path: &Path) {
    let db = Connection::open(path).expect("a connection");
    let mut seq = 0_i64;
    let mut left = EVENTS;
    watch(path, || {
        let sql = "SELECT seq, data FROM entries WHERE channel = 1 AND seq > ?1";
        let mut select = db.prepare_cached(sql).expect("a statement");
        let mut rows = select.query([seq]).expect("rows");
        while let Some(row) = rows.next().expect("a row") {
            seq = row.get(0).expect("a seq");
            taken(&String::from_utf8(row.get(1).expect("data")).expect("text"));
            left -= 1;
        }
        left > 0
    });
}

fn ring(path: &Path) {
    let bell = OpenOptions::new().write(true).open(beside(path, "-hand")).expect("a bell");
    for _ in 0..EVENTS {
        std::thread::sleep(GAP);
        bell.write_all_at(&now().to_le_bytes(), 0).expect("a ring");
    }
}

pub(crate) fn wake(path: &Path) {
    let bell = File::open(beside(path, "-hand")).expect("a bell");
    let mut left = EVENTS;
    watch(path, || {
        let mut bytes = [0; 16];
        bell.read_exact_at(&mut bytes, 0).expect("a ring");
        taken(&u128::from_le_bytes(bytes).to_string());
        left -= 1;
        left > 0
    });
}

/// Calls `act` for each ring until it says that it was the last.
fn watch(path: &Path, mut act: impl FnMut() -> bool) {
    let eyes = inotify::init(CreateFlags::CLOEXEC).expect("inotify");
    inotify::add_watch(&eyes, beside(path, "-hand"), WatchFlags::MODIFY).expect("a watch");
    println!("ready");
    let mut buffer = [std::mem::MaybeUninit::uninit(); 4096];
    let mut reader = Reader::new(&eyes, &mut buffer);
    while reader.next().is_ok() && act() {}
}

fn taken(sent: &str) {
    println!("{}", now() - sent.parse::<u128>().expect("a time"));
}

fn now() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_nanos()
}

const EVENTS: usize = 200;
const GAP: Duration = Duration::from_millis(5);
