//! When a reply may be sent: not before its commit is as durable as an acknowledgement promises.
//!
//! A commit is in the system's memory: all processes see it, and it survives the end of any of them. For
//! [`Durability::Process`] that is enough. With [`Durability::Power`] the WAL is synced first, without holding a lock:
//! others commit meanwhile, and one sync covers all earlier commits, including those of other processes. SQLite's own
//! syncs (`synchronous = FULL`) are part of the commit, so they would run one after the other.

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

/// When one of the writer's threads sends replies.
pub(super) enum Acknowledger {
    /// After the commit.
    OnCommit,
    /// After the WAL is synced. Threads must not share a file handle: the system reports a lost write once per handle,
    /// to whichever thread syncs next.
    AfterSync(File),
}

impl Acknowledger {
    /// One per writer thread: with `Power` there are two, so that one commits while the other syncs.
    pub(super) fn for_threads(durability: Durability, paths: &Paths) -> io::Result<Vec<Self>> {
        match durability {
            Durability::Process => Ok(vec![Self::OnCommit]),
            Durability::Power => {
                sync_directories(paths)?;
                (0..SYNC_THREADS).map(|_| open_wal(paths).map(Self::AfterSync)).collect()
            }
        }
    }

    /// Sends the replies once their commits are durable. After a failed sync it is unknown what the disk has.
    pub(super) fn acknowledge(&self, core: &Core, replies: PendingReplies) {
        if replies.is_empty() {
            return;
        }
        if let Self::AfterSync(wal) = self {
            if let Err(error) = wal.sync_data() {
                core.stop_writing(error);
            }
            // Also if another thread's sync failed: the commits of this one follow those that may be lost.
            if let Some(failed) = core.failed_sync() {
                return replies.fail(StoreError::Unknown(Box::new(failed)));
            }
        }
        replies.send();
    }
}

/// Rewrites and syncs the whole WAL. After an earlier process failed to sync, the system may show data that the disk
/// does not have, and consider it written: new commits would follow a hole, and be lost with it. Rewriting makes the
/// data dirty again, and this handle receives every write error from now on. The caller holds the lock file.
pub(super) fn rewrite_wal(db: &Connection, paths: &Paths) -> io::Result<()> {
    // Excludes programs that write without the lock file. Readers are not affected.
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
    // SQLite has created it, and holds no POSIX locks on it: closing this handle releases none of SQLite's locks.
    OpenOptions::new().read(true).write(true).open(&paths.wal)
}

/// Syncs the directory entries of new files, and of directories that were created for them.
fn sync_directories(paths: &Paths) -> io::Result<()> {
    if !cfg!(unix) {
        return Ok(());
    }
    for directory in paths.db.ancestors().skip(1) {
        match File::open(directory).and_then(|directory| directory.sync_all()) {
            // The directory is not ours, or its file system cannot sync directories.
            Err(error) if matches!(error.kind(), PermissionDenied | InvalidInput | Unsupported) => {}
            synced => synced?,
        }
    }
    Ok(())
}

/// How much of the WAL is rewritten at once.
const CHUNK_BYTES: usize = 256 << 10;

/// The writer's threads with [`Durability::Power`].
const SYNC_THREADS: usize = 2;

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use std::{
        future::Future as _,
        pin::pin,
        task::{Context, Poll, Waker},
    };

    use super::*;
    use crate::{
        store::kit::write_queue::WriteBudget,
        stores::file::{
            file_system::FileSystems,
            options::FileOptions,
            request::{Operation, Reply, Request},
        },
    };

    fn core_on_files(name: &str) -> (std::path::PathBuf, Core) {
        let dir = std::env::temp_dir().join(format!("tower-events-durability-{name}-{}", std::process::id()));
        let paths = Paths::prepare(&dir.join("events.db"), FileSystems::Local).unwrap();
        // Without opening a store: its threads end some time after it is dropped, and then the WAL is removed.
        for file in [&paths.db, &paths.wal] {
            std::fs::write(file, "").unwrap();
        }
        (dir, Core::new(paths, FileOptions::default()).unwrap())
    }

    fn acknowledged(acknowledger: &Acknowledger, core: &Core) -> Result<Reply, StoreError> {
        let reservation = WriteBudget::default().reserve(0).unwrap();
        let (request, answer) = Request::new(Operation::Maintain(Vec::new()), reservation);
        acknowledger.acknowledge(core, PendingReplies::new(vec![request], vec![Ok(Reply::Maintained)]));
        match pin!(answer).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(reply) => reply,
            Poll::Pending => panic!("it is acknowledged"),
        }
    }

    #[test]
    fn after_one_failed_sync_every_reply_is_unknown() {
        let (dir, core) = core_on_files("failed");
        let working = Acknowledger::for_threads(Durability::Power, &core.paths).unwrap().pop().unwrap();
        // A pipe cannot be synced.
        let (_, pipe) = io::pipe().unwrap();
        let broken = Acknowledger::AfterSync(File::from(std::os::fd::OwnedFd::from(pipe)));
        assert!(acknowledged(&working, &core).is_ok());
        assert!(matches!(acknowledged(&broken, &core), Err(StoreError::Unknown(_))));
        assert!(matches!(acknowledged(&working, &core), Err(StoreError::Unknown(_))), "another thread's sync failed");
        assert!(acknowledged(&Acknowledger::OnCommit, &core).is_ok(), "no sync is needed");
        std::fs::remove_dir_all(dir).unwrap();
    }
}
