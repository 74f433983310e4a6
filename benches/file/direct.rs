//! SQLite used directly: the same tables, rows and settings, batches of the same mean size as the store's, one
//! statement per entry and one for the channel's row. There is one connection on one thread, which waits for no other
//! thread, checkpoints within about every five hundredth commit (SQLite's default), and takes only SQLite's own lock,
//! for which it polls.

use std::{
    path::Path,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use rusqlite::Connection;
use tokio::sync::oneshot;
use tower_events::{FileStore, stores::file::Durability};

use super::runtime;

pub(crate) struct Direct {
    db: Connection,
    channel: i64,
    seq: i64,
}

impl Direct {
    /// A store creates the tables.
    pub(crate) fn open(path: &Path, durability: Durability, channel: i64) -> Self {
        drop(FileStore::open(path).expect("a file"));
        let db = Connection::open(path).expect("a connection");
        let synchronous = if durability == Durability::Power { "FULL" } else { "NORMAL" };
        db.execute_batch(&format!("PRAGMA synchronous = {synchronous}; PRAGMA journal_size_limit = 8388608;"))
            .expect("set up");
        db.busy_timeout(Duration::from_secs(60)).expect("set up");
        let sql =
            "INSERT OR IGNORE INTO channels VALUES (?1, 'direct' || ?1, 1, 0, 0, 0, 0, 0, NULL, 0, 0, 0, 0, 1 << 60)";
        db.execute(sql, [channel]).expect("a channel");
        Self { db, channel, seq: 0 }
    }

    /// Commits this many events in one transaction.
    pub(crate) fn append(&mut self, events: usize, data: &[u8]) {
        let run = |sql: &str| self.db.prepare_cached(sql).and_then(|mut run| run.execute([])).expect("a step");
        run("BEGIN IMMEDIATE");
        for _ in 0..events {
            self.seq += 1;
            let sql = "INSERT INTO entries VALUES (?1, ?2, ?3, ?3, ?4, ?4, 0, NULL, ?5, ?6)";
            let mut insert = self.db.prepare_cached(sql).expect("a statement");
            let tag = fastrand::u32(..);
            let sum = fastrand::i64(..);
            insert.execute((self.channel, self.seq, tag, 1_732_094_400_000_i64, data, sum)).expect("an entry");
        }
        // The columns that the store's statement sets.
        let sql = "UPDATE channels SET head_seq = ?2, head_tag = ?2, closed = 0, earliest_seq = 0, earliest_tag = 0,
                   dropped_time = NULL, bytes = ?2, newest = ?2, oldest = 0, empty_since = 0 WHERE id = ?1";
        let mut update = self.db.prepare_cached(sql).expect("a statement");
        update.execute((self.channel, self.seq)).expect("a record");
        run("COMMIT");
    }

    /// Appends on the caller's thread. Returns events per second, and their number.
    pub(crate) fn appends(&mut self, batch: f64, data: &[u8], time: Duration) -> (f64, usize) {
        let (started, mut events, mut sizes) = (Instant::now(), 0, sizes(batch));
        while started.elapsed() < time {
            events += sizes.next().map_or(0, |size| {
                self.append(size, data);
                size
            });
        }
        (events as f64 / started.elapsed().as_secs_f64(), events)
    }

    /// Events per second of a task that hands each transaction to a thread and awaits its end, since async workers must
    /// not wait for a disk.
    pub(crate) fn handed_over(&mut self, batch: f64, data: &[u8], time: Duration) -> f64 {
        let (requests, incoming) = mpsc::channel::<(usize, oneshot::Sender<()>)>();
        let task = async move {
            let (started, mut events) = (Instant::now(), 0);
            for size in sizes(batch).take_while(|_| started.elapsed() < time) {
                let (reply_sender, reply) = oneshot::channel();
                requests.send((size, reply_sender)).expect("a thread");
                reply.await.expect("a reply");
                events += size;
            }
            events as f64 / started.elapsed().as_secs_f64()
        };
        thread::scope(|scope| {
            scope.spawn(move || {
                for (size, reply_sender) in incoming {
                    self.append(size, data);
                    _ = reply_sender.send(());
                }
            });
            runtime().block_on(async { tokio::spawn(task).await.expect("a task") })
        })
    }
}

/// Whole numbers of at least 1 with this mean.
fn sizes(mean: f64) -> impl Iterator<Item = usize> {
    let mut due = 0.0;
    std::iter::repeat_with(move || {
        due += mean;
        let now = (due as usize).max(1);
        due -= now as f64;
        now
    })
}
