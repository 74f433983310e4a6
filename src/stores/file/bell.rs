//! The doorbell: a small file that is written after each commit, so that other processes hear of it at once. What it says
//! are hints; a lost or damaged one costs time only. The log itself cannot be watched: it is written before it counts.
//!
//! # Format
//! [`SLOTS`] slots of [`SLOT`] bytes. News number `n` (from 1) is in slot `n % SLOTS`: six little-endian words, which are
//! `n`, who wrote it, the channel's id, the first and the last `seq`, and the sum of these five. Only the holder of the
//! write lock writes; who reads takes a slot whose sum is wrong for one that is not written yet.

use std::{
    fs::{File, OpenOptions},
    io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use super::{
    ground::{Ground, identity_of},
    checksum::Checksum,
};

/// What changed in one commit and one channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct News {
    /// Which store wrote it.
    pub(super) writer: u64,
    pub(super) what: What,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// These entries came.
    Entries { channel: i64, first: u64, last: u64 },
    /// The head changed in another way.
    Head { channel: i64 },
    /// Anything.
    Anything,
}

/// One process's handle of the file, at one position.
pub(super) struct Bell {
    path: PathBuf,
    file: File,
    /// The number of the first news that was not seen here, nor written.
    next: u64,
    /// Whether others may have written beyond that.
    behind: bool,
    /// When it was last made sure of that others listen to the same file.
    looked: Instant,
}

impl Bell {
    /// Opens the file, or makes it, at the end of its news.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        if file.metadata()?.len() < WHOLE {
            // Room that is taken now is there when the disk is full.
            let missing = vec![0; (WHOLE - file.metadata()?.len()) as usize];
            os::write_at(&file, &missing, file.metadata()?.len())?;
        }
        let mut bell = Self { path: path.to_owned(), file, next: 1, behind: false, looked: Instant::now() };
        bell.next = bell.newest()? + 1;
        Ok(bell)
    }

    /// Others may have rung.
    pub(super) fn fall_behind(&mut self) {
        self.behind = true;
    }

    /// Writes news to the file that the path leads to now: whoever removed the bell left those who listen to a file that
    /// nobody writes.
    pub(super) fn ring_surely(&mut self, writer: u64, news: &[What]) -> io::Result<()> {
        if self.looked.elapsed() > LOOK_AGAIN {
            self.renew()?;
            self.looked = Instant::now();
        }
        self.ring(writer, news)
    }

    /// Writes news. The caller holds the write lock, and has said when others may have rung.
    pub(super) fn ring(&mut self, writer: u64, news: &[What]) -> io::Result<()> {
        if self.behind {
            self.catch_up()?;
            self.behind = false;
        }
        let shown = if news.len() > MOST_AT_ONCE { &[What::Anything] } else { news };
        let mut rest = shown;
        while !rest.is_empty() {
            let at = self.next % SLOTS;
            let (now, later) = rest.split_at(rest.len().min((SLOTS - at) as usize));
            let numbered = (self.next..).zip(now);
            let bytes: Vec<u8> = numbered.flat_map(|(n, what)| encode(n, News { writer, what: *what })).collect();
            os::write_at(&self.file, &bytes, at * SLOT)?;
            self.next += now.len() as u64;
            rest = later;
        }
        Ok(())
    }

    /// Passes over what others wrote.
    fn catch_up(&mut self) -> io::Result<()> {
        while let Some(heard) = self.hear()? {
            if heard.is_empty() {
                return Ok(());
            }
        }
        Ok(())
    }

    /// The news since the last time; `None` when some were overwritten before they were heard.
    pub(super) fn hear(&mut self) -> io::Result<Option<Vec<News>>> {
        let mut heard = Vec::new();
        loop {
            let at = self.next % SLOTS;
            let count = AT_ONCE.min(SLOTS - at);
            let mut bytes = vec![0; (count * SLOT) as usize];
            let read = os::read_at(&self.file, &mut bytes, at * SLOT)?;
            for slot in bytes.get(..read).unwrap_or_default().chunks_exact(SLOT as usize) {
                match decode(slot) {
                    Some((n, news)) if n == self.next => {
                        heard.push(news);
                        self.next += 1;
                    }
                    Some((n, _)) if n > self.next => {
                        self.next = self.newest()? + 1;
                        return Ok(None);
                    }
                    _ => return Ok(Some(heard)),
                }
            }
            if read < SLOT as usize {
                return Ok(Some(heard));
            }
        }
    }

    /// Goes on with the file that the path leads to now, made anew if need be; says whether it is another than before.
    pub(super) fn renew(&mut self) -> io::Result<bool> {
        let is_same = match (Ground::identity(&self.path), identity_of(&self.file.metadata()?)) {
            (Ok(now), then) => now == then,
            (Err(_), _) => false,
        };
        // Someone may have cut it, too.
        if is_same && self.file.metadata()?.len() >= WHOLE {
            return Ok(false);
        }
        *self = Self::open(&self.path)?;
        Ok(true)
    }

    /// The highest number in the file.
    fn newest(&self) -> io::Result<u64> {
        let mut bytes = vec![0; WHOLE as usize];
        let read = os::read_at(&self.file, &mut bytes, 0)?;
        let slots = bytes.get(..read).unwrap_or_default().chunks_exact(SLOT as usize);
        Ok(slots.filter_map(decode).map(|(n, _)| n).max().unwrap_or(0))
    }
}

