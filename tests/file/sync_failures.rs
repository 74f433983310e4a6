//! When the store syncs, and what it does if a sync fails. strace traces the calls, and injects failures.

use std::{collections::HashMap, ops::Range, path::Path, process::Command};

use super::{
    child::Child,
    support::{Temporary, append, integrity, keeping_all, read_all, skip, texts, with_suffix},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_acknowledged_append_was_written_and_then_synced() {
    let dir = Temporary::new();
    let calls = dir.path().join("calls");
    let Some(mut strace) = strace("an_acknowledged_append_was_written_and_then_synced", &calls) else { return };
    strace.args(["-y", "-e", "trace=pwrite64,fdatasync,write"]).arg(std::env::current_exe().unwrap());
    let mut child = Child::start_by(strace, "publish-synced a", &dir.file());
    let acknowledged: Vec<_> = (0..50).map(|_| child.next_line().unwrap()).collect();
    drop(child);
    let calls = std::fs::read_to_string(calls).unwrap();
    let seen = TracedCalls::of(&calls);
    assert!(seen.acknowledged >= acknowledged.len());
    assert_eq!(seen.too_early, Vec::<&str>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_append_that_could_not_be_synced_is_not_acknowledged() {
    let Some(mut strace) = strace("an_append_that_could_not_be_synced_is_not_acknowledged", Path::new("/dev/null"))
    else {
        return;
    };
    let dir = Temporary::new();
    drop(keeping_all().open(dir.file()).unwrap());
    // The syncs of opening and of some appends succeed.
    strace.args(["-e", "trace=fsync,fdatasync"]);
    strace.args(["-e", "inject=fsync,fdatasync:error=EIO:when=30+"]).arg(std::env::current_exe().unwrap());
    let mut child = Child::start_by(strace, "publish-synced a", &dir.file());
    let (mut acknowledged, mut failed) = (Vec::new(), Vec::new());
    while failed.len() < 5 {
        let line = child.next_line().unwrap();
        match line.strip_prefix("failed ") {
            Some(why) => failed.push(why.to_owned()),
            None if failed.is_empty() => acknowledged.push(line),
            None => panic!("{line} was acknowledged after {failed:?}"),
        }
    }
    drop(child);
    assert!(!acknowledged.is_empty());
    assert!(failed[0].starts_with("Unknown"), "{}", failed[0]);
    assert!(failed[1..].iter().all(|why| why.starts_with("Unavailable") && why.contains("sync")), "{failed:?}");
    // Opened again, on a disk that works.
    let store = keeping_all().open(dir.file()).unwrap();
    append(&store, "after").await.unwrap();
    let entries = read_all(&store).await;
    let kept = texts(&entries);
    assert!(kept.len() - acknowledged.len() <= 2, "at most the append whose outcome is unknown, and the last one");
    assert!(acknowledged.iter().zip(&kept).all(|(line, kept)| line == kept));
    assert_eq!(integrity(&dir.file()), "ok");
}

/// After a failed sync, the system still shows data that the disk does not have. A store that is opened again must not
/// append after such a hole: what it acknowledges has to survive a loss of power.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_append_acknowledged_after_a_failed_sync_survives_a_loss_of_power() {
    let name = "an_append_acknowledged_after_a_failed_sync_survives_a_loss_of_power";
    let dir = Temporary::new();
    let calls = [1, 2].map(|n| dir.path().join(format!("calls {n}")));
    let store = keeping_all().open(dir.file()).unwrap();
    append(&store, "before").await.unwrap();
    // Keeps the WAL: the last connection to close would copy it into the database file.
    let _keeps = rusqlite::Connection::open(dir.file()).unwrap();
    _keeps.query_row("SELECT count(*) FROM entries", [], |_| Ok(())).unwrap();
    let run = |n: usize, times: u32, inject: &[&str]| {
        let mut strace = strace(name, &calls[n - 1])?;
        strace.args(["-y", "-e", "trace=pwrite64,write,fdatasync,fsync,ftruncate,lseek"]).args(inject);
        strace.arg(std::env::current_exe().unwrap());
        Some(Child::start_by(strace, &format!("publish-synced {n} {times}"), &dir.file()))
    };
    let all = |mut child: Child| std::iter::from_fn(|| child.next_line()).collect::<Vec<_>>();
    let Some(first) = run(1, 40, &["-e", "inject=fdatasync:error=EIO:when=12+"]) else { return };
    assert!(all(first).iter().any(|line| line.starts_with("failed")));
    let hole = WalWrites::of(&std::fs::read_to_string(&calls[0]).unwrap()).unsynced;
    assert!(!hole.is_empty(), "all writes were synced");
    let acknowledged = all(run(2, 20, &[]).unwrap());
    assert_eq!(acknowledged.iter().filter(|line| line.starts_with("2:")).count(), 20, "{acknowledged:?}");

    // The disk has all of the WAL, except what failed to sync and was not rewritten since.
    let lost = Temporary::new();
    std::fs::copy(dir.file(), lost.file()).unwrap();
    let mut wal = std::fs::read(with_suffix(&dir.file(), "-wal")).unwrap();
    let again = WalWrites::of(&std::fs::read_to_string(&calls[1]).unwrap());
    for byte in hole.into_iter().flatten() {
        if !again.written.iter().any(|written| written.contains(&byte)) && (byte as usize) < wal.len() {
            wal[byte as usize] = 0;
        }
    }
    std::fs::write(with_suffix(&lost.file(), "-wal"), wal).unwrap();
    let entries = read_all(&keeping_all().open(lost.file()).unwrap()).await;
    let kept = texts(&entries);
    let missing: Vec<_> =
        acknowledged.iter().filter(|line| line.starts_with("2:") && !kept.contains(&line.as_str())).collect();
    assert!(missing.is_empty(), "{missing:?} of {} are lost", acknowledged.len());
}

/// Which bytes of the WAL a child has written, and which of them were not synced afterwards.
#[derive(Default)]
struct WalWrites {
    written: Vec<Range<u64>>,
    unsynced: Vec<Range<u64>>,
}

impl WalWrites {
    fn of(calls: &str) -> Self {
        let mut writes = Self::default();
        let mut position = 0;
        for call in calls.lines().filter(|line| line.contains("events.db-wal>")) {
            // The last arguments precede the result, which may be on a line of its own.
            let numbers: Vec<u64> = call
                .split(" = ")
                .next()
                .and_then(|call| call.rsplit_once(['"', '>']))
                .map(|(_, rest)| {
                    rest.split(|c: char| !c.is_ascii_digit()).filter_map(|word| word.parse().ok()).collect()
                })
                .unwrap_or_default();
            if call.contains("pwrite64(") {
                if let [length, at] = numbers[..] {
                    writes.add(at..at + length);
                }
            } else if call.contains("lseek(") {
                position = numbers.first().copied().unwrap_or(0);
            } else if call.contains(" write(") {
                if let [length] = numbers[..] {
                    writes.add(position..position + length);
                    position += length;
                }
            } else if call.contains("sync(") && call.ends_with(" = 0") {
                writes.unsynced.clear();
            }
        }
        writes
    }

    fn add(&mut self, bytes: Range<u64>) {
        self.written.push(bytes.clone());
        self.unsynced.push(bytes);
    }
}

/// The calls of a child that appends one event after the other.
#[derive(Default)]
struct TracedCalls<'a> {
    acknowledged: usize,
    /// Acknowledgements before a sync that started after a write to the WAL had finished.
    too_early: Vec<&'a str>,
    is_written: bool,
    is_synced: bool,
    /// The threads in a sync, and whether anything had been written when it started.
    syncing: HashMap<&'a str, bool>,
}

impl<'a> TracedCalls<'a> {
    fn of(calls: &'a str) -> Self {
        let mut seen = Self::default();
        for (thread, call) in calls.lines().filter_map(|line| line.split_once(' ')) {
            seen.add(thread, call.trim_start());
        }
        seen
    }

    fn add(&mut self, thread: &'a str, call: &'a str) {
        if call.starts_with("pwrite64(") && call.contains("events.db-wal>") {
            self.is_written = true;
        } else if call.starts_with("fdatasync(") && call.contains("events.db-wal>") {
            self.syncing.insert(thread, self.is_written);
        } else if call.starts_with("write(1<") && call.contains("> a:") {
            self.acknowledged += 1;
            if !self.is_synced {
                self.too_early.push(call);
            }
            (self.is_written, self.is_synced) = (false, false);
        }
        // On one line, or on a second one if calls of other threads came between.
        if call.contains("fdatasync") && call.ends_with(" = 0") {
            self.is_synced |= self.syncing.remove(thread).unwrap_or_default();
        }
    }
}

/// strace, which is to write the calls of another command to a file; `None` if this machine does not permit tracing.
fn strace(test: &str, calls: &Path) -> Option<Command> {
    if !Command::new("strace").args(["-o", "/dev/null", "true"]).status().is_ok_and(|status| status.success()) {
        skip(test, "strace is not installed, or may not trace");
        return None;
    }
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq", "-o"]).arg(calls);
    Some(strace)
}
