//! The write-ahead log: when it goes into the file, when it begins anew, and how large it may get.
//!
//! The copier copies it piece by piece while others write. It begins anew with the first commit after all of it was copied,
//! so now and then the rest, which is short, is copied with the lock held.

use std::{sync::Arc, time::Duration};

use rusqlite::Connection;

use super::{copier::Copier, core::Core, error::from_sql, lock};
use crate::store::StoreError;

/// The writer's view of the log.
pub(super) struct Log {
    core: Arc<Core>,
    /// Started when it is first needed.
    copier: Option<Copier>,
    /// Commits since the log's size was asked for.
    commits: u32,
    /// From so many frames on it should begin anew.
    long: u64,
    /// Frames that could not be reused after the last checkpoint.
    stuck: u64,
    largest: u64,
}

/// What a checkpoint may do, from nothing to cutting the log to no length.
#[derive(Clone, Copy)]
pub(super) enum Mode {
    Look,
    Passive,
    Truncate,
}

/// How many frames the log has, and how many of them are in the file.
#[derive(Clone, Copy)]
pub(super) struct Frames {
    all: u64,
    copied: u64,
}

impl Frames {
    fn left(self) -> u64 {
        self.all.saturating_sub(self.copied)
    }
}

impl Log {
    pub(super) fn new(core: Arc<Core>) -> Self {
        let largest = core.options.largest_log / FRAME;
        Self { core, copier: None, commits: 0, long: LONG, stuck: 0, largest }
    }

    /// After a commit: has the log copied when it is time. Says whether it should begin anew.
    pub(super) fn look(&mut self, db: &Connection) -> rusqlite::Result<bool> {
        self.commits += 1;
        if self.commits < COMMITS_BETWEEN_LOOKS {
            return Ok(false);
        }
        let frames = frames(db, Mode::Look)?;
        let full = frames.all >= self.long && (frames.left() < COPY_AT / 2 || frames.all >= self.long + LONG);
        // When it is, whoever comes next sees it at once.
        self.commits = if full { COMMITS_BETWEEN_LOOKS } else { 0 };
        if !full && frames.left() >= COPY_AT {
            self.ask_for_copy();
        }
        Ok(full)
    }

    fn ask_for_copy(&mut self) {
        if self.copier.is_none() {
            // Without it, the log grows until it is copied with the lock held.
            self.copier = Copier::start(Arc::clone(&self.core)).ok();
        }
        if let Some(copier) = &self.copier {
            copier.ask();
        }
    }

    /// When nobody writes, with the lock held: whether someone kept the log from being reused, and may be gone now.
    pub(super) fn is_stuck(&self) -> bool {
        self.stuck > 0
    }

    /// Copies what is left, with the lock held: nobody else writes meanwhile, so that it can be the whole.
    pub(super) fn begin_anew(&mut self, db: &Connection) -> rusqlite::Result<()> {
        self.commits = 0;
        let mut now = frames(db, Mode::Passive)?;
        if now.left() == 0 && now.all > 2 * LONG {
            // It was as long because someone held it back; room on the disk is others' too.
            db.busy_timeout(Duration::ZERO)?;
            let cut = frames(db, Mode::Truncate);
            db.busy_timeout(self.core.options.timeout)?;
            now = cut?;
        }
        self.stuck = now.left();
        // A reader who is at it keeps the log from beginning anew; mostly it is done before the next time.
        self.long = if self.stuck == 0 { LONG } else { now.all + LONG };
        if self.stuck > WORRYING {
            let reader = lock::reader(&self.core.paths);
            let file = self.core.paths.db.display();
            tracing::warn!(%file, frames = self.stuck, "{reader} keeps the log from being reused");
        }
        Ok(())
    }

    /// Whether the log may grow.
    pub(super) fn has_room(&self) -> bool {
        self.stuck < self.largest
    }

    /// Before a transaction, with the lock held: fails when the log is as large as it may get and cannot begin anew.
    pub(super) fn check_room(&mut self, db: &Connection) -> Result<(), StoreError> {
        if self.has_room() {
            return Ok(());
        }
        self.begin_anew(db).map_err(from_sql)?;
        if self.has_room() {
            return Ok(());
        }
        let (reader, file) = (lock::reader(&self.core.paths), self.core.paths.db.display());
        let why = format!("{reader} keeps the log of {file} from being reused: {} pages", self.stuck);
        Err(StoreError::Full(why.into()))
    }
}

/// Runs a checkpoint, or only looks.
pub(super) fn frames(db: &Connection, mode: Mode) -> rusqlite::Result<Frames> {
    let sql = match mode {
        Mode::Look => "PRAGMA wal_checkpoint(NOOP)",
        Mode::Passive => "PRAGMA wal_checkpoint(PASSIVE)",
        Mode::Truncate => "PRAGMA wal_checkpoint(TRUNCATE)",
    };
    let mut statement = db.prepare_cached(sql)?;
    // Both are -1 when there is nothing to say.
    let number = |row: &rusqlite::Row<'_>, column| row.get::<_, i64>(column).map(|number| number.max(0) as u64);
    statement.query_row([], |row| Ok(Frames { all: number(row, 1)?, copied: number(row, 2)? }))
}

/// So many frames are copied at once: about 4 MiB.
const COPY_AT: u64 = 1000;

/// A log of so many frames should begin anew.
const LONG: u64 = 1800;

/// Frames that a reader keeps from being reused, from which on it is said.
const WORRYING: u64 = 16 * COPY_AT;

const COMMITS_BETWEEN_LOOKS: u32 = 16;

/// A page and its header.
const FRAME: u64 = 4096 + 24;
