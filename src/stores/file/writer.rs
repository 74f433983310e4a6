//! Writing: whatever is queued becomes one transaction; it is told of, and only then answered.
//!
//! Order of a turn: the lock file, `BEGIN IMMEDIATE`, the requests and a little of the janitor's work, `COMMIT`, the bell,
//! and the lock is released. The answers follow when they hold (see `promise`). Whoever is killed within a turn leaves a lock
//! that the system releases and a transaction that does not count.
//!
//! One at a time has a turn: one of the writer's threads, or, with [`Durability::Process`](super::Durability), one of those
//! who ask, when nobody else writes. A commit that waits for no disk takes less time than waking a thread does. Whatever may
//! wait is a thread's: another process's lock, syncs, the end of a long log, large requests.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use rusqlite::Connection;

use super::{
    connection,
    notify_file::NotifyFile,
    health::RETRY_EVERY,
    core::Core,
    error::{from_commit, from_sql, is_failed_sync},
    commit_error::{CommitError, ErrorOrigin, OperationError},
    janitor::Janitor,
    lock::Lock,
    lock_holders,
    wal::Wal,
    probe,
    request::{Operation, PendingReplies, Reply, Request, RequestResults, fail_all},
    request_queue::RequestQueue,
    shared_retention::OtherCommits,
    transaction::TxState,
};
use crate::store::StoreError;

pub(super) struct Writer {
    core: Arc<Core>,
    lock: Lock,
    db: Connection,
    state: TxState,
    notify_file: NotifyFile,
    janitor: Janitor,
    wal: Wal,
    /// Whether the log waits for a thread to have it begin anew.
    pub(super) wal_should_restart: bool,
    /// When what has failed was last tried again.
    last_retry: Option<Instant>,
}

impl Writer {
    pub(super) fn new(core: Arc<Core>, lock: Lock, db: Connection, notify_file: NotifyFile) -> Self {
        let state = TxState::new(core.keep);
        let (janitor, wal) = (Janitor::new(&core.keep), Wal::new(Arc::clone(&core)));
        Self { core, lock, db, state, notify_file, janitor, wal, wal_should_restart: false, last_retry: None }
    }

    /// Writes what is queued on the caller's thread, if that needs no waiting.
    pub(super) fn try_serve(&mut self, requests: &RequestQueue) -> Served {
        if self.wal_should_restart || !self.wal.has_room() || self.check().is_err() {
            return Served::WouldBlock;
        }
        if !self.lock.try_acquire().unwrap_or(false) {
            return Served::WouldBlock;
        }
        // Somebody else's program may write to the file without our lock.
        _ = self.db.busy_timeout(Duration::ZERO);
        let begun = self.execute_sql("BEGIN IMMEDIATE").is_ok();
        _ = self.db.busy_timeout(self.core.options.timeout);
        if begun {
            self.transact(requests.take(), TxStart::AlreadyBegun).send();
            self.wal_should_restart = self.wal.after_commit(&self.db).unwrap_or(true);
        }
        self.lock.release();
        if begun && !self.wal_should_restart { Served::Done } else { Served::WouldBlock }
    }

    /// Writes what is queued, on a thread. A log that is full begins anew first: who was answered does not wait for it.
    pub(super) fn serve(&mut self, requests: &RequestQueue) -> PendingReplies {
        if let Err(error) = self.enter(self.core.options.timeout) {
            self.core.health.writes.record_failure(&self.core.paths.db, &error);
            fail_all(requests.take(), error);
            // Else the thread would call itself again and again. The next commit finds out anew.
            self.wal_should_restart = false;
            return PendingReplies::default();
        }
        if std::mem::take(&mut self.wal_should_restart) {
            self.restart_wal();
        }
        let requests = requests.take();
        let replies = if requests.is_empty() { PendingReplies::default() } else { self.transact(requests, TxStart::Begin) };
        self.leave();
        replies
    }

    /// Does the janitor's work when nobody asks for anything, and cuts a log that a reader made long.
    pub(super) fn tidy(&mut self) {
        let janitor_is_due = self.janitor.is_due(&self.db, &self.state.retention, self.core.now());
        let is_pinned = self.wal.is_pinned();
        if !janitor_is_due && !is_pinned {
            return;
        }
        if let Err(error) = self.enter(self.core.options.timeout) {
            return self.janitor.postpone(&self.core, &error);
        }
        if janitor_is_due {
            if let Err(error) = self.commit(&[], TxStart::Begin) {
                // Whatever it was, it fails again, and each attempt keeps others from writing.
                self.core.health.writes.record_failure(&self.core.paths.db, &error.error);
                self.janitor.postpone(&self.core, &error.error);
            } else {
                self.core.health.writes.recover(&self.core.paths.db);
                self.notify();
            }
        }
        if is_pinned {
            self.restart_wal();
        }
        self.leave();
    }

