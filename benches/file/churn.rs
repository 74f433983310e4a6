//! How large the file and the WAL grow when a million events pass through a retention of ten thousand.

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    time::Instant,
};

use rustix::process::{Pid, Signal, kill_process};
use tower_events::{
    Channel, Event, FileStore, Retention, Store, StoreError,
    store::{Append, Limit, Start},
};

use super::{
    report::{Dir, row, size, with_suffix},
    runtime,
    throughput::spawn,
};

pub(crate) fn churn() {
    println!("\na million events of 200 bytes through a retention of 10 000, in batches of 10");
    for stopped in [false, true] {
        let dir = Dir::new();
        let store = open(&dir.file());
        runtime().block_on(append(&store, 20_000)).expect("an append");
        let settled = size(&dir.file());
        let reader = stopped.then(|| start_and_stop_reader(&dir.file()));
        let started = Instant::now();
        let (mut file, mut wal) = (0.0_f64, 0.0_f64);
        let (mut done, mut end) = (0, String::new());
        while done < 1_000_000 && end.is_empty() {
            match runtime().block_on(append(&store, 10_000)) {
                Ok(()) => done += 10_000,
                Err(error) => end = format!("; then, after {done} events, {error}"),
            }
            file = file.max(size(&dir.file()));
            wal = wal.max(size(&with_suffix(&dir.file(), "-wal")));
        }
        let rate = f64::from(done) / started.elapsed().as_secs_f64();
        let name = if stopped { "with a reader stopped in the middle of a read" } else { "without readers" };
        row(
            name,
            format!("file {settled:.1} MiB at first, {file:.1} at most; WAL {wal:.1} at most; {rate:.0} events/s{end}"),
        );
        if let Some(mut reader) = reader {
            kill_process(Pid::from_child(&reader), Signal::KILL).expect("a signal");
            reader.wait().expect("a child");
            runtime().block_on(append(&store, 20_000)).expect("an append");
            row("  after it ended", format!("WAL {:.1} MiB", size(&with_suffix(&dir.file(), "-wal"))));
        }
    }
}

fn open(path: &Path) -> FileStore {
    FileStore::options().retention(Retention::default().events(10_000)).open(path).expect("a store")
}

async fn append(store: &FileStore, events: usize) -> Result<(), StoreError> {
    let channel = Channel::new("bench").expect("a name");
    for _ in 0..events / 10 {
        store.append(&channel, Append::new(vec![Event::text("x".repeat(200)); 10])).await?;
    }
    Ok(())
}

/// Holds a snapshot and keeps reading, so that it is stopped within a read.
pub(crate) fn read_forever(path: &Path) {
    let db = rusqlite::Connection::open(path).expect("a connection");
    db.execute_batch("BEGIN; SELECT * FROM origin;").expect("a snapshot");
    println!("ready");
    runtime().block_on(async {
        let (store, channel) = (open(path), Channel::new("bench").expect("a name"));
        loop {
            store.read(&channel, Start::Earliest, Limit::default()).await.expect("a page");
        }
    });
}

fn start_and_stop_reader(path: &Path) -> std::process::Child {
    let mut child = spawn("read", path, &[]);
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("its output")).read_line(&mut line).expect("ready");
    kill_process(Pid::from_child(&child), Signal::STOP).expect("a signal");
    child
}
