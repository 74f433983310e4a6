//! The file store's errors. Driver errors are converted here, and appear outside only as sources.

use std::{error::Error, fmt, io, path::PathBuf, sync::Arc};

use rusqlite::{ErrorCode, ffi};

use crate::store::{Source, StoreError};

/// Why a file could not be opened as a store. `Display` names the file and what to do.
#[derive(Debug)]
pub struct OpenError {
    path: PathBuf,
    kind: OpenErrorKind,
    why: Source,
}

/// The kind of an [`OpenError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OpenErrorKind {
    /// The file belongs to something else.
    Foreign,
    /// A newer version of this crate wrote it.
    Newer,
    /// The file is damaged.
    Damaged,
    /// The file is on a file system that several machines may share, but processes on different machines cannot share
    /// the memory that a store needs. If all are on one machine, use
    /// [`FileOptions::any_file_system`](super::FileOptions::any_file_system).
    NetworkFileSystem,
    /// The linked version of SQLite can corrupt files that several processes write.
    UnsafeSqlite,
    /// Another process held the lock until the timeout.
    Locked,
    /// This process was forked from one that had opened an event file.
    Forked,
    /// An I/O error.
    Io,
}

impl OpenError {
    pub(super) fn new(path: impl Into<PathBuf>, kind: OpenErrorKind, why: impl Into<Source>) -> Self {
        Self { path: path.into(), kind, why: why.into() }
    }

    pub(super) fn io(path: impl Into<PathBuf>, error: io::Error) -> Self {
        Self::new(path, OpenErrorKind::Io, error)
    }

    pub(super) fn sql(path: impl Into<PathBuf>, error: rusqlite::Error) -> Self {
        let kind = match error.sqlite_error_code() {
            Some(ErrorCode::NotADatabase) => {
                return Self::new(path, OpenErrorKind::Foreign, "it is not a database");
            }
            Some(ErrorCode::DatabaseCorrupt) => OpenErrorKind::Damaged,
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => OpenErrorKind::Locked,
            _ => OpenErrorKind::Io,
        };
        Self::new(path, kind, error)
    }

    /// The kind of error.
    #[must_use]
    pub fn kind(&self) -> OpenErrorKind {
        self.kind
    }
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.kind {
            OpenErrorKind::Foreign => "is not an event file",
            OpenErrorKind::Newer => "was written by a newer version; update this program",
            OpenErrorKind::Damaged => "is damaged; restore it from a backup, or move it away to start empty",
            OpenErrorKind::NetworkFileSystem => {
                "is on a file system that other machines may share; put it on a local disk, or set `any_file_system`"
            }
            OpenErrorKind::UnsafeSqlite => "cannot be shared safely with this version of SQLite; link a newer one",
            OpenErrorKind::Locked => "is locked",
            OpenErrorKind::Forked => "cannot be opened after a fork; open it only after forking, or exec a program",
            OpenErrorKind::Io => "cannot be opened",
        };
        write!(f, "{} {what}", self.path.display())
    }
}

impl Error for OpenError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(self.why.as_ref())
    }
}

/// Lets `?` work in a `main` that returns `std::io::Result`. The text includes the source.
impl From<OpenError> for io::Error {
    fn from(error: OpenError) -> Self {
        let kind = match error.kind {
            OpenErrorKind::Locked => io::ErrorKind::WouldBlock,
            OpenErrorKind::Io => error.why.downcast_ref().map_or(io::ErrorKind::Other, io::Error::kind),
            OpenErrorKind::NetworkFileSystem | OpenErrorKind::UnsafeSqlite => io::ErrorKind::Unsupported,
            _ => io::ErrorKind::InvalidData,
        };
        Self::new(kind, format!("{error}: {}", error.why))
    }
}

/// A disk that failed to sync once may have dropped what it was given. All clones share the source.
#[derive(Clone, Debug)]
pub(super) struct SyncFailed(Arc<dyn Error + Send + Sync>);

impl SyncFailed {
    pub(super) fn new(why: impl Error + Send + Sync + 'static) -> Self {
        Self(Arc::new(why))
    }
}

impl fmt::Display for SyncFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a sync of the event file failed; nothing is written until it is opened again")
    }
}

impl Error for SyncFailed {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&*self.0)
    }
}

/// Converts a driver error from before the commit: nothing was changed.
pub(super) fn from_sql(error: rusqlite::Error) -> StoreError {
    let extended = error.sqlite_error().map_or(0, |error| error.extended_code);
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => StoreError::Full(error.into()),
        // The shared memory file needs space on the same disk.
        _ if extended == ffi::SQLITE_IOERR_SHMSIZE => StoreError::Full(error.into()),
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase | ErrorCode::ConstraintViolation) => {
            StoreError::Corrupt(error.into())
        }
        _ if extended == ffi::SQLITE_IOERR_CORRUPTFS => StoreError::Corrupt(error.into()),
        // The stored value is not one that this crate writes.
        None if !matches!(error, rusqlite::Error::InvalidPath(_)) => StoreError::Corrupt(error.into()),
        _ => StoreError::Unavailable(error.into()),
    }
}

/// Converts the driver error of a failed commit.
pub(super) fn from_commit(error: rusqlite::Error) -> StoreError {
    match error.sqlite_error_code() {
        // Its frames may be in the WAL, and recovery after a crash may apply them.
        Some(ErrorCode::SystemIoFailure) => StoreError::Unknown(error.into()),
        _ => from_sql(error),
    }
}

/// Whether a sync failed.
pub(super) fn is_failed_sync(error: &rusqlite::Error) -> bool {
    let extended = error.sqlite_error().map_or(0, |error| error.extended_code);
    [ffi::SQLITE_IOERR_FSYNC, ffi::SQLITE_IOERR_DIR_FSYNC].contains(&extended)
}

/// Whether SQLite reported this error: then it may concern the whole file, not one of the store's rows.
pub(super) fn is_sqlite(source: &(dyn Error + 'static)) -> bool {
    source.downcast_ref().is_some_and(|error: &rusqlite::Error| error.sqlite_error_code().is_some())
}

/// The error for data that is not what was stored.
pub(super) fn corrupt(what: impl Into<String>) -> StoreError {
    StoreError::Corrupt(what.into().into())
}
