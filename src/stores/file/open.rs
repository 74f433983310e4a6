//! Opening a file: its directories, its tables, the files next to it, and the threads of the store.

use std::{path::Path, sync::Arc};

use super::{
    connection,
    core::Core,
    durability::{self, Acknowledger},
    error::{from_open_io, open_error},
    file_store::FileStore,
    lock::Lock,
    lock_holders,
    notify_file::NotifyFile,
    options::{Durability, FileOptions},
    paths::Paths,
    read_pool::ReadPool,
    shared_retention,
    write_queue::{WriteHandle, WriteQueue},
    writer::Writer,
    writer_threads,
};
use crate::store::{OpenError, OpenErrorKind};

impl FileStore {
    /// Opens the file with default options. Creates it, and its parent directories, if missing. Blocks; see
    /// [`FileOptions::open`].
    ///
    /// # Errors
    /// As [`FileOptions::open`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self, OpenError> {
        FileOptions::default().open(path)
    }

    /// Options other than the defaults.
    pub fn options() -> FileOptions {
        FileOptions::default()
    }
}

impl FileOptions {
    /// Opens the file. Creates it, and its parent directories, if missing. Blocks for some milliseconds, however large
    /// the file is, and up to the timeout while another process holds the lock.
    ///
    /// # Errors
    /// [`OpenError`], whose [kind](OpenErrorKind) is `Settings` when the path names no file; `Foreign` when the file is not an
    /// event file; `NewerFormat`; `Corrupt`; `Locked` after the timeout; `NetworkFileSystem`; `Forked`; `Denied`; `Full`;
    /// `UnsupportedVersion` when the linked SQLite can damage files that several processes write; or `Io`.
    pub fn open(self, path: impl AsRef<Path>) -> Result<FileStore, OpenError> {
        open(path.as_ref(), self)
    }
}

fn open(path: &Path, options: FileOptions) -> Result<FileStore, OpenError> {
    let failed = |error| from_open_io(path, error);
    let paths = Paths::prepare(path, options.file_systems)?;
    let mut lock = Lock::open(&paths.lock).map_err(failed)?;
    if !lock.acquire(options.timeout).map_err(failed)? {
        let holder = lock_holders::writers(&[&paths.lock, &paths.db]);
        return Err(open_error(path, OpenErrorKind::Locked, holder));
    }
    let db = connection::open_writer(&paths, options.durability, options.timeout)?;
    let core = Arc::new(Core::new(paths, options).map_err(failed)?);
    if let Err(error) = shared_retention::announce_on_open(&db, &core.keep, core.now()) {
        // The first transaction does it.
        tracing::debug!(%error, file = %core.paths.db.display(), "cannot announce the retention of this process on opening");
    }
    let durability = core.options.durability;
    if durability == Durability::Power {
        durability::rewrite_wal(&db, &core.paths).map_err(failed)?;
    }
    let notify_file = NotifyFile::open(&core.paths.notify_file).map_err(failed)?;
    lock.release();
    let acknowledgers = Acknowledger::for_threads(durability, &core.paths).map_err(failed)?;
    // Dropping it ends the threads, also if one of them fails to start.
    let write_handle =
        WriteHandle(Arc::new(WriteQueue::new(Writer::new(Arc::clone(&core), lock, db, notify_file), durability)));
    writer_threads::start(&core, &write_handle.0, acknowledgers).map_err(failed)?;
    Ok(FileStore { core, write_handle: Arc::new(write_handle), read_pool: Arc::new(ReadPool::new()) })
}
