//! Writing: whatever is queued becomes one transaction, watchers are notified, and only then are the requests answered.
//!
//! Order: take the lock file, `BEGIN IMMEDIATE`, the requests and a step of the janitor's work, `COMMIT`, write the
//! notify file, release the lock. Replies follow once they are durable (see `durability`). A process that is killed at
//! any point leaves a lock that the system releases and a transaction that does not count.
//!
//! One thread writes at a time: one of the writer's, or, with [`Durability::Process`](super::Durability), that of a
//! task that submits a request while nothing else is written. A commit that does not wait for a disk takes less time
//! than waking a thread. Whatever may wait is left to the writer's threads: another process's lock, syncs, restarting a
//! long WAL, large requests.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use rusqlite::Connection;

use super::{
    committer::{Committer, TxStart},
    core::Core,
    health::RETRY_EVERY,
    lock::Lock,
    lock_holders,
    notify_file::NotifyFile,
    probe,
    request::{PendingReplies, Request},
    request_queue::RequestQueue,
    wal::Wal,
};
use crate::store::StoreError;

pub(super) struct Writer {
    core: Arc<Core>,
    lock: Lock,
    committer: Committer,
    wal: Wal,
    /// Whether the WAL waits for a thread to restart it.
    pub(super) wal_should_restart: bool,
    /// When failed reads or writes were last retried.
    last_retry: Option<Instant>,
}

/// How an attempt to write without waiting ended.
pub(super) enum Served {
    Done,
    /// A thread has to do it.
    WouldBlock,
}

impl Writer {
    pub(super) fn new(core: Arc<Core>, lock: Lock, db: Connection, notify_file: NotifyFile) -> Self {
        let committer = Committer::new(Arc::clone(&core), db, notify_file);
        let wal = Wal::new(Arc::clone(&core));
        Self { core, lock, committer, wal, wal_should_restart: false, last_retry: None }
    }

    /// Writes what is queued on the caller's thread, if that needs no waiting.
    pub(super) fn try_serve(&mut self, requests: &RequestQueue) -> Served {
        if self.wal_should_restart || !self.wal.has_room() || self.check().is_err() {
            return Served::WouldBlock;
        }
        if !self.lock.try_acquire().unwrap_or(false) {
            self.core.upkeep.conflicted();
            return Served::WouldBlock;
        }
        let begun = self.committer.try_begin();
        if begun {
            self.committer.transact(requests.take(), TxStart::AlreadyBegun).send();
            self.wal_should_restart = self.wal.after_commit(&self.committer.db).unwrap_or(true);
        }
        self.lock.release();
        if begun && !self.wal_should_restart { Served::Done } else { Served::WouldBlock }
    }

    /// Writes what is queued, on a writer's thread. Restarts the WAL first when that is due, so that no request that
    /// was answered before waits for it.
    pub(super) fn serve(&mut self, requests: &RequestQueue) -> PendingReplies {
        if let Err(error) = self.enter(self.core.options.timeout) {
            self.core.health.writes.record_failure(&self.core.paths.db, &error);
            Request::fail(requests.take(), error);
            // Otherwise the thread would wake itself in a loop. The next commit sets it again.
            self.wal_should_restart = false;
            return PendingReplies::default();
        }
        if std::mem::take(&mut self.wal_should_restart) {
            self.restart_wal();
        }
        let requests = requests.take();
        let replies = if requests.is_empty() {
            PendingReplies::default()
        } else {
            self.committer.transact(requests, TxStart::Begin)
        };
        self.leave();
        replies
    }

    /// Does the janitor's work while no requests come, and truncates a WAL that a reader made long.
    pub(super) fn tidy(&mut self) {
        let janitor_is_due = self.committer.janitor_is_due();
        let is_pinned = self.wal.is_pinned();
        if !janitor_is_due && !is_pinned {
            return;
        }
        if let Err(error) = self.enter(self.core.options.timeout) {
            return self.committer.janitor.postpone(&self.core, &error);
        }
        if janitor_is_due {
            self.committer.run_janitor();
        }
        if is_pinned {
            self.restart_wal();
        }
        self.leave();
    }

    /// How long a thread may wait before it calls [`tidy`](Self::tidy) and [`retry`](Self::retry) again.
    pub(super) fn pause(&self) -> Duration {
        let pause = self.committer.janitor.pause();
        if self.core.health.needs_retry() { pause.min(RETRY_EVERY) } else { pause }
    }

