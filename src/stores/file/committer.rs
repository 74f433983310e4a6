//! Transactions: commits requests as one, with a step of the janitor's work, and then notifies watchers. Its caller
//! holds the lock file.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use rusqlite::Connection;

use super::{
    commit_error::{CommitError, ErrorOrigin, OperationError},
    connection,
    core::Core,
    error::{from_commit, from_sql, is_failed_sync},
    janitor::Janitor,
    lock_holders,
    notify_file::NotifyFile,
    probe,
    request::{Operation, PendingReplies, Reply, Request, RequestResults},
    shared_retention::OtherCommits,
    transaction::TxState,
};
use crate::store::{
    StoreError,
    kit::{Fingerprints, WriteTransaction as _},
};

pub(super) struct Committer {
    core: Arc<Core>,
    pub(super) db: Connection,
    state: TxState,
    notify_file: NotifyFile,
    pub(super) janitor: Janitor,
}

/// Whether `BEGIN` has been executed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum TxStart {
    AlreadyBegun,
    Begin,
}

impl Committer {
    pub(super) fn new(core: Arc<Core>, db: Connection, notify_file: NotifyFile) -> Self {
        let (state, janitor) = (TxState::new(core.keep), Janitor::new(&core.keep));
        Self { core, db, state, notify_file, janitor }
    }

    /// Begins a transaction, if that needs no waiting: another program may write to the file without the lock file.
    pub(super) fn try_begin(&self) -> bool {
        _ = self.db.busy_timeout(Duration::ZERO);
        let begun = self.execute_sql("BEGIN IMMEDIATE").is_ok();
        _ = self.db.busy_timeout(self.core.options.timeout);
        begun
    }

    /// Commits the requests as one transaction. When that fails, commits each alone, so that one that does not fit or
    /// meets damage does not fail the others.
    pub(super) fn transact(&mut self, requests: Vec<Request>, start: TxStart) -> PendingReplies {
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
                let channel = requests.first().and_then(|request| request.write.channel());
                if let (ErrorOrigin::Request, StoreError::Corrupt(_), Some(channel)) = (origin, &error, channel) {
                    self.core.quarantine.block_writes(&self.core.paths.db, channel.as_str(), &error);
                }
                Request::fail(requests, error);
                PendingReplies::default()
            }
        }
    }

    pub(super) fn janitor_is_due(&mut self) -> bool {
        self.janitor.is_due(&self.db, &self.state.retention, &self.core)
    }

    /// Commits a step of the janitor's work alone.
    pub(super) fn run_janitor(&mut self) {
        if let Err(CommitError { error, .. }) = self.commit(&[], TxStart::Begin) {
            // Whatever failed would fail again, and each attempt keeps other processes from writing.
            self.core.health.writes.record_failure(&self.core.paths.db, &error);
            self.janitor.postpone(&self.core, &error);
        } else {
            self.core.health.writes.recover(&self.core.paths.db);
            self.notify();
        }
    }

    /// Tries to write after writes have failed.
    pub(super) fn probe(&mut self) -> Result<(), StoreError> {
        let wrote = probe::write(&self.core, &self.db);
        self.state.discard();
        if wrote.is_err() {
            // What this connection has cached of the file may be what is wrong.
            let options = &self.core.options;
            if let Ok(db) = connection::reopen_writer(&self.core.paths, options.durability, options.timeout) {
                self.db = db;
            }
        }
        wrote
    }

    fn commit(&mut self, requests: &[Request], start: TxStart) -> Result<RequestResults, CommitError> {
        self.core.attempts.fetch_add(1, Ordering::Relaxed);
        let done = self.try_commit(requests, start);
        if done.is_err() {
            self.state.discard();
            if !self.db.is_autocommit() {
                // Fails only when SQLite has already rolled back.
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
            results.push(match self.execute_operation(now, &request.write) {
                Ok(reply) => Ok(reply),
                Err(OperationError::Refused(error)) => Err(error),
                Err(OperationError::Aborted(error)) => return Err(CommitError { origin: ErrorOrigin::Request, error }),
            });
        }
        // Rows that a savepoint of the janitor rolls back must not include those of the requests.
        self.state.flush(&self.db).map_err(from_sql)?;
        match self.janitor.run_step(&self.db, &mut self.state, &self.core, now) {
            Ok(()) => {}
            Err(OperationError::Aborted(error) | OperationError::Refused(error)) => {
                return Err(CommitError { origin: ErrorOrigin::Janitor, error });
            }
        }
        self.execute_sql("COMMIT").map_err(|error| self.failed_commit(error))?;
        self.core.commits.fetch_add(1, Ordering::Relaxed);
        if self.state.take_left_garbage() {
            self.janitor.wake();
        }
        Ok(results)
    }

    fn execute_operation(&mut self, now: u64, operation: &Operation) -> Result<Reply, OperationError> {
        let (mut writes, quarantine) = (self.state.writes(&self.db, now), &self.core.quarantine);
        match operation {
            Operation::Append(channel, append) => {
                quarantine.check(channel.as_str()).map_err(OperationError::Refused)?;
                writes.append(channel, append, Fingerprints::of(&append.events)).map(Reply::Appended)
            }
            Operation::Init(channel, events, expect) => {
                let head = writes.init(channel, events, *expect)?;
                quarantine.lift(channel.as_str());
                Ok(Reply::Head(head))
            }
            Operation::Delete(channel) => {
                writes.delete(channel)?;
                quarantine.lift(channel.as_str());
                Ok(Reply::Deleted)
            }
            Operation::Maintain(channels) => {
                channels.iter().try_for_each(|channel| writes.maintain(channel).map(drop))?;
                Ok(Reply::Maintained)
            }
        }
    }

    fn execute_sql(&self, sql: &str) -> rusqlite::Result<usize> {
        self.db.prepare_cached(sql)?.execute([])
    }

    /// Another program may write to the file without the lock file.
    fn failed_begin(&self, error: rusqlite::Error) -> StoreError {
        match error.sqlite_error_code() {
            Some(rusqlite::ErrorCode::DatabaseBusy) => lock_holders::lock_error(&self.core),
            _ => from_sql(error),
        }
    }

    /// The commit that restarts the WAL syncs.
    fn failed_commit(&self, error: rusqlite::Error) -> StoreError {
        if !is_failed_sync(&error) {
            return from_commit(error);
        }
        StoreError::Unknown(Box::new(self.core.stop_writing(error)))
    }

    /// Notifies watchers of what was committed, in other processes and in this one.
    fn notify(&mut self) {
        let changes = std::mem::take(&mut self.state.notifications);
        if !changes.is_empty() {
            if let Err(error) = self.notify_file.write_to_current(self.core.id, &changes) {
                tracing::debug!(%error, "cannot write the notify file; other processes find the commit when they next poll");
            }
        }
        self.core.watchers.notify_all(&self.state.changes);
        self.state.changes.clear();
    }
}
