//! How a file store is opened, and what may be chosen.

use std::time::Duration;

use super::file_system::FileSystems;
use crate::store::{Clock, Retention};

/// What an acknowledged append survives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Durability {
    /// The end of any process, also by `kill -9`. When the machine loses power or crashes, the last appends may be gone;
    /// the file stays sound, and who has read what is gone gets a reset.
    #[default]
    Process,
    /// Loss of power too: an append is acknowledged when the disk says that it has it. Readers may be given the event a
    /// little sooner, as soon as it is committed; should the power fail in between, they get a reset.
    Power,
}

/// How to open a [`FileStore`](super::FileStore). Processes that share a file may choose differently: of their retention, the largest of each
/// setting counts.
#[derive(Clone, Debug)]
#[must_use = "opens nothing until `open` is called"]
pub struct FileOptions {
    pub(super) retention: Retention,
    pub(super) durability: Durability,
    pub(super) clock: Clock,
    pub(super) largest_append: u64,
    pub(super) largest_wal: u64,
    pub(super) timeout: Duration,
    pub(super) file_systems: FileSystems,
}

impl FileOptions {
    /// Sets how much is kept per channel, unless another process keeps more. Default: [`Retention::default`].
    pub fn retention(self, retention: Retention) -> Self {
        Self { retention, ..self }
    }

    /// Sets what an acknowledged append survives. Default: [`Durability::Process`].
    pub fn durability(self, durability: Durability) -> Self {
        Self { durability, ..self }
    }

    /// Takes the time from `clock`. Default: the system's.
    pub fn clock(self, clock: Clock) -> Self {
        Self { clock, ..self }
    }

    /// Sets the most bytes of one append or init, by [`Entry::size`](crate::store::Entry::size); more is
    /// [`StoreError::TooLarge`](crate::StoreError::TooLarge), as is an append of more than half of what is kept. Default
    /// 16 MiB.
    pub fn largest_append(self, bytes: u64) -> Self {
        Self { largest_append: bytes, ..self }
    }

    /// Sets the most bytes that the write-ahead log may grow to while a process that was stopped in the middle of a read
    /// keeps it from being reused; beyond, appends are [`StoreError::Full`](crate::StoreError::Full) until that process
    /// goes on or ends. Default 1 GiB.
    pub fn largest_wal(self, bytes: u64) -> Self {
        Self { largest_wal: bytes, ..self }
    }

    /// Sets how long to wait for a lock that another process holds, in opening and in writing. After that,
    /// [`OpenErrorKind::Locked`](super::OpenErrorKind::Locked) or
    /// [`StoreError::Unavailable`](crate::StoreError::Unavailable) name that process. Default 5 s.
    pub fn timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// Opens the file on any file system, also on those that several machines may share: network file systems, shared
    /// folders of virtual machines, and all of FUSE. All processes that open it **have to be on one machine**, else the file
    /// is damaged; and the file system has to have locks and shared memory (`flock`, `mmap`). Default: such a file is
    /// [`OpenErrorKind::NetworkFileSystem`](super::OpenErrorKind::NetworkFileSystem).
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
            largest_append: 16 << 20,
            largest_wal: 1 << 30,
            timeout: Duration::from_secs(5),
            file_systems: FileSystems::Local,
        }
    }
}