    /// How long a thread may wait before it looks.
    pub(super) fn pause(&self) -> Duration {
        let pause = self.janitor.pause();
        if self.core.health.needs_retry() { pause.min(RETRY_EVERY) } else { pause }
    }

    fn leave(&mut self) {
        match self.wal.after_commit(&self.db) {
            Ok(should_restart) => self.wal_should_restart |= should_restart,
            Err(error) => self.checkpoint_failed(error),
        }
        self.lock.release();
    }

    fn restart_wal(&mut self) {
        if let Err(error) = self.wal.restart(&self.db) {
            self.checkpoint_failed(error);
        }
    }

    fn checkpoint_failed(&self, error: rusqlite::Error) {
        tracing::warn!(%error, "a checkpoint of an event file failed");
        if is_failed_sync(&error) {
            self.core.stop_writing(error);
        }
    }

    /// Fails when something forbids to write.
    fn check(&self) -> Result<(), StoreError> {
        match self.core.failed_sync() {
            Some(failed) => Err(StoreError::Unavailable(Box::new(failed))),
            None => self.core.check_file(),
        }
    }

    /// Tries what has failed, if that is some time ago.
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
        let wrote = probe::write(&self.core, &self.db);
        self.state.discard();
        if wrote.is_err() {
            // What this connection remembers of the file may be what is wrong.
            let options = &self.core.options;
            if let Ok(db) = connection::reopen_writer(&self.core.paths, options.durability, options.timeout) {
                self.db = db;
            }
        }
        self.lock.release();
        wrote
    }

    /// Takes the lock, unless something forbids to write.
    fn enter(&mut self, timeout: Duration) -> Result<(), StoreError> {
        self.check()?;
        match self.lock.acquire(timeout) {
            Ok(true) => {}
            Ok(false) => return Err(self.lock_error()),
            Err(error) => return Err(StoreError::Unavailable(error.into())),
        }
        let room = self.wal.check_room(&self.db);
        if room.is_err() {
            self.lock.release();
        }
        room
    }

    fn lock_error(&self) -> StoreError {
        let paths = &self.core.paths;
        let holder = lock_holders::writers(&[&paths.lock, &paths.db]);
        tracing::warn!(file = %paths.db.display(), %holder, "waiting for the lock of an event file");
        StoreError::Unavailable(format!("nothing was written: {holder} of {}", paths.db.display()).into())
    }

    /// Commits the requests as one transaction. When that fails, it tries each alone, so that one that does not fit or meets
    /// damage takes no others with it.
    fn transact(&mut self, requests: Vec<Request>, start: TxStart) -> PendingReplies {
        let mut done = self.commit(&requests, start);
        if let Err(CommitError { origin: ErrorOrigin::Janitor, error }) = &done {
            self.janitor.postpone(&self.core, error);
            done = if requests.is_empty() { Ok(Vec::new()) } else { self.commit(&requests, TxStart::Begin) };
        }
        match done {
            Ok(results) => {
                self.core.health.writes.recover(&self.core.paths.db);
                self.notify();
                PendingReplies::new(requests, results)
            }
            Err(error) if error.may_be_one_request() && requests.len() > 1 => {
                let each = requests.into_iter().map(|request| self.transact(vec![request], TxStart::Begin));
                each.reduce(PendingReplies::merge).unwrap_or_default()
            }
            Err(CommitError { origin, error }) => {
                self.core.health.writes.record_failure(&self.core.paths.db, &error);
                let channel = requests.first().and_then(|request| request.operation.channel());
                if let (ErrorOrigin::Request, StoreError::Corrupt(_), Some(channel)) = (origin, &error, channel) {
                    self.core.quarantine.block_writes(&self.core.paths.db, channel.as_str(), &error);
                }
                fail_all(requests, error);
                PendingReplies::default()
            }
        }
    }

    fn commit(&mut self, requests: &[Request], start: TxStart) -> Result<RequestResults, CommitError> {
        self.core.attempts.fetch_add(1, Ordering::Relaxed);
        let done = self.try_commit(requests, start);
        if done.is_err() {
            self.state.discard();
            if !self.db.is_autocommit() {
                // Fails only when SQLite has rolled back by itself.
                _ = self.db.execute_batch("ROLLBACK");
            }
        }
        done
    }

    fn try_commit(&mut self, requests: &[Request], start: TxStart) -> Result<RequestResults, CommitError> {
        if start == TxStart::Begin {
            self.execute_sql("BEGIN IMMEDIATE").map_err(|error| self.failed_begin(error))?;
        }
        let now = self.core.now();
        if self.state.begin(&self.db, now)? == OtherCommits::Possible {
            self.notify_file.expect_foreign_writes();
        }
        let mut results = Vec::with_capacity(requests.len());
        for request in requests {
            results.push(match self.execute_operation(now, &request.operation) {
                Ok(reply) => Ok(reply),
                Err(OperationError::Refused(error)) => Err(error),
                Err(OperationError::Aborted(error)) => return Err(CommitError { origin: ErrorOrigin::Request, error }),
            });
        }
        // What the janitor undoes must not be theirs.
        self.state.flush(&self.db).map_err(from_sql)?;
        match self.janitor.run_step(&self.db, &mut self.state, &self.core, now) {
            Ok(()) => {}
            Err(OperationError::Aborted(error) | OperationError::Refused(error)) => return Err(CommitError { origin: ErrorOrigin::Janitor, error }),
        }
        self.execute_sql("COMMIT").map_err(|error| self.failed_commit(error))?;
        self.core.commits.fetch_add(1, Ordering::Relaxed);
        if std::mem::take(&mut self.state.left_garbage) {
            self.janitor.wake();
        }
        Ok(results)
    }

    fn execute_operation(&mut self, now: u64, operation: &Operation) -> Result<Reply, OperationError> {
        let (db, state, quarantine) = (&self.db, &mut self.state, &self.core.quarantine);
        match operation {
            Operation::Append(channel, append) => {
                quarantine.check(channel.as_str()).map_err(OperationError::Refused)?;
                state.append(db, now, channel, append).map(Reply::Appended)
            }
            Operation::Init(channel, events, expect) => {
                let head = state.init(db, now, channel, events, *expect)?;
                quarantine.lift(channel.as_str());
                Ok(Reply::Head(head))
            }
            Operation::Delete(channel) => {
                state.delete(db, now, channel)?;
                quarantine.lift(channel.as_str());
                Ok(Reply::Deleted)
            }
            Operation::Maintain(channels) => {
                channels.iter().try_for_each(|channel| state.maintain(db, now, channel).map(drop))?;
                Ok(Reply::Maintained)
            }
        }
    }

    fn execute_sql(&self, sql: &str) -> rusqlite::Result<usize> {
        self.db.prepare_cached(sql)?.execute([])
    }

    /// Somebody else's program may write to the file without our lock.
    fn failed_begin(&self, error: rusqlite::Error) -> StoreError {
        match error.sqlite_error_code() {
            Some(rusqlite::ErrorCode::DatabaseBusy) => self.lock_error(),
            _ => from_sql(error),
        }
    }

    /// A log that begins anew is synced within the commit.
    fn failed_commit(&self, error: rusqlite::Error) -> StoreError {
        if !is_failed_sync(&error) {
            return from_commit(error);
        }
        StoreError::Unknown(Box::new(self.core.stop_writing(error)))
    }

    /// Tells of the commit, in this process and in others.
    fn notify(&mut self) {
        let notifications = std::mem::take(&mut self.state.notifications);
        if !notifications.is_empty() {
            if let Err(error) = self.notify_file.write_to_current(self.core.id, &notifications) {
                tracing::debug!(%error, "the notify file cannot be written; other processes find out when they next look");
            }
        }
        self.core.notify_watchers(self.state.changes.drain(..));
    }
}

