//! The write-ahead log: when it is checkpointed, when it restarts, and how large it may get.
//!
//! The checkpointer copies its frames into the database file while others write. SQLite restarts the WAL with the first
//! commit after all frames were copied; so now and then the rest, which is short, is copied with the lock held.

use std::{sync::Arc, time::Duration};

use rusqlite::Connection;

use super::{
    checkpoint::{self, CheckpointMode},
    checkpointer::Checkpointer,
    core::Core,
    error::from_sql,
    lock_holders,
};
use crate::store::StoreError;

pub(super) struct Wal {
    core: Arc<Core>,
    /// Started when first needed.
    checkpointer: Option<Checkpointer>,
    /// Commits since the size of the WAL was last read.
    commits_since_check: u32,
    /// The number of frames from which on the WAL should restart.
    restart_at: u64,
    /// Frames that readers prevented from being reused at the last restart.
    pinned: u64,
    max_frames: u64,
}

impl Wal {
    pub(super) fn new(core: Arc<Core>) -> Self {
        let max_frames = core.options.max_wal_bytes / FRAME_BYTES;
        Self { core, checkpointer: None, commits_since_check: 0, restart_at: RESTART_FRAMES, pinned: 0, max_frames }
    }

    /// Requests a checkpoint if it is time. Returns whether the WAL should restart.
    pub(super) fn after_commit(&mut self, db: &Connection) -> rusqlite::Result<bool> {
        self.commits_since_check += 1;
        if self.commits_since_check < COMMITS_BETWEEN_CHECKS {
            return Ok(false);
        }
        let frames = checkpoint::run(db, CheckpointMode::Inspect)?;
        let should_restart = frames.total >= self.restart_at
            && (frames.pending() < CHECKPOINT_FRAMES / 2 || frames.total >= self.restart_at + RESTART_FRAMES);
        // If it should, the next call checks at once.
        self.commits_since_check = if should_restart { COMMITS_BETWEEN_CHECKS } else { 0 };
        if !should_restart && frames.pending() >= CHECKPOINT_FRAMES {
            self.request_checkpoint();
        }
        Ok(should_restart)
    }

    fn request_checkpoint(&mut self) {
        if self.checkpointer.is_none() {
            // Without the thread, the WAL grows until it is copied with the lock held.
            self.checkpointer = Checkpointer::start(Arc::clone(&self.core)).ok();
        }
        if let Some(checkpointer) = &self.checkpointer {
            checkpointer.request();
        }
    }

    /// Whether a reader prevented reuse at the last restart, and may have finished since.
    pub(super) fn is_pinned(&self) -> bool {
        self.pinned > 0
    }

    /// Copies the remaining frames. The caller holds the lock file, so that no new ones are written meanwhile.
    pub(super) fn restart(&mut self, db: &Connection) -> rusqlite::Result<()> {
        self.commits_since_check = 0;
        let mut now = checkpoint::run(db, CheckpointMode::Passive)?;
        if now.pending() == 0 && now.total > 2 * RESTART_FRAMES {
            // It has grown because of a reader that has finished: frees the disk space.
            db.busy_timeout(Duration::ZERO)?;
            let truncated = checkpoint::run(db, CheckpointMode::Truncate);
            db.busy_timeout(self.core.options.timeout)?;
            now = truncated?;
        }
        self.pinned = now.pending();
        // If a reader prevents the restart, it usually finishes before the next attempt.
        self.restart_at = if self.pinned == 0 { RESTART_FRAMES } else { now.total + RESTART_FRAMES };
        if self.pinned > WARN_PINNED_FRAMES && self.core.health.warnings.wal_pinned.is_due() {
            let reader = lock_holders::readers(&self.core.paths);
            let file = self.core.paths.db.display();
            tracing::warn!(%file, frames = self.pinned, reader, "a reader prevents the WAL from being reused");
        }
        Ok(())
    }

    /// Whether the WAL may grow.
    pub(super) fn has_room(&self) -> bool {
        self.pinned < self.max_frames
    }

    /// Before a transaction, with the lock held: fails if the WAL has reached its limit and cannot restart.
    pub(super) fn check_room(&mut self, db: &Connection) -> Result<(), StoreError> {
        if self.has_room() {
            return Ok(());
        }
        self.restart(db).map_err(from_sql)?;
        if self.has_room() {
            return Ok(());
        }
        let (reader, file) = (lock_holders::readers(&self.core.paths), self.core.paths.db.display());
        let why = format!("{reader} prevents the WAL of {file} from being reused: {} frames", self.pinned);
        Err(StoreError::Full(why.into()))
    }
}

/// Frames per checkpoint: about 4 MiB.
const CHECKPOINT_FRAMES: u64 = 1000;

/// A WAL of this many frames should restart.
const RESTART_FRAMES: u64 = 1800;

/// When readers prevent the reuse of more frames than this, it is logged.
const WARN_PINNED_FRAMES: u64 = 16 * CHECKPOINT_FRAMES;

const COMMITS_BETWEEN_CHECKS: u32 = 16;

/// A page and the frame's header.
const FRAME_BYTES: u64 = 4096 + 24;
