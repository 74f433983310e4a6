//! What a process holds, as the system counts it.

use std::fs;

use crate::program::Example;

/// What a server holds at one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Held {
    /// Memory in MiB.
    pub(crate) memory: f64,
    pub(crate) descriptors: usize,
    /// Tasks of its runtime.
    pub(crate) tasks: u64,
}

impl Held {
    pub(crate) fn by(server: &Example) -> Self {
        let tasks = server.get("/healthz").json()["tasks"].as_u64().unwrap();
        Self { memory: memory(server), descriptors: descriptors(server), tasks }
    }
}

/// Resident memory in MiB.
pub(crate) fn memory(server: &Example) -> f64 {
    let status = fs::read_to_string(format!("/proc/{}/status", server.id())).unwrap();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    resident.trim().strip_suffix(" kB").unwrap().parse::<f64>().unwrap() / 1024.0
}

pub(crate) fn descriptors(server: &Example) -> usize {
    fs::read_dir(format!("/proc/{}/fd", server.id())).unwrap().count()
}
