//! The write-ahead log: when it goes into the file, when it begins anew, and how large it may get.
//!
//! The copier copies it piece by piece while others write. It begins anew with the first commit after all of it was copied,
//! so now and then the rest, which is short, is copied with the lock held.

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

/// The writer's view of the log.
pub(super) struct Wal {
    core: Arc<Core>,
    /// Started when it is first needed.
    checkpointer: Option<Checkpointer>,
    /// Commits since the log's size was asked for.
    commits_since_check: u32,
    /// From so many frames on it should begin anew.
    restart_at: u64,
    /// Frames that could not be reused after the last checkpoint.
    pinned: u64,
    max_frames: u64,
}

impl Wal {
    pub(super) fn new(core: Arc<Core>) -> Self {
        let max_frames = core.options.largest_wal / FRAME_BYTES;
        Self { core, checkpointer: None, commits_since_check: 0, restart_at: RESTART_FRAMES, pinned: 0, max_frames }
    }

    /// After a commit: has the log copied when it is time. Says whether it should begin anew.
    pub(super) fn after_commit(&mut self, db: &Connection) -> rusqlite::Result<bool> {
        self.commits_since_check += 1;
        if self.commits_since_check < COMMITS_BETWEEN_CHECKS {
            return Ok(false);
        }
        let frames = checkpoint::run(db, CheckpointMode::Inspect)?;
        let should_restart = frames.total >= self.restart_at && (frames.pending() < CHECKPOINT_FRAMES / 2 || frames.total >= self.restart_at + RESTART_FRAMES);
        // When it is, whoever comes next sees it at once.
        self.commits_since_check = if should_restart { COMMITS_BETWEEN_CHECKS } else { 0 };
        if !should_restart && frames.pending() >= CHECKPOINT_FRAMES {
            self.request_checkpoint();
        }
        Ok(should_restart)
    }

    fn request_checkpoint(&mut self) {
        if self.checkpointer.is_none() {
            // Without it, the log grows until it is copied with the lock held.
            self.checkpointer = Checkpointer::start(Arc::clone(&self.core)).ok();
        }
        if let Some(checkpointer) = &self.checkpointer {
            checkpointer.request();
        }
    }

    /// When nobody writes, with the lock held: whether someone kept the log from being reused, and may be gone now.
    pub(super) fn is_pinned(&self) -> bool {
        self.pinned > 0
    }

    /// Copies what is left, with the lock held: nobody else writes meanwhile, so that it can be the whole.
    pub(super) fn restart(&mut self, db: &Connection) -> rusqlite::Result<()> {
        self.commits_since_check = 0;
        let mut now = checkpoint::run(db, CheckpointMode::Passive)?;
        if now.pending() == 0 && now.total > 2 * RESTART_FRAMES {
            // It was as long because someone held it back; room on the disk is others' too.
            db.busy_timeout(Duration::ZERO)?;
            let truncated = checkpoint::run(db, CheckpointMode::Truncate);
            db.busy_timeout(self.core.options.timeout)?;
            now = truncated?;
        }
        self.pinned = now.pending();
        // A reader who is at it keeps the log from beginning anew; mostly it is done before the next time.
        self.restart_at = if self.pinned == 0 { RESTART_FRAMES } else { now.total + RESTART_FRAMES };
        if self.pinned > WARN_PINNED_FRAMES {
            let reader = lock_holders::readers(&self.core.paths);
            let file = self.core.paths.db.display();
            tracing::warn!(%file, frames = self.pinned, "{reader} keeps the log from being reused");
        }
        Ok(())
    }

    /// Whether the log may grow.
    pub(super) fn has_room(&self) -> bool {
        self.pinned < self.max_frames
    }

    /// Before a transaction, with the lock held: fails when the log is as large as it may get and cannot begin anew.
    pub(super) fn check_room(&mut self, db: &Connection) -> Result<(), StoreError> {
        if self.has_room() {
            return Ok(());
        }
        self.restart(db).map_err(from_sql)?;
        if self.has_room() {
            return Ok(());
        }
        let (reader, file) = (lock_holders::readers(&self.core.paths), self.core.paths.db.display());
        let why = format!("{reader} keeps the log of {file} from being reused: {} pages", self.pinned);
        Err(StoreError::Full(why.into()))
    }
}

/// So many frames are copied at once: about 4 MiB.
const CHECKPOINT_FRAMES: u64 = 1000;

/// A log of so many frames should begin anew.
const RESTART_FRAMES: u64 = 1800;

/// Frames that a reader keeps from being reused, from which on it is said.
const WARN_PINNED_FRAMES: u64 = 16 * CHECKPOINT_FRAMES;

const COMMITS_BETWEEN_CHECKS: u32 = 16;

/// A page and its header.
const FRAME_BYTES: u64 = 4096 + 24;
