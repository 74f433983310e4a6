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
    thread,
    time::Duration,
};

use rusqlite::Connection;

use super::{
    apply::{Desk, Failed, Others},
    bell::Bell,
    core::Core,
    error::{from_commit, from_sql, is_failed_sync},
    janitor::Janitor,
    lock::{self, Lock},
    log::Log,
    promise::{self, Promise, Replies},
    queue::{Action, Answer, Office, Queue, Request, Turn},
};
use crate::store::StoreError;

pub(super) struct Writer {
    core: Arc<Core>,
    lock: Lock,
    db: Connection,
    desk: Desk,
    bell: Bell,
    janitor: Janitor,
    log: Log,
    /// Whether the log waits for a thread to have it begin anew.
    full: bool,
}

impl Writer {
    pub(super) fn new(core: Arc<Core>, lock: Lock, db: Connection, bell: Bell) -> Self {
        let desk = Desk::new(core.keep);
        let (janitor, log) = (Janitor::new(&core.keep), Log::new(Arc::clone(&core)));
        Self { core, lock, db, desk, bell, janitor, log, full: false }
    }

    /// Writes what is queued on the caller's thread, if that needs no waiting.
    pub(super) fn serve_at_once(&mut self, queue: &Queue) -> AtOnce {
        if self.full || !self.log.has_room() || self.check().is_err() {
            return AtOnce::NotNow;
        }
        if !self.lock.try_acquire().unwrap_or(false) {
            return AtOnce::NotNow;
        }
        // Somebody else's program may write to the file without our lock.
        _ = self.db.busy_timeout(Duration::ZERO);
        let begun = self.execute("BEGIN IMMEDIATE").is_ok();
        _ = self.db.busy_timeout(self.core.options.timeout);
        if begun {
            self.transact(queue.take(), Begun::Yes).send();
            self.full = self.log.look(&self.db).unwrap_or(true);
        }
        self.lock.release();
        if begun && !self.full { AtOnce::Done } else { AtOnce::NotNow }
    }

    /// Writes what is queued, on a thread. A log that is full begins anew first: who was answered does not wait for it.
    fn serve(&mut self, queue: &Queue) -> Replies {
        if let Err(error) = self.enter() {
            fail_all(queue.take(), error);
            return Replies::default();
        }
        if std::mem::take(&mut self.full) {
            self.begin_log_anew();
        }
        let requests = queue.take();
        let replies = if requests.is_empty() { Replies::default() } else { self.transact(requests, Begun::No) };
        self.leave();
        replies
    }

    /// Does the janitor's work when nobody asks for anything, and cuts a log that a reader made long.
    fn tidy(&mut self) {
        let (is_due, is_stuck) = (self.janitor.is_due(&self.db, self.core.now()), self.log.is_stuck());
        if !is_due && !is_stuck {
            return;
        }
        if let Err(error) = self.enter() {
            return tracing::debug!(%error, "the event file is tidied later");
        }
        if is_due {
            self.transact(Vec::new(), Begun::No);
        }
        if is_stuck {
            self.begin_log_anew();
        }
        self.leave();
    }

    fn leave(&mut self) {
        match self.log.look(&self.db) {
            Ok(full) => self.full |= full,
            Err(error) => self.checkpoint_failed(error),
        }
        self.lock.release();
    }

    fn begin_log_anew(&mut self) {
        if let Err(error) = self.log.begin_anew(&self.db) {
            self.checkpoint_failed(error);
        }
    }

    fn checkpoint_failed(&self, error: rusqlite::Error) {
        tracing::warn!(%error, "a checkpoint of an event file failed");
        if is_failed_sync(&error) {
            self.core.stop(error);
        }
    }

    /// Fails when something forbids to write.
    fn check(&self) -> Result<(), StoreError> {
        match self.core.failed_sync() {
            Some(failed) => Err(StoreError::Unavailable(Box::new(failed))),
            None => self.core.check_file(),
        }
    }

    /// Takes the lock, unless something forbids to write.
    fn enter(&mut self) -> Result<(), StoreError> {
        self.check()?;
        match self.lock.acquire(self.core.options.timeout) {
            Ok(true) => {}
            Ok(false) => return Err(self.locked()),
            Err(error) => return Err(StoreError::Unavailable(error.into())),
        }
        let room = self.log.check_room(&self.db);
        if room.is_err() {
            self.lock.release();
        }
        room
    }

    fn locked(&self) -> StoreError {
        let ground = &self.core.ground;
        let holder = lock::holder(&[&ground.lock, &ground.db]);
        tracing::warn!(file = %ground.db.display(), %holder, "waiting for the lock of an event file");
        StoreError::Unavailable(format!("nothing was written: {holder} of {}", ground.db.display()).into())
    }

    /// Commits the requests as one transaction. When that fails, it tries each alone, so that one that does not fit takes
    /// no others with it.
    fn transact(&mut self, requests: Vec<Request>, begun: Begun) -> Replies {
        match self.commit(&requests, begun) {
            Ok(answers) => {
                self.ring();
                Replies::new(requests, answers)
            }
            Err(StoreError::Full(_)) if requests.len() > 1 => {
                let each = requests.into_iter().map(|request| self.transact(vec![request], Begun::No));
                each.reduce(Replies::and).unwrap_or_default()
            }
            Err(error) => {
                fail_all(requests, error);
                Replies::default()
            }
        }
    }

