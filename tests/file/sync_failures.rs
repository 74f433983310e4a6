//! When the disk is asked to sync, and a disk that cannot. strace sees the calls, and makes them fail.

use std::{collections::HashMap, ops::Range, path::Path, process::Command};

use super::{
    child::Child,
    support::{Temporary, append, with_suffix, integrity, keeping_all, read_all, skip, texts},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_acknowledged_was_synced_after_it_was_written() {
    let dir = Temporary::new();
    let calls = dir.path().join("calls");
    let Some(mut strace) = strace("what_is_acknowledged_was_synced_after_it_was_written", &calls) else { return };
    strace.args(["-y", "-e", "trace=pwrite64,fdatasync,write"]).arg(std::env::current_exe().unwrap());
    let mut child = Child::start_by(strace, "publish-surely a", &dir.file());
    let acknowledged: Vec<_> = (0..50).map(|_| child.next_line().unwrap()).collect();
    drop(child);
    let calls = std::fs::read_to_string(calls).unwrap();
    let seen = Seen::of(&calls);
    assert!(seen.acknowledged >= acknowledged.len());
    assert_eq!(seen.too_early, Vec::<&str>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_could_not_be_synced_is_not_acknowledged() {
    let Some(mut strace) = strace("what_could_not_be_synced_is_not_acknowledged", Path::new("/dev/null")) else {
        return;
    };
    let dir = Temporary::new();
    drop(keeping_all().open(dir.file()).unwrap());
    // Those of the opening and of some appends succeed.
    strace.args(["-e", "trace=fsync,fdatasync"]);
    strace.args(["-e", "inject=fsync,fdatasync:error=EIO:when=30+"]).arg(std::env::current_exe().unwrap());
    let mut child = Child::start_by(strace, "publish-surely a", &dir.file());
    let (mut acknowledged, mut failed) = (Vec::new(), Vec::new());
    while failed.len() < 5 {
        let said = child.next_line().unwrap();
        match said.strip_prefix("failed ") {
            Some(why) => failed.push(why.to_owned()),
            None if failed.is_empty() => acknowledged.push(said),
            None => panic!("{said} was acknowledged after {failed:?}"),
        }
    }
    drop(child);
    assert!(!acknowledged.is_empty());
    assert!(failed[0].starts_with("Unknown"), "{}", failed[0]);
    assert!(failed[1..].iter().all(|why| why.starts_with("Unavailable") && why.contains("sync")), "{failed:?}");
    // Opened anew, on a disk that works.
    let store = keeping_all().open(dir.file()).unwrap();
    append(&store, "after").await.unwrap();
    let entries = read_all(&store).await;
    let kept = texts(&entries);
    assert!(kept.len() - acknowledged.len() <= 2, "at most the one that may have happened, and the last");
    assert!(acknowledged.iter().zip(&kept).all(|(said, kept)| said == kept));
    assert_eq!(integrity(&dir.file()), "ok");
}

/// What the disk could not sync is missing on it although the system still shows it. Opened anew, a store must not build on
/// that: what it acknowledges has to be there when the power fails.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_acknowledged_after_a_failed_sync_does_not_rest_on_a_hole() {
    let name = "what_is_acknowledged_after_a_failed_sync_does_not_rest_on_a_hole";
    let dir = Temporary::new();
    let calls = [1, 2].map(|n| dir.path().join(format!("calls {n}")));
    let store = keeping_all().open(dir.file()).unwrap();
    append(&store, "before").await.unwrap();
    // Keeps the log: the last to close it would put it into the file.
    let _keeps = rusqlite::Connection::open(dir.file()).unwrap();
    _keeps.query_row("SELECT count(*) FROM entries", [], |_| Ok(())).unwrap();
    let run = |n: usize, times: u32, inject: &[&str]| {
        let mut strace = strace(name, &calls[n - 1])?;
        strace.args(["-y", "-e", "trace=pwrite64,write,fdatasync,fsync,ftruncate,lseek"]).args(inject);
        strace.arg(std::env::current_exe().unwrap());
        Some(Child::start_by(strace, &format!("publish-surely {n} {times}"), &dir.file()))
    };
    let all = |mut child: Child| std::iter::from_fn(|| child.next_line()).collect::<Vec<_>>();
    let Some(first) = run(1, 40, &["-e", "inject=fdatasync:error=EIO:when=12+"]) else { return };
    assert!(all(first).iter().any(|said| said.starts_with("failed")));
    let hole = Log::of(&std::fs::read_to_string(&calls[0]).unwrap()).unsynced;
    assert!(!hole.is_empty(), "nothing was written that was not synced");
    let acknowledged = all(run(2, 20, &[]).unwrap());
    assert_eq!(acknowledged.iter().filter(|said| said.starts_with("2:")).count(), 20, "{acknowledged:?}");

    // What the disk has: all of the log but what could not be synced and nobody has written since.
    let lost = Temporary::new();
    std::fs::copy(dir.file(), lost.file()).unwrap();
    let mut log = std::fs::read(with_suffix(&dir.file(), "-wal")).unwrap();
    let again = Log::of(&std::fs::read_to_string(&calls[1]).unwrap());
    for byte in hole.into_iter().flatten() {
        if !again.written.iter().any(|written| written.contains(&byte)) && (byte as usize) < log.len() {
            log[byte as usize] = 0;
        }
    }
    std::fs::write(with_suffix(&lost.file(), "-wal"), log).unwrap();
    let entries = read_all(&keeping_all().open(lost.file()).unwrap()).await;
    let kept = texts(&entries);
    let missing: Vec<_> =
        acknowledged.iter().filter(|said| said.starts_with("2:") && !kept.contains(&said.as_str())).collect();
    assert!(missing.is_empty(), "{missing:?} of {} are lost", acknowledged.len());
}

/// Which bytes of the log a child wrote, and which of them no sync that succeeded came after.
#[derive(Default)]
struct Log {
    written: Vec<Range<u64>>,
    unsynced: Vec<Range<u64>>,
}

impl Log {
    fn of(calls: &str) -> Self {
        let mut log = Self::default();
        let mut position = 0;
        for call in calls.lines().filter(|line| line.contains("events.db-wal>")) {
            // The last arguments of a call are in front of its result, which may come in a line of its own.
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
                    log.wrote(at..at + length);
                }
            } else if call.contains("lseek(") {
                position = numbers.first().copied().unwrap_or(0);
            } else if call.contains(" write(") {
                if let [length] = numbers[..] {
                    log.wrote(position..position + length);
                    position += length;
                }
            } else if call.contains("sync(") && call.ends_with(" = 0") {
                log.unsynced.clear();
            }
        }
        log
    }

    fn wrote(&mut self, bytes: Range<u64>) {
        self.written.push(bytes.clone());
        self.unsynced.push(bytes);
    }
}

