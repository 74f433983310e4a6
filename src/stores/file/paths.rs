//! The ground that a store stands on: the paths, the file system, the process. Never opens the database.

use std::{
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use super::{
    error::{OpenError, OpenErrorKind},
    file_system::{self, FileSystems},
};
use crate::store::StoreError;

/// Where the files are, and what was true of them when they were opened.
#[derive(Debug)]
pub(super) struct Paths {
    /// The database, as SQLite is told.
    pub(super) db: PathBuf,
    /// The write-ahead log, as SQLite names it.
    pub(super) wal: PathBuf,
    /// Held while writing.
    pub(super) lock: PathBuf,
    /// Written after each commit.
    pub(super) notify_file: PathBuf,
    /// Who opened it: neither locks nor threads pass a fork.
    process: u32,
}

impl Paths {
    /// Makes the parent directories, and looks where the path leads.
    pub(super) fn prepare(path: &Path, allowed: FileSystems) -> Result<Self, OpenError> {
        check_sqlite(path, rusqlite::version_number())?;
        let process = std::process::id();
        check_not_forked(path, *FIRST_PROCESS.get_or_init(|| process), process)?;
        let failed = |error| OpenError::io(path, error);
        let name = path.file_name().ok_or_else(|| failed(io::ErrorKind::InvalidInput.into()))?;
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        fs::create_dir_all(parent).map_err(failed)?;
        let parent = parent.canonicalize().map_err(failed)?;
        // The files next to a linked file belong next to the file itself, for all who come over other links.
        let db = path.canonicalize().unwrap_or_else(|_| parent.join(name));
        if db.is_dir() {
            return Err(OpenError::new(path, OpenErrorKind::Foreign, "it is a directory"));
        }
        file_system::check(&db, allowed)?;
        let with_suffix = |suffix| {
            let mut path = OsString::from(&db);
            path.push(suffix);
            PathBuf::from(path)
        };
        Ok(Self { wal: with_suffix("-wal"), lock: with_suffix("-lock"), notify_file: with_suffix("-bell"), db, process })
    }

    /// Fails in a process that was forked from the one that opened the store.
    pub(super) fn check_process(&self) -> Result<(), StoreError> {
        let now = std::process::id();
        if now == self.process {
            return Ok(());
        }
        let why = format!("opened by process {}, used by {now}, which was forked from it", self.process);
        Err(StoreError::Unavailable(why.into()))
    }

    /// Which file the path leads to now, where the system can say.
    pub(super) fn identity(path: &Path) -> io::Result<Option<Identity>> {
        fs::metadata(path).map(|metadata| identity_of(&metadata))
    }
}

/// Who opened the first store.
static FIRST_PROCESS: OnceLock<u32> = OnceLock::new();

/// SQLite keeps, for a whole process, which files are open and locked. A forked child inherits that, but not the locks: what
/// it opened would be cut and removed under its hands.
fn check_not_forked(path: &Path, first: u32, now: u32) -> Result<(), OpenError> {
    if first == now {
        return Ok(());
    }
    Err(OpenError::new(path, OpenErrorKind::Forked, format!("process {now} was forked from {first}")))
}

/// Device and inode.
pub(super) type Identity = (u64, u64);

#[cfg(unix)]
pub(super) fn identity_of(metadata: &fs::Metadata) -> Option<Identity> {
    use std::os::unix::fs::MetadataExt as _;
    Some((metadata.dev(), metadata.ino()))
}

#[cfg(not(unix))]
pub(super) fn identity_of(_: &fs::Metadata) -> Option<Identity> {
    None
}

/// SQLite before 3.51.3 can lose or damage data when two processes write and checkpoint at the same moment, which is what
/// a file store does all day. <https://sqlite.org/wal.html#walresetbug>
fn check_sqlite(path: &Path, version: i32) -> Result<(), OpenError> {
    // The fix was also put into these.
    let fixed = version >= 3_051_003 || (3_050_007..3_051_000).contains(&version);
    if fixed || (3_044_006..3_045_000).contains(&version) {
        return Ok(());
    }
    let why = format!("it has version number {version}; 3051003 is needed");
    Err(OpenError::new(path, OpenErrorKind::UnsafeSqlite, why))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sqlite_that_damages_shared_files_is_refused() {
        for bad in [3_040_001, 3_044_005, 3_045_000, 3_050_006, 3_051_000, 3_051_002] {
            let error = check_sqlite(Path::new("x"), bad).unwrap_err();
            assert_eq!(error.kind(), OpenErrorKind::UnsafeSqlite, "{bad}");
        }
        for good in [3_044_006, 3_050_007, 3_051_003, 3_053_002, rusqlite::version_number()] {
            assert!(check_sqlite(Path::new("x"), good).is_ok(), "{good}");
        }
    }
}