    fn commit(&mut self, requests: &[Request], begun: Begun) -> Result<Answers, StoreError> {
        let done = self.try_commit(requests, begun);
        if done.is_err() {
            self.desk.abandon();
            if !self.db.is_autocommit() {
                // Fails only when SQLite has rolled back by itself.
                _ = self.db.execute_batch("ROLLBACK");
            }
        }
        done
    }

    fn try_commit(&mut self, requests: &[Request], begun: Begun) -> Result<Answers, StoreError> {
        if begun == Begun::No {
            self.execute("BEGIN IMMEDIATE").map_err(|error| self.name_holder(error))?;
        }
        if self.desk.begin(&self.db).map_err(from_sql)? == Others::MayHaveWritten {
            self.bell.fall_behind();
        }
        let now = self.core.now();
        let mut answers = Vec::with_capacity(requests.len());
        for request in requests {
            answers.push(match act(&mut self.desk, &self.db, now, &request.action) {
                Ok(answer) => Ok(answer),
                Err(Failed::Refused(error)) => Err(error),
                Err(Failed::Sql(error)) => return Err(error),
            });
        }
        match self.janitor.work(&self.db, &mut self.desk, now) {
            Ok(()) => {}
            Err(Failed::Sql(error) | Failed::Refused(error)) => return Err(error),
        }
        self.desk.flush(&self.db).map_err(from_sql)?;
        self.execute("COMMIT").map_err(|error| self.commit_failed(error))?;
        self.core.commits.fetch_add(1, Ordering::Relaxed);
        if std::mem::take(&mut self.desk.left_garbage) {
            self.janitor.call();
        }
        Ok(answers)
    }

    fn execute(&self, sql: &str) -> rusqlite::Result<usize> {
        self.db.prepare_cached(sql)?.execute([])
    }

    /// Somebody else's program may write to the file without our lock.
    fn name_holder(&self, error: rusqlite::Error) -> StoreError {
        match error.sqlite_error_code() {
            Some(rusqlite::ErrorCode::DatabaseBusy) => self.locked(),
            _ => from_sql(error),
        }
    }

    /// A log that begins anew is synced within the commit.
    fn commit_failed(&self, error: rusqlite::Error) -> StoreError {
        if !is_failed_sync(&error) {
            return from_commit(error);
        }
        StoreError::Unknown(Box::new(self.core.stop(error)))
    }

    /// Tells of the commit, in this process and in others.
    fn ring(&mut self) {
        let news = std::mem::take(&mut self.desk.news);
        if !news.is_empty() {
            if let Err(error) = self.bell.ring_surely(self.core.id, &news) {
                tracing::debug!(%error, "the bell cannot be rung; others will look by themselves");
            }
        }
        self.core.tell(self.desk.changes.drain(..));
    }
}

type Answers = Vec<Result<Answer, StoreError>>;

/// Whether a transaction has begun.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Begun {
    Yes,
    No,
}

/// What became of writing without waiting.
pub(super) enum AtOnce {
    Done,
    /// It is the thread's turn.
    NotNow,
}

fn act(desk: &mut Desk, db: &Connection, now: u64, action: &Action) -> Result<Answer, Failed> {
    match action {
        Action::Append(channel, append) => desk.append(db, now, channel, append).map(Answer::Appended),
        Action::Init(channel, events, expect) => desk.init(db, now, channel, events, *expect).map(Answer::Head),
        Action::Delete(channel) => desk.delete(db, now, channel).map(|()| Answer::Deleted),
    }
}

fn fail_all(requests: Vec<Request>, error: StoreError) {
    promise::fail(requests.into_iter().map(|request| request.reply), error);
}

struct EndOnDrop(Arc<Office>);

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        self.0.queue.end();
    }
}

/// Starts a thread for each promise. They end when nobody can ask any more.
pub(super) fn start(core: &Arc<Core>, office: &Arc<Office>, promises: Vec<Promise>) -> std::io::Result<()> {
    for promise in promises {
        // Dropped also when a turn panics, or a thread cannot be started: nobody must wait for an answer that never comes.
        let (core, end) = (Arc::clone(core), EndOnDrop(Arc::clone(office)));
        thread::Builder::new().name("events-writer".into()).spawn(move || run(&core, &end.0, promise))?;
    }
    Ok(())
}

fn run(core: &Core, office: &Office, promise: Promise) {
    let mut pause = Duration::ZERO;
    loop {
        let turn = office.queue.wait(office.awake(), pause);
        let Ok(mut writer) = office.writer.lock() else { return };
        let replies = match turn {
            Turn::Called => writer.serve(&office.queue),
            Turn::Time => {
                writer.tidy();
                Replies::default()
            }
            Turn::Closed => return,
        };
        pause = writer.janitor.pause();
        let is_left = writer.full;
        drop(writer);
        // Those who asked meanwhile found the writer at work.
        if is_left || !office.queue.is_empty() {
            office.queue.call();
        }
        promise.keep(core, replies);
    }
}

/// How long the writer waits at most before it looks whether something is due.
pub(super) const LONGEST_PAUSE: Duration = Duration::from_secs(10);
