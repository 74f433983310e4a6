//! The files of a store, and checks before they are opened. Never opens the database.

use std::{
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use super::{
    error::{from_open_io, open_error},
    file_system::{self, FileSystems},
};
use crate::store::{OpenError, OpenErrorKind, StoreError};

/// The paths of a store's files, and the process that opened them.
#[derive(Debug)]
pub(super) struct Paths {
    /// The database.
    pub(super) db: PathBuf,
    /// The write-ahead log, as named by SQLite.
    pub(super) wal: PathBuf,
    /// Held while writing.
    pub(super) lock: PathBuf,
    /// Written after each commit.
    pub(super) notify_file: PathBuf,
    /// The process that opened it: a forked child inherits neither its locks nor its threads.
    process: u32,
}

impl Paths {
    /// Creates the parent directories, and resolves links.
    pub(super) fn prepare(path: &Path, allowed: FileSystems) -> Result<Self, OpenError> {
        check_sqlite(rusqlite::version_number())?;
        let process = std::process::id();
        check_not_forked(path, *FIRST_PROCESS.get_or_init(|| process), process)?;
        let failed = |error| from_open_io(path, error);
        let name =
            path.file_name().ok_or_else(|| open_error(path, OpenErrorKind::Settings, "the path names no file"))?;
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        fs::create_dir_all(parent).map_err(failed)?;
        let parent = parent.canonicalize().map_err(failed)?;
        // The other files are placed next to the file that links lead to, so that all links share them.
        let db = path.canonicalize().unwrap_or_else(|_| parent.join(name));
        if db.is_dir() {
            return Err(open_error(path, OpenErrorKind::Foreign, "it is a directory"));
        }
        file_system::check(&db, allowed)?;
        let with_suffix = |suffix| {
            let mut path = OsString::from(&db);
            path.push(suffix);
            PathBuf::from(path)
        };
        Ok(Self {
            wal: with_suffix("-wal"),
            lock: with_suffix("-lock"),
            notify_file: with_suffix("-bell"),
            db,
            process,
        })
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

    /// Identifies the file that the path leads to now, on systems that identify files.
    pub(super) fn identity(path: &Path) -> io::Result<Option<Identity>> {
        fs::metadata(path).map(|metadata| identity_of(&metadata))
    }
}

/// The process that opened the first store.
static FIRST_PROCESS: OnceLock<u32> = OnceLock::new();

/// SQLite tracks open and locked files per process. A forked child inherits that state, but not the locks: files that
/// it opens could be truncated and removed while it uses them.
fn check_not_forked(path: &Path, first: u32, now: u32) -> Result<(), OpenError> {
    if first == now {
        return Ok(());
    }
    Err(open_error(path, OpenErrorKind::Forked, format!("process {now} was forked from {first}")))
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

/// SQLite before 3.51.3 can lose or damage data if two processes write and checkpoint at the same moment, as processes
/// that share a file store do. <https://sqlite.org/wal.html#walresetbug>
fn check_sqlite(version: i32) -> Result<(), OpenError> {
    // The fix was backported to these.
    let fixed = version >= 3_051_003 || (3_050_007..3_051_000).contains(&version);
    if fixed || (3_044_006..3_045_000).contains(&version) {
        return Ok(());
    }
    let why = format!("its version number is {version}; 3051003 is needed to share a file between processes safely");
    Err(OpenError::new("SQLite, as linked", OpenErrorKind::UnsupportedVersion).because(why))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_sqlite_that_damage_shared_files_are_refused() {
        for bad in [3_040_001, 3_044_005, 3_045_000, 3_050_006, 3_051_000, 3_051_002] {
            let error = check_sqlite(bad).unwrap_err();
            assert_eq!(error.kind(), &OpenErrorKind::UnsupportedVersion, "{bad}");
        }
        for good in [3_044_006, 3_050_007, 3_051_003, 3_053_002, rusqlite::version_number()] {
            assert!(check_sqlite(good).is_ok(), "{good}");
        }
    }
}
