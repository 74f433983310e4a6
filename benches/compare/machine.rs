//! Cores, CPU time and memory, as the operating system reports them. Figures need Linux's `/proc`.

use std::{fs, process::Command};

use rustix::process::{Resource, Rlimit};

/// The core of the servers.
pub(crate) const SERVER: usize = 0;
/// The core of the clients.
pub(crate) const CLIENTS: usize = 1;

/// Pins this process, and those that it starts, to these cores. Returns whether that worked.
#[cfg(target_os = "linux")]
pub(crate) fn pin(cores: &[usize]) -> bool {
    let mut set = rustix::thread::CpuSet::new();
    cores.iter().for_each(|core| set.set(*core));
    rustix::thread::sched_setaffinity(None, &set).is_ok()
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn pin(_: &[usize]) -> bool {
    false
}

/// Raises the limit of open files of this process, and of those that it starts, to the maximum.
pub(crate) fn raise_file_limit() {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    _ = rustix::process::setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}

/// The CPU time of these processes so far, over all their threads, in seconds.
pub(crate) fn cpu(pids: &[String]) -> f64 {
    let threads = pids.iter().flat_map(|pid| fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten());
    let nanos: u64 = threads
        .flatten()
        .filter_map(|thread| fs::read_to_string(thread.path().join("schedstat")).ok())
        .filter_map(|stat| stat.split_whitespace().next()?.parse::<u64>().ok())
        .sum();
    nanos as f64 / 1e9
}

/// The proportional set size of these processes, in bytes.
pub(crate) fn memory(pids: &[String]) -> f64 {
    let kib: u64 = pids
        .iter()
        .filter_map(|pid| fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok())
        .filter_map(|rollup| {
            let line = rollup.lines().find(|line| line.starts_with("Pss:"))?.to_owned();
            line.split_whitespace().nth(1)?.parse::<u64>().ok()
        })
        .sum();
    kib as f64 * 1024.0
}

/// The processor and the kernel.
pub(crate) fn describe() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("an unknown processor");
    let model = model.trim_start_matches([' ', '\t', ':']);
    let cores = info.lines().filter(|line| line.starts_with("processor")).count();
    format!("{model}, {cores} cores, {} {}", output_of("uname", "-s"), output_of("uname", "-r"))
}

/// Today.
pub(crate) fn date() -> String {
    output_of("date", "+%F")
}

fn output_of(command: &str, argument: &str) -> String {
    let output = Command::new(command).arg(argument).output().map(|output| output.stdout).unwrap_or_default();
    String::from_utf8_lossy(&output).trim().to_owned()
}
