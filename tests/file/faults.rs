//! When the disk is asked to sync, and a disk that cannot. strace sees the calls, and makes them fail.

use std::{collections::HashMap, path::Path, process::Command};

use super::{
    child::Child,
    support::{Temporary, append, integrity, keeping_all, read_all, skip, texts},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_acknowledged_was_synced_after_it_was_written() {
    let dir = Temporary::new();
    let calls = dir.path().join("calls");
    let Some(mut strace) = strace("what_is_acknowledged_was_synced_after_it_was_written", &calls) else { return };
    strace.args(["-y", "-e", "trace=pwrite64,fdatasync,write"]).arg(std::env::current_exe().unwrap());
    let mut child = Child::start_by(strace, "publish-surely a", &dir.file());
    let acknowledged: Vec<_> = (0..50).map(|_| child.hear().unwrap()).collect();
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
        let said = child.hear().unwrap();
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
