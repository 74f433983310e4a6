//! The notify file: a small file that is written after each commit, so that other processes notice the commit at once.
//! Its notifications are hints: a lost or damaged one costs only time. The WAL cannot be watched instead, since it is
//! written before the commit is visible.
//!
//! # Format
//! [`SLOTS`] slots of [`SLOT_BYTES`] bytes. Notification `n` (from 1) is in slot `n % SLOTS`: six little-endian words,
//! which are `n`, the id of the writing store, the channel's id, the first and the last `seq`, and the checksum of
//! these five. Only the holder of the lock file writes. Readers take a slot with a wrong checksum for one that is not
//! written yet.

use std::{
    fs::{File, OpenOptions},
    io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use super::paths::{Paths, identity_of};
use crate::store::checksum::Checksum;

/// What one store has changed in one channel by one commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Notification {
    /// The store that wrote it.
    pub(super) writer: u64,
    pub(super) changed: Changed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Changed {
    /// These entries were appended.
    Entries { channel: i64, first: u64, last: u64 },
    /// The head changed otherwise.
    Head { channel: i64 },
    /// Anything may have changed.
    Anything,
}

/// A handle of the file, at one position.
pub(super) struct NotifyFile {
    path: PathBuf,
    file: File,
    /// The number of the first notification that was neither read nor written here.
    next: u64,
    /// Whether others may have written since.
    may_be_behind: bool,
    /// When the file was last known to be the one at the path.
    path_checked: Instant,
}

impl NotifyFile {
    /// Opens or creates the file, after its last notification.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        if file.metadata()?.len() < FILE_BYTES {
            // Allocates the whole file now, so that notifying still works when the disk is full.
            let missing = vec![0; (FILE_BYTES - file.metadata()?.len()) as usize];
            os::write_at(&file, &missing, file.metadata()?.len())?;
        }
        let mut notify_file =
            Self { path: path.to_owned(), file, next: 1, may_be_behind: false, path_checked: Instant::now() };
        notify_file.next = notify_file.newest()? + 1;
        Ok(notify_file)
    }

    /// Others may have written.
    pub(super) fn expect_foreign_writes(&mut self) {
        self.may_be_behind = true;
    }

    /// Writes to the file that is at the path now: if the file was removed, listeners in other processes watch a new
    /// one.
    pub(super) fn write_to_current(&mut self, writer: u64, changes: &[Changed]) -> io::Result<()> {
        if self.path_checked.elapsed() > PATH_CHECK_INTERVAL {
            self.reopen_if_replaced()?;
            self.path_checked = Instant::now();
        }
        self.write(writer, changes)
    }

    /// The caller holds the lock file, and has called [`expect_foreign_writes`](Self::expect_foreign_writes) if others
    /// may have written.
    pub(super) fn write(&mut self, writer: u64, changes: &[Changed]) -> io::Result<()> {
        if self.may_be_behind {
            self.skip_foreign_writes()?;
            self.may_be_behind = false;
        }
        let written = if changes.len() > MAX_PER_WRITE { &[Changed::Anything] } else { changes };
        let mut rest = written;
        while !rest.is_empty() {
            let at = self.next % SLOTS;
            let (now, later) = rest.split_at(rest.len().min((SLOTS - at) as usize));
            let numbered = (self.next..).zip(now);
            let bytes: Vec<u8> =
                numbered.flat_map(|(n, changed)| encode(n, Notification { writer, changed: *changed })).collect();
            os::write_at(&self.file, &bytes, at * SLOT_BYTES)?;
            self.next += now.len() as u64;
            rest = later;
        }
        Ok(())
    }

    /// Skips notifications of others.
    fn skip_foreign_writes(&mut self) -> io::Result<()> {
        while let Some(found) = self.read_new()? {
            if found.is_empty() {
                return Ok(());
            }
        }
        Ok(())
    }

    /// The notifications since the last call; `None` if some were overwritten before they were read.
    pub(super) fn read_new(&mut self) -> io::Result<Option<Vec<Notification>>> {
        let mut found = Vec::new();
        loop {
            let at = self.next % SLOTS;
            let count = SLOTS_PER_READ.min(SLOTS - at);
            let mut bytes = vec![0; (count * SLOT_BYTES) as usize];
            let read = os::read_at(&self.file, &mut bytes, at * SLOT_BYTES)?;
            for slot in bytes.get(..read).unwrap_or_default().chunks_exact(SLOT_BYTES as usize) {
                match decode(slot) {
                    Some((n, notification)) if n == self.next => {
                        found.push(notification);
                        self.next += 1;
                    }
                    Some((n, _)) if n > self.next => {
                        self.next = self.newest()? + 1;
                        return Ok(None);
                    }
                    _ => return Ok(Some(found)),
                }
            }
            if read < SLOT_BYTES as usize {
                return Ok(Some(found));
            }
        }
    }

    /// Reopens the file if another one, or none, is at the path now. Returns whether it did.
    pub(super) fn reopen_if_replaced(&mut self) -> io::Result<bool> {
        let is_same = match (Paths::identity(&self.path), identity_of(&self.file.metadata()?)) {
            (Ok(now), then) => now == then,
            (Err(_), _) => false,
        };
        // It may also have been truncated.
        if is_same && self.file.metadata()?.len() >= FILE_BYTES {
            return Ok(false);
        }
        *self = Self::open(&self.path)?;
        Ok(true)
    }

    /// The highest number in the file.
    fn newest(&self) -> io::Result<u64> {
        let mut bytes = vec![0; FILE_BYTES as usize];
        let read = os::read_at(&self.file, &mut bytes, 0)?;
        let slots = bytes.get(..read).unwrap_or_default().chunks_exact(SLOT_BYTES as usize);
        Ok(slots.filter_map(decode).map(|(n, _)| n).max().unwrap_or(0))
    }
}

