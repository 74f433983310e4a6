//! Describes which processes hold locks on a store's files, for error messages and logs.

use std::path::Path;

use super::{core::Core, paths::Paths};
use crate::store::StoreError;

/// The error of a write that did not get the lock, which is also logged.
pub(super) fn lock_error(core: &Core) -> StoreError {
    let paths = &core.paths;
    let holder = writers(&[&paths.lock, &paths.db]);
    if core.health.warnings.locked.is_due() {
        tracing::warn!(file = %paths.db.display(), holder, "waiting for the lock of an event file");
    }
    StoreError::Unavailable(format!("nothing was written: {holder} of {}", paths.db.display()).into())
}

/// Describes the processes that hold a lock on one of these files.
#[cfg(target_os = "linux")]
pub(super) fn writers(paths: &[&Path]) -> String {
    let processes = holding_processes(paths, "WRITE");
    match processes.as_slice() {
        [] => "another process holds the lock".to_owned(),
        processes => {
            processes.iter().map(|process| describe_process(*process)).collect::<Vec<_>>().join(", ")
                + " holds the lock"
        }
    }
}

/// Describes the processes that are in the middle of a read.
#[cfg(target_os = "linux")]
pub(super) fn readers(paths: &Paths) -> String {
    let mut shared = paths.db.clone().into_os_string();
    shared.push("-shm");
    let all = holding_processes(&[Path::new(&shared)], "READ").into_iter().map(describe_process);
    // Readers that are not stopped will finish soon.
    let (stopped, others): (Vec<_>, Vec<_>) = all.partition(|process| process.ends_with("stopped)"));
    match if stopped.is_empty() { others } else { stopped }.as_slice() {
        [] => "a reader".to_owned(),
        processes => processes.join(", "),
    }
}

/// Other processes that hold a lock of this kind on one of these files. `/proc/locks` is read in pieces while locks
/// change, so even a lock that is held all the time can be missing once.
#[cfg(target_os = "linux")]
fn holding_processes(paths: &[&Path], kind: &str) -> Vec<u32> {
    (0..MAX_READS).map(|_| read_proc_locks(paths, kind)).find(|processes| !processes.is_empty()).unwrap_or_default()
}

#[cfg(target_os = "linux")]
fn read_proc_locks(paths: &[&Path], kind: &str) -> Vec<u32> {
    use std::{fs, os::unix::fs::MetadataExt as _};

    let inodes: Vec<_> = paths.iter().filter_map(|path| Some(format!(":{}", fs::metadata(path).ok()?.ino()))).collect();
    let locks = fs::read_to_string("/proc/locks").unwrap_or_default();
    let own = std::process::id();
    // `1: FLOCK  ADVISORY  WRITE 1234 fd:01:5678 0 EOF`; a waiting process has an arrow in the second field.
    let holds = |line: &str| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let [_, _, _, held, process, file, ..] = fields.as_slice() else { return None };
        let concerns = *held == kind && inodes.iter().any(|inode| file.ends_with(inode));
        concerns.then(|| process.parse::<u32>().ok())?
    };
    let mut processes: Vec<_> = locks.lines().filter_map(holds).filter(|process| *process != own).collect();
    processes.sort_unstable();
    processes.dedup();
    processes
}

#[cfg(target_os = "linux")]
fn describe_process(process: u32) -> String {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    // `1234 (name) S ...`; the name may contain anything.
    let parts = stat.split_once('(').and_then(|(_, rest)| rest.rsplit_once(") "));
    match parts {
        Some((name, rest)) if rest.starts_with(['T', 't']) => format!("process {process} ({name}, stopped)"),
        Some((name, _)) => format!("process {process} ({name})"),
        None => format!("process {process}"),
    }
}

#[cfg(not(target_os = "linux"))]
pub(super) fn readers(_: &Paths) -> String {
    "a reader".to_owned()
}

#[cfg(not(target_os = "linux"))]
pub(super) fn writers(_: &[&Path]) -> String {
    "another process holds the lock".to_owned()
}

/// How often `/proc/locks` is read to find a holder.
#[cfg(target_os = "linux")]
const MAX_READS: u32 = 5;