    /// Retries what has failed, at most once per [`RETRY_EVERY`].
    pub(super) fn retry(&mut self) {
        let health = &self.core.health;
        if !health.needs_retry() || self.last_retry.is_some_and(|last_retry| last_retry.elapsed() < RETRY_EVERY) {
            return;
        }
        self.last_retry = Some(Instant::now());
        let file = &self.core.paths.db;
        if health.reads.needs_retry() {
            match probe::read(&self.core) {
                Ok(()) => health.reads.recover(file),
                Err(error) => health.reads.set_failing(file, &error),
            }
        }
        if health.writes.needs_retry() {
            match self.retry_writes() {
                Ok(()) => {
                    self.core.quarantine.unblock_all();
                    self.core.health.writes.recover(&self.core.paths.db);
                }
                Err(error) => self.core.health.writes.set_failing(&self.core.paths.db, &error),
            }
        }
    }

    fn retry_writes(&mut self) -> Result<(), StoreError> {
        self.enter(RETRY_LOCK_TIMEOUT)?;
        let wrote = self.committer.probe();
        self.lock.release();
        wrote
    }

    /// Takes the lock. Fails when writing is not allowed, or the WAL may not grow.
    fn enter(&mut self, timeout: Duration) -> Result<(), StoreError> {
        self.check()?;
        match self.lock.acquire(timeout) {
            Ok(true) => {}
            Ok(false) => return Err(lock_holders::lock_error(&self.core)),
            Err(error) => return Err(StoreError::Unavailable(error.into())),
        }
        let room = self.wal.check_room(&self.committer.db);
        if room.is_err() {
            self.lock.release();
        }
        room
    }

    fn leave(&mut self) {
        match self.wal.after_commit(&self.committer.db) {
            Ok(should_restart) => self.wal_should_restart |= should_restart,
            Err(error) => self.core.checkpoint_failed(error),
        }
        self.lock.release();
    }

    /// Fails when a sync has failed, or the file is not the one that was opened.
    fn check(&self) -> Result<(), StoreError> {
        match self.core.failed_sync() {
            Some(failed) => Err(StoreError::Unavailable(Box::new(failed))),
            None => self.core.check_file(),
        }
    }

    fn restart_wal(&mut self) {
        if let Err(error) = self.wal.restart(&self.committer.db) {
            self.core.checkpoint_failed(error);
        }
    }
}

/// How long a retry waits for the lock: if it is held longer than that, the lock is what fails.
const RETRY_LOCK_TIMEOUT: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stores::file::FileStore;

    fn store(name: &str) -> (std::path::PathBuf, FileStore) {
        let dir = std::env::temp_dir().join(format!("tower-events-writer-{name}-{}", std::process::id()));
        let store = FileStore::open(dir.join("events.db")).unwrap();
        (dir, store)
    }

    type Prevent = fn(&FileStore, &std::path::Path);

    /// Conditions that prevent writing for as long as the process runs.
    const CONDITIONS: [(&str, Prevent); 2] = [
        ("sync", |store, _| drop(store.core.stop_writing(std::io::Error::other("no disk")))),
        ("removed", |_, dir| std::fs::remove_dir_all(dir).unwrap()),
    ];

    #[test]
    fn failed_maintenance_is_postponed() {
        for (name, prevent) in CONDITIONS {
            let (dir, store) = store(&format!("tidy-{name}"));
            let mut writer = store.write_handle.0.writer.lock().unwrap();
            writer.committer.janitor.wake();
            prevent(&store, &dir);
            writer.tidy();
            assert!(writer.pause() >= Duration::from_millis(100), "{name}: {:?}", writer.pause());
            drop(writer);
            _ = std::fs::remove_dir_all(dir);
        }
    }

    #[test]
    fn a_wal_that_cannot_restart_keeps_no_thread_busy() {
        for (name, prevent) in CONDITIONS {
            let (dir, store) = store(&format!("restart-{name}"));
            let mut writer = store.write_handle.0.writer.lock().unwrap();
            writer.wal_should_restart = true;
            prevent(&store, &dir);
            drop(writer.serve(&RequestQueue::default()));
            assert!(!writer.wal_should_restart, "{name}: the thread would wake itself again");
            drop(writer);
            _ = std::fs::remove_dir_all(dir);
        }
    }
}