fn encode(n: u64, notification: Notification) -> Vec<u8> {
    let (channel, first, last) = match notification.changed {
        Changed::Entries { channel, first, last } => (channel, first, last),
        Changed::Head { channel } => (channel, 1, 0),
        Changed::Anything => (0, 1, 0),
    };
    let words = [n, notification.writer, channel as u64, first, last];
    words.iter().chain([&checksum(words)]).flat_map(|word| word.to_le_bytes()).collect()
}

pub(super) fn decode(slot: &[u8]) -> Option<(u64, Notification)> {
    let words: Option<Vec<_>> = slot.chunks(8).map(|word| word.try_into().ok().map(u64::from_le_bytes)).collect();
    let [n, writer, channel, first, last, found] = words?.try_into().ok()?;
    if found != checksum([n, writer, channel, first, last]) {
        return None;
    }
    let channel = channel as i64;
    let changed = match channel {
        0 => Changed::Anything,
        channel if first > last => Changed::Head { channel },
        channel => Changed::Entries { channel, first, last },
    };
    Some((n, Notification { writer, changed }))
}

fn checksum(words: [u64; 5]) -> u64 {
    words.iter().fold(Checksum::new(), |checksum, word| checksum.number(*word)).finish()
}

#[cfg(unix)]
mod os {
    use std::{fs::File, io, os::unix::fs::FileExt as _};

    pub(super) fn read_at(file: &File, bytes: &mut [u8], at: u64) -> io::Result<usize> {
        file.read_at(bytes, at)
    }

    pub(super) fn write_at(file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
        file.write_all_at(bytes, at)
    }
}

#[cfg(not(unix))]
mod os {
    use std::{
        fs::File,
        io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    };

    // Each handle has one user at a time, so its position is not shared.
    pub(super) fn read_at(mut file: &File, bytes: &mut [u8], at: u64) -> io::Result<usize> {
        file.seek(SeekFrom::Start(at))?;
        file.read(bytes)
    }

