//! The write-ahead log: when it goes into the file, and how large it may get.

use rusqlite::Connection;

use super::{error::from_sql, ground::Ground, lock};
use crate::store::StoreError;

/// The writer's view of the log.
pub(super) struct Log {
    /// Commits since the log's size was asked for.
    commits: u32,
    /// At how many frames the next checkpoint is due.
    due: u64,
    /// Frames that could not be reused after the last checkpoint.
    stuck: u64,
    largest: u64,
}

impl Log {
    pub(super) fn new(largest_bytes: u64) -> Self {
        Self { commits: 0, due: CHECKPOINT_AT, stuck: 0, largest: largest_bytes / FRAME }
    }

    /// After a commit, with the lock held: copies the log into the file when it is time. Nobody else writes meanwhile, so
    /// that the whole log can be copied and then begins anew.
    pub(super) fn look_after(&mut self, db: &Connection, ground: &Ground) -> rusqlite::Result<()> {
        if !self.is_full(db)? {
            return Ok(());
        }
        self.commits = 0;
        let (all, copied) = frames(db, "PASSIVE")?;
        self.stuck = all - copied.min(all);
        // A reader who is at it keeps the log from beginning anew; mostly it is done before the next checkpoint.
        self.due = all.max(self.stuck) + CHECKPOINT_AT;
        if self.stuck == 0 {
            self.due = CHECKPOINT_AT;
        }
        if self.stuck > WORRYING {
            let reader = lock::reader(ground);
            tracing::warn!(file = %ground.db.display(), frames = self.stuck, "{reader} keeps the log from being reused");
        }
        Ok(())
    }

    /// Whether a checkpoint is due, after a commit.
    pub(super) fn is_full(&mut self, db: &Connection) -> rusqlite::Result<bool> {
        self.commits += 1;
        if self.commits < COMMITS_BETWEEN_LOOKS {
            return Ok(false);
        }
        let (all, _) = frames(db, "NOOP")?;
        let full = all >= self.due;
        // When it is, whoever comes next sees it at once.
        self.commits = if full { COMMITS_BETWEEN_LOOKS } else { 0 };
        Ok(full)
    }

    /// Whether the log may grow.
    pub(super) fn has_room(&self) -> bool {
        self.stuck < self.largest
    }

    /// Before a transaction, with the lock held: fails when the log is as large as it may get and cannot begin anew.
    pub(super) fn check_room(&mut self, db: &Connection, ground: &Ground) -> Result<(), StoreError> {
        if self.has_room() {
            return Ok(());
        }
        let (all, copied) = frames(db, "PASSIVE").map_err(from_sql)?;
        self.stuck = all - copied.min(all);
        if self.has_room() {
            return Ok(());
        }
        let reader = lock::reader(ground);
        let why = format!("{reader} keeps the log of {} from being reused: {all} pages", ground.db.display());
        Err(StoreError::Full(why.into()))
    }
}

/// Runs a checkpoint, or none (`NOOP`): how many frames the log has, and how many of them are in the file.
fn frames(db: &Connection, mode: &str) -> rusqlite::Result<(u64, u64)> {
    let mut statement = db.prepare_cached(&format!("PRAGMA wal_checkpoint({mode})"))?;
    statement.query_row([], |row| Ok((row.get::<_, i64>(1)?.max(0) as u64, row.get::<_, i64>(2)?.max(0) as u64)))
}

/// A checkpoint is due at so many frames: about 4 MiB.
const CHECKPOINT_AT: u64 = 1000;

/// Frames that a reader keeps from being reused, from which on it is said.
const WORRYING: u64 = 16 * CHECKPOINT_AT;

const COMMITS_BETWEEN_LOOKS: u32 = 16;

/// A page and its header.
const FRAME: u64 = 4096 + 24;