/// Whether a transaction has begun.
#[derive(Clone, Copy, PartialEq, Eq)]
enum TxStart {
    AlreadyBegun,
    Begin,
}

/// What became of writing without waiting.
pub(super) enum Served {
    Done,
    /// It is the thread's turn.
    WouldBlock,
}

/// How long a trial waits for the lock: who holds it longer is what is wrong.
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

    type Forbid = fn(&FileStore, &std::path::Path);

    /// What forbids to write for as long as the process runs.
    const FORBIDDEN: [(&str, Forbid); 2] = [
        ("sync", |store, _| drop(store.core.stop_writing(std::io::Error::other("no disk")))),
        ("removed", |_, dir| std::fs::remove_dir_all(dir).unwrap()),
    ];

    #[test]
    fn what_cannot_be_tidied_is_left_alone_for_a_while() {
        for (name, forbid) in FORBIDDEN {
            let (dir, store) = store(&format!("tidy-{name}"));
            let mut writer = store.write_handle.0.writer.lock().unwrap();
            writer.janitor.wake();
            forbid(&store, &dir);
            writer.tidy();
            assert!(writer.pause() >= Duration::from_millis(100), "{name}: {:?}", writer.pause());
            drop(writer);
            _ = std::fs::remove_dir_all(dir);
        }
    }

    #[test]
    fn a_log_that_may_not_begin_anew_keeps_no_thread_busy() {
        for (name, forbid) in FORBIDDEN {
            let (dir, store) = store(&format!("full-{name}"));
            let mut writer = store.write_handle.0.writer.lock().unwrap();
            writer.wal_should_restart = true;
            forbid(&store, &dir);
            drop(writer.serve(&RequestQueue::default()));
            assert!(!writer.wal_should_restart, "{name}: the thread calls itself again");
            drop(writer);
            _ = std::fs::remove_dir_all(dir);
        }
    }
}