fn encode(n: u64, news: News) -> Vec<u8> {
    let (channel, first, last) = match news.what {
        What::Entries { channel, first, last } => (channel, first, last),
        What::Head { channel } => (channel, 1, 0),
        What::Anything => (0, 1, 0),
    };
    let words = [n, news.writer, channel as u64, first, last];
    words.iter().chain([&checksum(words)]).flat_map(|word| word.to_le_bytes()).collect()
}

fn decode(slot: &[u8]) -> Option<(u64, News)> {
    let words: Option<Vec<_>> = slot.chunks(8).map(|word| word.try_into().ok().map(u64::from_le_bytes)).collect();
    let [n, writer, channel, first, last, found] = words?.try_into().ok()?;
    if found != checksum([n, writer, channel, first, last]) {
        return None;
    }
    let channel = channel as i64;
    let what = match channel {
        0 => What::Anything,
        channel if first > last => What::Head { channel },
        channel => What::Entries { channel, first, last },
    };
    Some((n, News { writer, what }))
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

    // Each handle has one user at a time, so that its position is nobody else's.
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
const SLOT: u64 = 48;
const WHOLE: u64 = SLOTS * SLOT;

/// So many slots are read at once.
const AT_ONCE: u64 = 16;

const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// More news of one commit than this are told as one: all of them would push others out unheard.
const MOST_AT_ONCE: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    fn temporary(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("tower-events-bell-{name}-{}", std::process::id()))
    }

    fn entries(seq: u64) -> What {
        What::Entries { channel: 7, first: seq, last: seq + 1 }
    }

    #[test]
    fn what_is_rung_is_heard_once_in_order() {
        let path = temporary("order");
        let (mut one, mut two) = (Bell::open(&path).unwrap(), Bell::open(&path).unwrap());
        let mut ear = Bell::open(&path).unwrap();
        assert_eq!(ear.hear().unwrap(), Some(vec![]));
        for round in 0..2000 {
            let bell = if round % 3 == 0 { &mut two } else { &mut one };
            let news = [entries(round), What::Head { channel: -3 }, What::Anything];
            bell.fall_behind();
            bell.ring(round, &news).unwrap();
            if round % 100 == 99 {
                let expected: Vec<_> = (round - 99..=round)
                    .flat_map(|n| [entries(n), news[1], news[2]].map(|what| News { writer: n, what }))
                    .collect();
                assert_eq!(ear.hear().unwrap(), Some(expected));
            }
        }
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn who_was_overtaken_learns_it_and_goes_on() {
        let path = temporary("overtaken");
        let (mut bell, mut ear) = (Bell::open(&path).unwrap(), Bell::open(&path).unwrap());
        for n in 0..SLOTS + 5 {
            bell.ring(1, &[entries(n)]).unwrap();
        }
        assert_eq!(ear.hear().unwrap(), None);
        assert_eq!(ear.hear().unwrap(), Some(vec![]));
        bell.ring(1, &vec![entries(1); 5000]).unwrap();
        assert_eq!(ear.hear().unwrap(), Some(vec![News { writer: 1, what: What::Anything }]));
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn damage_is_passed_over() {
        let path = temporary("damage");
        let (mut bell, mut ear) = (Bell::open(&path).unwrap(), Bell::open(&path).unwrap());
        bell.ring(1, &[entries(1), entries(2)]).unwrap();
        os::write_at(&bell.file, b"x", 2 * SLOT + 5).unwrap();
        assert_eq!(ear.hear().unwrap().unwrap().len(), 1);
        // A writer that comes now takes the damaged slot.
        Bell::open(&path).unwrap().ring(1, &[entries(3)]).unwrap();
        assert_eq!(ear.hear().unwrap().unwrap()[0].what, entries(3));
        bell.file.set_len(10).unwrap();
        assert_eq!(ear.hear().unwrap(), Some(vec![]));
        assert!(ear.renew().unwrap());
        std::fs::remove_file(&path).unwrap();
        assert!(ear.renew().unwrap() && bell.renew().unwrap());
        bell.ring(1, &[entries(4)]).unwrap();
        assert_eq!(ear.hear().unwrap().unwrap().len(), 1);
        std::fs::remove_file(&path).unwrap();
    }
}