    pub(super) fn write_at(mut file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
        file.seek(SeekFrom::Start(at))?;
        file.write_all(bytes)
    }
}

const SLOTS: u64 = 1024;
const SLOT_BYTES: u64 = 48;
const FILE_BYTES: u64 = SLOTS * SLOT_BYTES;

/// Slots read at once.
const SLOTS_PER_READ: u64 = 16;

/// How often the writer checks that the file is still at the path.
const PATH_CHECK_INTERVAL: Duration = Duration::from_millis(50);

/// If one commit has more notifications than this, one [`Changed::Anything`] replaces them, so that they do not
/// overwrite unread ones.
const MAX_PER_WRITE: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    fn temporary(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("tower-events-notify-{name}-{}", std::process::id()))
    }

    fn entries(seq: u64) -> Changed {
        Changed::Entries { channel: 7, first: seq, last: seq + 1 }
    }

    #[test]
    fn notifications_are_read_once_in_order() {
        let path = temporary("order");
        let (mut one, mut two) = (NotifyFile::open(&path).unwrap(), NotifyFile::open(&path).unwrap());
        let mut reader = NotifyFile::open(&path).unwrap();
        assert_eq!(reader.read_new().unwrap(), Some(vec![]));
        for round in 0..2000 {
            let notify_file = if round % 3 == 0 { &mut two } else { &mut one };
            let notifications = [entries(round), Changed::Head { channel: -3 }, Changed::Anything];
            notify_file.expect_foreign_writes();
            notify_file.write(round, &notifications).unwrap();
            if round % 100 == 99 {
                let expected: Vec<_> = (round - 99..=round)
                    .flat_map(|n| {
                        [entries(n), notifications[1], notifications[2]]
                            .map(|changed| Notification { writer: n, changed })
                    })
                    .collect();
                assert_eq!(reader.read_new().unwrap(), Some(expected));
            }
        }
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn a_reader_that_was_overtaken_learns_it_and_continues() {
        let path = temporary("overtaken");
        let (mut notify_file, mut reader) = (NotifyFile::open(&path).unwrap(), NotifyFile::open(&path).unwrap());
        for n in 0..SLOTS + 5 {
            notify_file.write(1, &[entries(n)]).unwrap();
        }
        assert_eq!(reader.read_new().unwrap(), None);
        assert_eq!(reader.read_new().unwrap(), Some(vec![]));
        notify_file.write(1, &vec![entries(1); 5000]).unwrap();
        assert_eq!(reader.read_new().unwrap(), Some(vec![Notification { writer: 1, changed: Changed::Anything }]));
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn damage_is_skipped() {
        let path = temporary("damage");
        let (mut notify_file, mut reader) = (NotifyFile::open(&path).unwrap(), NotifyFile::open(&path).unwrap());
        notify_file.write(1, &[entries(1), entries(2)]).unwrap();
        os::write_at(&notify_file.file, b"x", 2 * SLOT_BYTES + 5).unwrap();
        assert_eq!(reader.read_new().unwrap().unwrap().len(), 1);
        // A writer that opens the file now overwrites the damaged slot.
        NotifyFile::open(&path).unwrap().write(1, &[entries(3)]).unwrap();
        assert_eq!(reader.read_new().unwrap().unwrap()[0].changed, entries(3));
        notify_file.file.set_len(10).unwrap();
        assert_eq!(reader.read_new().unwrap(), Some(vec![]));
        assert!(reader.reopen_if_replaced().unwrap());
        std::fs::remove_file(&path).unwrap();
        assert!(reader.reopen_if_replaced().unwrap() && notify_file.reopen_if_replaced().unwrap());
        notify_file.write(1, &[entries(4)]).unwrap();
        assert_eq!(reader.read_new().unwrap().unwrap().len(), 1);
        std::fs::remove_file(&path).unwrap();
    }
}
