//! SQLite used directly: the same tables, settings and rows, one connection, nothing around it.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use rusqlite::Connection;
use tower_events::{FileStore, stores::file::Durability};

pub(crate) struct Direct {
    db: Connection,
    channel: i64,
    seq: i64,
}

impl Direct {
    /// The store makes the tables.
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

    /// One transaction of so many events.
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
        let sql = "UPDATE channels SET head_seq = ?2, head_tag = ?2, bytes = bytes + 270, newest = ?2 WHERE id = ?1";
        let mut update = self.db.prepare_cached(sql).expect("a statement");
        update.execute((self.channel, self.seq)).expect("a record");
        run("COMMIT");
    }

    /// Events per second.
    pub(crate) fn rate(&mut self, batch: f64, data: &[u8], time: Duration) -> f64 {
        let (started, mut events, mut due) = (Instant::now(), 0_usize, 0.0);
        while started.elapsed() < time {
            due += batch;
            let now = due as usize;
            due -= now as f64;
            self.append(now.max(1), data);
            events += now.max(1);
        }
        events as f64 / started.elapsed().as_secs_f64()
    }
}
