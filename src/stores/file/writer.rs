//! Writing: whatever is queued becomes one transaction; it is told of, and only then answered.
//!
//! Order of a turn: the lock file, `BEGIN IMMEDIATE`, the requests and a little of the janitor's work, `COMMIT`, the bell,
//! the answers, and the lock is released. Whoever is killed within it leaves a lock that the system releases and a
//! transaction that does not count.
//!
//! One at a time has a turn: the writer's thread, or, with [`Durability::Process`](super::Durability), one of those who ask,
//! when nobody else writes. A commit that waits for no disk takes less time than waking a thread does. Whatever may wait is
//! the thread's: another process's lock, syncs, the end of a long log, large requests.

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
    /// Whether a checkpoint waits for the thread.
    full: bool,
    /// Why nothing is written any more: a disk that once failed to sync may have dropped what it was given.
    stopped: Option<Arc<StoreError>>,
}

impl Writer {
    pub(super) fn new(core: Arc<Core>, lock: Lock, db: Connection, bell: Bell) -> Self {
        let desk = Desk::new(core.keep);
        let (janitor, log) = (Janitor::new(&core.keep), Log::new(Arc::clone(&core)));
        Self { core, lock, db, desk, bell, janitor, log, full: false, stopped: None }
    }

    /// Writes what is queued on the caller's thread, if that needs no waiting.
    pub(super) fn serve_at_once(&mut self, queue: &Queue) -> AtOnce {
        if self.full || !self.log.has_room() || self.is_stopped() || self.core.check_file().is_err() {
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
            self.transact(queue.take(), Begun::Yes);
            self.full = self.log.look(&self.db).unwrap_or(true);
        }
        self.lock.release();
        if begun && !self.full { AtOnce::Done } else { AtOnce::NotNow }
    }

    /// Writes what is queued, on the thread.
    fn serve(&mut self, queue: &Queue) {
        match self.enter() {
            Ok(()) => {
                let requests = queue.take();
                if !requests.is_empty() {
                    self.transact(requests, Begun::No);
                }
                self.leave();
            }
            Err(error) => answer_all(queue.take(), error),
        }
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
            let begun = self.log.begin_anew(&self.db);
            self.note_checkpoint(begun);
        }
        self.leave();
    }

    fn leave(&mut self) {
        self.full = false;
        let looked_after = self.log.look_after(&self.db);
        self.note_checkpoint(looked_after);
        self.lock.release();
    }

    fn note_checkpoint(&mut self, done: rusqlite::Result<()>) {
        if let Err(error) = done {
            tracing::warn!(%error, "a checkpoint of an event file failed");
            self.note(&error);
        }
    }

    /// Takes the lock, unless something forbids to write.
    fn enter(&mut self) -> Result<(), StoreError> {
        self.is_stopped();
        if let Some(error) = &self.stopped {
            return Err(StoreError::Unavailable(Box::new(Arc::clone(error))));
        }
        self.core.check_file()?;
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
    fn transact(&mut self, requests: Vec<Request>, begun: Begun) {
        match self.commit(&requests, begun) {
            Ok(answers) => {
                self.ring();
                for (request, answer) in requests.into_iter().zip(answers) {
                    _ = request.reply.send(answer);
                }
            }
            Err(StoreError::Full(_)) if requests.len() > 1 => {
                requests.into_iter().for_each(|request| self.transact(vec![request], Begun::No));
            }
            Err(error) => answer_all(requests, error),
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

    fn commit_failed(&mut self, error: rusqlite::Error) -> StoreError {
        self.note(&error);
        from_commit(error)
    }

    /// Stops when the disk could not sync.
    fn note(&mut self, error: &rusqlite::Error) {
        if is_failed_sync(error) {
            self.stop(&error.to_string());
        }
    }

    fn stop(&mut self, error: &str) {
        let why = format!("a sync of the event file failed ({error}); nothing is written until it is opened anew");
        tracing::error!(file = %self.core.ground.db.display(), "{why}");
        self.stopped = Some(Arc::new(StoreError::Unavailable(why.into())));
    }

    /// Whether nothing is written any more, also because of what the copier met.
    fn is_stopped(&mut self) -> bool {
        if self.stopped.is_none() {
            if let Some(error) = self.log.failed().map(ToString::to_string) {
                self.stop(&error);
            }
        }
        self.stopped.is_some()
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

fn answer_all(requests: Vec<Request>, error: StoreError) {
    let error = Arc::new(error);
    for request in requests {
        _ = request.reply.send(Err(StoreError::shared(Arc::clone(&error))));
    }
}

struct EndOnDrop(Arc<Office>);

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        self.0.queue.end();
    }
}

/// Starts the thread. It ends when nobody can ask any more.
pub(super) fn start(office: Arc<Office>) -> std::io::Result<()> {
    thread::Builder::new().name("events-writer".into()).spawn(move || run(office)).map(|_| ())
}

fn run(office: Arc<Office>) {
    // Also when a turn panics: nobody must wait for an answer that never comes.
    let _end = EndOnDrop(Arc::clone(&office));
    let mut pause = Duration::ZERO;
    loop {
        let turn = office.queue.wait(office.awake(), pause);
        let Ok(mut writer) = office.writer.lock() else { return };
        match turn {
            Turn::Called => writer.serve(&office.queue),
            Turn::Time => writer.tidy(),
            Turn::Closed => return,
        }
        pause = writer.janitor.pause();
        drop(writer);
        // Those who asked meanwhile found the writer at work.
        if !office.queue.is_empty() {
            office.queue.call();
        }
    }
}

/// How long the writer waits at most before it looks whether something is due.
pub(super) const LONGEST_PAUSE: Duration = Duration::from_secs(10);
