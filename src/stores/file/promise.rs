//! When an answer may be given: what an acknowledgement promises holds by then.
//!
//! A commit is in the system's memory, seen by all and safe from the end of any process: with
//! [`Durability::Process`] that is enough. With [`Durability::Power`] the log is synced first; without any lock, so that
//! others commit meanwhile, and one sync covers all commits before it, those of other processes too. SQLite's own syncs
//! (`synchronous = FULL`) are part of the commit, and have all wait their turn.

use std::{
    fs::{File, OpenOptions},
    io::{
        self,
        ErrorKind::{InvalidInput, PermissionDenied, Unsupported},
        Read as _, Seek as _, SeekFrom, Write as _,
    },
    sync::Arc,
};

use rusqlite::{Connection, Transaction, TransactionBehavior};
use tokio::sync::oneshot;

use super::{
    core::Core,
    paths::Paths,
    options::Durability,
    queue::{Answer, Request},
};
use crate::store::StoreError;

/// One writing thread's way to keep promises.
pub(super) enum Promise {
    /// Holds as soon as it is committed.
    Committed,
    /// Holds when the disk has the log. No two threads share a handle of it: the system tells each handle once that what
    /// was written is lost, whoever asks.
    Synced(File),
}

/// What came of one turn's requests, and who waits for it.
#[derive(Default)]
pub(super) struct Replies(Vec<(Reply, Result<Answer, StoreError>)>);

pub(super) type Reply = oneshot::Sender<Result<Answer, StoreError>>;

impl Promise {
    /// One for each thread that a store needs: two that wait for the disk in turns keep it busy.
    pub(super) fn all(durability: Durability, paths: &Paths) -> io::Result<Vec<Self>> {
        match durability {
            Durability::Process => Ok(vec![Self::Committed]),
            Durability::Power => {
                sync_names(paths)?;
                (0..SYNCING).map(|_| open_log(paths).map(Self::Synced)).collect()
            }
        }
    }

    /// Gives the answers to what was committed, once they hold. When the disk fails, nobody knows what it has.
    pub(super) fn keep(&self, core: &Core, replies: Replies) {
        if replies.0.is_empty() {
            return;
        }
        if let Self::Synced(log) = self {
            if let Err(error) = log.sync_data() {
                core.stop(error);
            }
            // Also when it was another thread's sync that failed: this log follows on what is lost.
            if let Some(failed) = core.failed_sync() {
                let waiting = replies.0.into_iter().map(|(reply, _)| reply);
                return fail(waiting, StoreError::Unknown(Box::new(failed)));
            }
        }
        replies.send();
    }
}

impl Replies {
    pub(super) fn new(requests: Vec<Request>, answers: Vec<Result<Answer, StoreError>>) -> Self {
        Self(requests.into_iter().map(|request| request.reply).zip(answers).collect())
    }

    pub(super) fn and(mut self, others: Self) -> Self {
        self.0.extend(others.0);
        self
    }

    pub(super) fn send(self) {
        for (reply, answer) in self.0 {
            // Who asked may be gone.
            _ = reply.send(answer);
        }
    }
}

/// Gives all who wait the same error.
pub(super) fn fail(waiting: impl Iterator<Item = Reply>, error: StoreError) {
    let error = Arc::new(error);
    for reply in waiting {
        _ = reply.send(Err(StoreError::shared(Arc::clone(&error))));
    }
}

/// Has the disk get all that the log holds, whoever wrote it. Of what an earlier process could not sync, the system may say
/// that it is written although it is not: what was acknowledged after it would be lost with it. So all of it is written
/// once more, and synced by a handle that is told of every failure from now on. The caller holds the lock.
pub(super) fn secure_log(db: &Connection, paths: &Paths) -> io::Result<()> {
    // Keeps programs away that write without our lock. Nothing is changed for those who read.
    let transaction = Transaction::new_unchecked(db, TransactionBehavior::Immediate).map_err(io::Error::other)?;
    let mut log = open_log(paths)?;
    let mut piece = vec![0; PIECE];
    let mut at = 0;
    loop {
        log.seek(SeekFrom::Start(at))?;
        let read = log.read(&mut piece)?;
        let Some(read) = piece.get(..read).filter(|read| !read.is_empty()) else { break };
        log.seek(SeekFrom::Start(at))?;
        log.write_all(read)?;
        at += read.len() as u64;
    }
    log.sync_data()?;
    transaction.rollback().map_err(io::Error::other)
}

fn open_log(paths: &Paths) -> io::Result<File> {
    // SQLite has made it, and locks the other files only: this one may be closed here without dropping locks of its.
    OpenOptions::new().read(true).write(true).open(&paths.log)
}

/// Has the disk remember the names of new files, and of the directories that were made for them.
fn sync_names(paths: &Paths) -> io::Result<()> {
    if !cfg!(unix) {
        return Ok(());
    }
    for directory in paths.db.ancestors().skip(1) {
        match File::open(directory).and_then(|directory| directory.sync_all()) {
            // It was not made here, or its file system syncs no directories.
            Err(error) if matches!(error.kind(), PermissionDenied | InvalidInput | Unsupported) => {}
            synced => synced?,
        }
    }
    Ok(())
}

/// So many bytes of the log are read and written again at once.
const PIECE: usize = 256 << 10;

/// So many threads wait for the disk in turns.
const SYNCING: usize = 2;

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use super::*;
    use crate::stores::file::{FileOptions, paths::FileSystems};

    fn files(name: &str) -> (std::path::PathBuf, Core) {
        let dir = std::env::temp_dir().join(format!("tower-events-promise-{name}-{}", std::process::id()));
        let paths = Paths::prepare(&dir.join("events.db"), FileSystems::Local).unwrap();
        // No store is opened: its threads end some time after it was dropped, and the last of them removes the log.
        for file in [&paths.db, &paths.log] {
            std::fs::write(file, "").unwrap();
        }
        (dir, Core::new(paths, FileOptions::default()).unwrap())
    }

    fn answer(promise: &Promise, core: &Core) -> Result<Answer, StoreError> {
        let (reply, mut answer) = oneshot::channel();
        promise.keep(core, Replies(vec![(reply, Ok(Answer::Deleted))]));
        answer.try_recv().unwrap()
    }

    #[test]
    fn after_one_failed_sync_nobody_knows_what_the_disk_has() {
        let (dir, core) = files("failed");
        let sound = Promise::all(Durability::Power, &core.paths).unwrap().pop().unwrap();
        // Not even a pipe can be asked to sync.
        let (_, pipe) = io::pipe().unwrap();
        let broken = Promise::Synced(File::from(std::os::fd::OwnedFd::from(pipe)));
        assert!(answer(&sound, &core).is_ok());
        assert!(matches!(answer(&broken, &core), Err(StoreError::Unknown(_))));
        assert!(matches!(answer(&sound, &core), Err(StoreError::Unknown(_))), "another thread's sync failed");
        assert!(answer(&Promise::Committed, &core).is_ok(), "of those who need no sync, none failed");
        std::fs::remove_dir_all(dir).unwrap();
    }
}
