//! Acknowledged appends per second of 200-byte events.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use tower_events::{Channel, Event, FileStore, Retention, Store, store::Append, stores::file::Durability};

use super::{
    direct::Direct,
    report::{Dir, Spread, row},
    rounds, runtime,
};

pub(crate) fn in_one_process() {
    println!("\nacknowledged appends of 200-byte events, one process, events/s: median (least - most)");
    println!("  direct: the store's statements in a loop on one thread, with batches of the same mean size");
    for durability in [Durability::Process, Durability::Power] {
        for publishers in [1, 4, 16] {
            compare(durability, publishers);
        }
    }
}

fn compare(durability: Durability, publishers: usize) {
    let dirs = [(); 3].map(|()| Dir::new());
    let store = open(&dirs[0].file(), durability);
    let mut same = Direct::open(&dirs[1].file(), durability, 1);
    let mut single = Direct::open(&dirs[2].file(), durability, 1);
    let (mut rates, mut ratios, mut handed, mut gains, mut batches) = (vec![], vec![], vec![], vec![], vec![]);
    for _ in 0..rounds() {
        let before = store.commits();
        let (rate, events) = runtime().block_on(appends(&store, publishers, TIME));
        let batch = events as f64 / (store.commits() - before) as f64;
        let (direct, _) = same.appends(batch, &[b'x'; 200], TIME);
        let by_thread = same.handed_over(batch, &[b'x'; 200], TIME);
        let (one, _) = single.appends(1.0, &[b'x'; 200], TIME);
        rates.push(rate);
        batches.push(batch);
        ratios.push(rate / direct);
        handed.push(rate / by_thread);
        gains.push(rate / one);
    }
    let name = format!("{durability:?}, {publishers} publishers");
    row(&name, Spread::of(rates));
    row("  events per commit", Spread::of(batches));
    row("  ratio to the same batches, direct (0.8)", Spread::of(ratios));
    row("  ratio to the same, each handed to a thread and back", Spread::of(handed));
    row("  ratio to one direct commit per event (16 with Power: 5)", Spread::of(gains));
}

pub(crate) fn open(path: &Path, durability: Durability) -> FileStore {
    let retention = Retention::default().events(u64::MAX).bytes(u64::MAX);
    FileStore::options().retention(retention).durability(durability).open(path).expect("a store")
}

/// The rate and number of events that this many publishers append one by one.
pub(crate) async fn appends(store: &FileStore, publishers: usize, time: Duration) -> (f64, u64) {
    let (started, done) = (Instant::now(), Arc::new(AtomicU64::new(0)));
    let tasks: Vec<_> = (0..publishers)
        .map(|_| {
            let (store, done) = (store.clone(), Arc::clone(&done));
            tokio::spawn(async move {
                let channel = Channel::new("bench").expect("a name");
                let text = "x".repeat(200);
                while started.elapsed() < time {
                    store.append(&channel, Append::new([Event::text(&text)])).await.expect("an append");
                    done.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("a publisher");
    }
    let done = done.load(Ordering::Relaxed);
    (done as f64 / started.elapsed().as_secs_f64(), done)
}

pub(crate) fn in_four_processes() {
    println!("\nacknowledged appends of 200-byte events, 4 processes on one file, events/s: median (least - most)");
    println!("  direct: four such loops, started at once, that wait for the lock as SQLite does");
    for durability in ["Process", "Power"] {
        for publishers in ["1", "4"] {
            let (mut rates, mut ratios) = (vec![], vec![]);
            for _ in 0..rounds() {
                let dirs = [Dir::new(), Dir::new()];
                let (ours, batches) = run_four("append", &dirs[0].file(), &[durability, publishers]);
                let batch = batches / 4.0;
                let (direct, _) = run_four("direct", &dirs[1].file(), &[durability, &batch.to_string()]);
                rates.push(ours);
                ratios.push(ours / direct);
            }
            row(&format!("{durability}, 4 x {publishers} publishers"), Spread::of(rates));
            row("  ratio to the same batches, direct (0.8)", Spread::of(ratios));
        }
    }
}

/// Runs four children at the same time. Returns the events per second of all, and the sum of the second numbers that
/// they print.
pub(crate) fn run_four(what: &str, path: &Path, arguments: &[&str]) -> (f64, f64) {
    drop(FileStore::open(path).expect("a store"));
    let children: Vec<_> = (1..=4).map(|n: u32| spawn(what, path, &[arguments, &[&n.to_string()]].concat())).collect();
    let mut ready: Vec<_> = children
        .into_iter()
        .map(|mut child| {
            let mut lines = BufReader::new(child.stdout.take().expect("its output")).lines().map_while(Result::ok);
            assert_eq!(lines.next().as_deref(), Some("ready"));
            (child, lines)
        })
        .collect();
    for (child, _) in &mut ready {
        child.stdin.take().expect("its input").write_all(b"go\n").expect("a start");
    }
    ready.into_iter().fold((0.0, 0.0), |(rates, batches), (mut child, mut lines)| {
        let text = lines.next().expect("what it did");
        child.wait().expect("a child");
        let mut numbers = text.split_whitespace().map(|number| number.parse::<f64>().expect("a number"));
        let (events, batch) = (numbers.next().unwrap_or(0.0), numbers.next().unwrap_or(0.0));
        (rates + events / (2 * TIME).as_secs_f64(), batches + batch)
    })
}

pub(crate) fn spawn(what: &str, path: &Path, arguments: &[&str]) -> Child {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.args(["child", what]).arg(path).args(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("a child")
}

pub(crate) const TIME: Duration = Duration::from_millis(700);
