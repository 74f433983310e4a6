//! The options of a file store.

use std::time::Duration;

use super::file_system::FileSystems;
use crate::store::{Clock, Retention};

/// What an acknowledged append survives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Durability {
    /// The end of any process, `kill -9` included. If the machine loses power or crashes, the last appends may be lost;
    /// the file stays intact, and a reader that has read lost events gets a reset.
    #[default]
    Process,
    /// Loss of power too: an append is acknowledged once it is synced to the disk. Readers may get the event slightly
    /// earlier, as soon as it is committed; if the power fails in between, they get a reset.
    Power,
}

/// How to open a [`FileStore`](super::FileStore). Processes that share a file may use different options; of each
/// retention setting, the largest of all processes applies.
#[derive(Clone, Debug)]
#[must_use = "opens nothing until `open` is called"]
pub struct FileOptions {
    pub(super) retention: Retention,
    pub(super) durability: Durability,
    pub(super) clock: Clock,
    pub(super) max_append_bytes: u64,
    pub(super) max_wal_bytes: u64,
    pub(super) timeout: Duration,
    pub(super) file_systems: FileSystems,
}

impl FileOptions {
    /// Sets the retention per channel, unless another process keeps more. Default: [`Retention::default`].
    pub fn retention(self, retention: Retention) -> Self {
        Self { retention, ..self }
    }

    /// Sets what an acknowledged append survives. Default: [`Durability::Process`].
    pub fn durability(self, durability: Durability) -> Self {
        Self { durability, ..self }
    }

    /// Takes the time from `clock`. Default: the system clock.
    pub fn clock(self, clock: Clock) -> Self {
        Self { clock, ..self }
    }

    /// Sets the largest append or init in bytes, by [`Entry::size`](crate::store::Entry::size). A larger one fails with
    /// [`StoreError::TooLarge`](crate::StoreError::TooLarge), as does an append of more than half of the retention.
    /// Default: 16 MiB.
    pub fn max_append_bytes(self, bytes: u64) -> Self {
        Self { max_append_bytes: bytes, ..self }
    }

    /// Sets the bytes that the write-ahead log (WAL) may grow to while a process that was stopped in the middle of a
    /// read prevents its reuse. Beyond that, appends fail with [`StoreError::Full`](crate::StoreError::Full) until that
    /// process continues or ends. Default: 1 GiB.
    pub fn max_wal_bytes(self, bytes: u64) -> Self {
        Self { max_wal_bytes: bytes, ..self }
    }

    /// Sets how long opening and writing wait for a lock that another process holds. After that they fail with
    /// [`OpenErrorKind::Locked`](crate::store::OpenErrorKind::Locked) or
    /// [`StoreError::Unavailable`](crate::StoreError::Unavailable), which name that process. Default: 5 s.
    pub fn timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// Allows file systems that several machines may share: network file systems, shared folders of virtual machines,
    /// and all of FUSE. All processes that open the file **must be on one machine**, else it will be damaged; and the
    /// file system must support locks and shared memory (`flock`, `mmap`). Default: such a file fails with
    /// [`OpenErrorKind::NetworkFileSystem`](crate::store::OpenErrorKind::NetworkFileSystem).
    pub fn any_file_system(self) -> Self {
        Self { file_systems: FileSystems::All, ..self }
    }
}

impl Default for FileOptions {
    fn default() -> Self {
        Self {
            retention: Retention::default(),
            durability: Durability::default(),
            clock: Clock::system(),
            max_append_bytes: 16 << 20,
            max_wal_bytes: 1 << 30,
            timeout: Duration::from_secs(5),
            file_systems: FileSystems::Local,
        }
    }
}
