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
};

use rusqlite::{Connection, Transaction, TransactionBehavior};

use super::{core::Core, options::Durability, paths::Paths, request::PendingReplies};
use crate::store::StoreError;

/// One writing thread's way to keep promises.
pub(super) enum Acknowledger {
    /// Holds as soon as it is committed.
    OnCommit,
    /// Holds when the disk has the log. No two threads share a handle of it: the system tells each handle once that what
    /// was written is lost, whoever asks.
    AfterSync(File),
}

impl Acknowledger {
    /// One for each thread that a store needs: two that wait for the disk in turns keep it busy.
    pub(super) fn for_threads(durability: Durability, paths: &Paths) -> io::Result<Vec<Self>> {
        match durability {
            Durability::Process => Ok(vec![Self::OnCommit]),
            Durability::Power => {
                sync_directories(paths)?;
                (0..SYNC_THREADS).map(|_| open_wal(paths).map(Self::AfterSync)).collect()
            }
        }
    }

    /// Gives the answers to what was committed, once they hold. When the disk fails, nobody knows what it has.
    pub(super) fn acknowledge(&self, core: &Core, replies: PendingReplies) {
        if replies.is_empty() {
            return;
        }
        if let Self::AfterSync(wal) = self {
            if let Err(error) = wal.sync_data() {
                core.stop_writing(error);
            }
            // Also when it was another thread's sync that failed: this log follows on what is lost.
            if let Some(failed) = core.failed_sync() {
                return replies.fail(StoreError::Unknown(Box::new(failed)));
            }
        }
        replies.send();
    }
}

/// Has the disk get all that the log holds, whoever wrote it. Of what an earlier process could not sync, the system may say
/// that it is written although it is not: what was acknowledged after it would be lost with it. So all of it is written
/// once more, and synced by a handle that is told of every failure from now on. The caller holds the lock.
pub(super) fn rewrite_wal(db: &Connection, paths: &Paths) -> io::Result<()> {
    // Keeps programs away that write without our lock. Nothing is changed for those who read.
    let transaction = Transaction::new_unchecked(db, TransactionBehavior::Immediate).map_err(io::Error::other)?;
    let mut wal = open_wal(paths)?;
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut at = 0;
    loop {
        wal.seek(SeekFrom::Start(at))?;
        let read = wal.read(&mut chunk)?;
        let Some(read) = chunk.get(..read).filter(|read| !read.is_empty()) else { break };
        wal.seek(SeekFrom::Start(at))?;
        wal.write_all(read)?;
        at += read.len() as u64;
    }
    wal.sync_data()?;
    transaction.rollback().map_err(io::Error::other)
}

fn open_wal(paths: &Paths) -> io::Result<File> {
    // SQLite has made it, and locks the other files only: this one may be closed here without dropping locks of its.
    OpenOptions::new().read(true).write(true).open(&paths.wal)
}

/// Has the disk remember the names of new files, and of the directories that were made for them.
fn sync_directories(paths: &Paths) -> io::Result<()> {
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
const CHUNK_BYTES: usize = 256 << 10;

/// So many threads wait for the disk in turns.
const SYNC_THREADS: usize = 2;

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;
    use crate::stores::file::{
        file_system::FileSystems,
        options::FileOptions,
        request::{Operation, Reply, Request},
    };

    fn core_on_files(name: &str) -> (std::path::PathBuf, Core) {
        let dir = std::env::temp_dir().join(format!("tower-events-durability-{name}-{}", std::process::id()));
        let paths = Paths::prepare(&dir.join("events.db"), FileSystems::Local).unwrap();
        // No store is opened: its threads end some time after it was dropped, and the last of them removes the log.
        for file in [&paths.db, &paths.wal] {
            std::fs::write(file, "").unwrap();
        }
        (dir, Core::new(paths, FileOptions::default()).unwrap())
    }

    fn acknowledged(acknowledger: &Acknowledger, core: &Core) -> Result<Reply, StoreError> {
        let (reply_sender, mut reply) = oneshot::channel();
        let request = Request { operation: Operation::Maintain(Vec::new()), reply_sender };
        acknowledger.acknowledge(core, PendingReplies::new(vec![request], vec![Ok(Reply::Maintained)]));
        reply.try_recv().unwrap()
    }

    #[test]
    fn after_one_failed_sync_nobody_knows_what_the_disk_has() {
        let (dir, core) = core_on_files("failed");
        let working = Acknowledger::for_threads(Durability::Power, &core.paths).unwrap().pop().unwrap();
        // Not even a pipe can be asked to sync.
        let (_, pipe) = io::pipe().unwrap();
        let broken = Acknowledger::AfterSync(File::from(std::os::fd::OwnedFd::from(pipe)));
        assert!(acknowledged(&working, &core).is_ok());
        assert!(matches!(acknowledged(&broken, &core), Err(StoreError::Unknown(_))));
        assert!(matches!(acknowledged(&working, &core), Err(StoreError::Unknown(_))), "another thread's sync failed");
        assert!(acknowledged(&Acknowledger::OnCommit, &core).is_ok(), "of those who need no sync, none failed");
        std::fs::remove_dir_all(dir).unwrap();
    }
}
