//! State that the handles of one store, its writer and its watchers share.

use std::{
    error::Error,
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

use super::{
    error::{SyncFailed, is_failed_sync},
    health::FileHealth,
    options::FileOptions,
    paths::{Identity, Paths},
    quarantine::Quarantine,
};
use crate::store::{
    Health, StoreError, UpkeepNotes,
    kit::{Keep, Watchers},
    resume,
};

pub(super) struct Core {
    pub(super) paths: Paths,
    pub(super) options: FileOptions,
    pub(super) keep: Keep,
    /// Distinguishes this store's own notifications from those of others.
    pub(super) id: u64,
    /// The file that was opened, on systems that identify files.
    identity: Option<Identity>,
    /// The latest time that the clock has shown, in Unix milliseconds.
    latest_time: AtomicU64,
    pub(super) watchers: Watchers,
    /// How many transactions this store has begun.
    pub(super) attempts: AtomicU64,
    /// How many of them it has committed.
    pub(super) commits: AtomicU64,
    /// Set once: from then on nothing is written.
    failed_sync: OnceLock<SyncFailed>,
    pub(super) quarantine: Quarantine,
    pub(super) health: FileHealth,
    pub(super) upkeep: UpkeepNotes,
}

impl Core {
    /// The database has to exist.
    pub(super) fn new(paths: Paths, options: FileOptions) -> std::io::Result<Self> {
        let keep = Keep::new(&options.retention);
        let identity = Paths::identity(&paths.db)?;
        let (latest_time, attempts, commits, failed_sync) = Default::default();
        let (id, quarantine, health) = (resume::fresh_epoch(), Quarantine::default(), FileHealth::default());
        Ok(Self {
            paths,
            options,
            keep,
            id,
            identity,
            latest_time,
            watchers: Watchers::armed(),
            attempts,
            commits,
            failed_sync,
            quarantine,
            health,
            upkeep: UpkeepNotes::default(),
        })
    }

    pub(super) fn now(&self) -> u64 {
        let now = self.options.clock.now().min(i64::MAX as u64);
        self.latest_time.fetch_max(now, Ordering::Relaxed).max(now)
    }

    /// Fails in a forked process, or if the file is no longer the one that was opened.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        self.paths.check_process()?;
        self.check_file()
    }

    /// Fails if the file is no longer the one that was opened: no other process would see what is written to a file
    /// that was removed or replaced.
    pub(super) fn check_file(&self) -> Result<(), StoreError> {
        match Paths::identity(&self.paths.db) {
            Ok(now) if now == self.identity => Ok(()),
            Ok(_) => Err(self.file_gone("was replaced")),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(self.file_gone("was removed")),
            Err(error) => Err(StoreError::Unavailable(error.into())),
        }
    }

    pub(super) fn health(&self) -> Health {
        if self.check().is_err() || self.health.reads.is_failing() {
            Health::Unavailable
        } else if self.failed_sync.get().is_some() || self.health.writes.is_failing() {
            Health::ReadOnly
        } else {
            Health::Ready
        }
    }

    fn file_gone(&self, how: &str) -> StoreError {
        let path = self.paths.db.display();
        StoreError::Unavailable(format!("the event file {path} {how} while it was open; open it again").into())
    }

    /// Stops writing for good: the disk could not sync.
    pub(super) fn stop_writing(&self, error: impl Error + Send + Sync + 'static) -> SyncFailed {
        let log_once = || {
            let file = self.paths.db.display();
            tracing::error!(%error, %file, "a sync failed; the store writes nothing until it is opened again");
            SyncFailed::new(error)
        };
        self.failed_sync.get_or_init(log_once).clone()
    }

    pub(super) fn checkpoint_failed(&self, error: rusqlite::Error) {
        if self.health.warnings.checkpoint_failed.is_due() {
            tracing::warn!(%error, file = %self.paths.db.display(), "a checkpoint of an event file failed");
        }
        if is_failed_sync(&error) {
            self.stop_writing(error);
        }
    }

    pub(super) fn failed_sync(&self) -> Option<SyncFailed> {
        self.failed_sync.get().cloned()
    }
}