/// What a child that appends one event after the other had the system do.
#[derive(Default)]
struct Seen<'a> {
    acknowledged: usize,
    /// What was said before a sync that began after a write to the log had ended.
    too_early: Vec<&'a str>,
    is_written: bool,
    is_synced: bool,
    /// The threads in a sync, and whether there was something written when it began.
    syncing: HashMap<&'a str, bool>,
}

impl<'a> Seen<'a> {
    fn of(calls: &'a str) -> Self {
        let mut seen = Self::default();
        for (thread, call) in calls.lines().filter_map(|line| line.split_once(' ')) {
            seen.see(thread, call.trim_start());
        }
        seen
    }

    fn see(&mut self, thread: &'a str, call: &'a str) {
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
        // In one line, or in a second one when other threads' calls came between.
        if call.contains("fdatasync") && call.ends_with(" = 0") {
            self.is_synced |= self.syncing.remove(thread).unwrap_or_default();
        }
    }
}

/// A command that runs another and writes down the calls that it makes, if this machine permits it.
fn strace(test: &str, calls: &Path) -> Option<Command> {
    if !Command::new("strace").args(["-o", "/dev/null", "true"]).status().is_ok_and(|status| status.success()) {
        skip(test, "strace is not installed, or must not trace");
        return None;
    }
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq", "-o"]).arg(calls);
    Some(strace)
}
