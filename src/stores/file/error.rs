//! The file store's errors. Driver errors are converted here, and appear outside only as sources.

use std::{error::Error, fmt, io, path::Path, sync::Arc};

use rusqlite::{ErrorCode, ffi};

use crate::store::{OpenError, OpenErrorKind, Source, StoreError};

/// Why a file cannot be opened.
pub(super) fn open_error(path: &Path, kind: OpenErrorKind, why: impl Into<Source>) -> OpenError {
    OpenError::new(path.display().to_string(), kind).because(why)
}

/// Converts an error of the system from opening a file.
pub(super) fn from_open_io(path: &Path, error: io::Error) -> OpenError {
    let kind = match error.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => OpenErrorKind::Denied,
        io::ErrorKind::StorageFull => OpenErrorKind::Full,
        _ => OpenErrorKind::Io,
    };
    open_error(path, kind, error)
}

/// Converts a driver error from opening a file.
pub(super) fn from_open_sql(path: &Path, error: rusqlite::Error) -> OpenError {
    let kind = match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => {
            let why = "it is not an event file, nor any other database of SQLite";
            return open_error(path, OpenErrorKind::Foreign, why);
        }
        Some(ErrorCode::DatabaseCorrupt) => OpenErrorKind::Corrupt,
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => OpenErrorKind::Locked,
        Some(ErrorCode::DiskFull) => OpenErrorKind::Full,
        Some(ErrorCode::PermissionDenied | ErrorCode::ReadOnly) => OpenErrorKind::Denied,
        _ => OpenErrorKind::Io,
    };
    open_error(path, kind, error)
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
