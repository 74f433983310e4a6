//! A server under comparison: how it is started, what it costs, how it is stopped.

use std::{
    fs,
    io::{BufRead, BufReader},
    net::SocketAddr,
    process::{Child, Command, Stdio},
};

use crate::{
    floor, handrolled,
    load::Transport,
    nchan, ours,
    scenarios::{Kind, Scenario},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Peer {
    /// A bare epoll loop that writes ready-made frames: one write per event and socket.
    Floor,
    /// The same, which writes everything pending at once.
    FloorCoalesce,
    OursHyper,
    OursAxum,
    /// What one writes by hand: `tokio::sync::broadcast` and `axum::response::Sse`, with a history for the resume.
    HandRolled,
    /// nginx with the nchan module, when it is installed.
    Nchan,
    /// An axum handler that takes a body and does nothing.
    AxumNothing,
}

impl Peer {
    const ALL: [Self; 7] = [
        Self::Floor,
        Self::FloorCoalesce,
        Self::OursHyper,
        Self::OursAxum,
        Self::HandRolled,
        Self::Nchan,
        Self::AxumNothing,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Floor => "floor",
            Self::FloorCoalesce => "floor-join",
            Self::OursHyper => "ours-hyper",
            Self::OursAxum => "ours-axum",
            Self::HandRolled => "hand-rolled",
            Self::Nchan => "nchan",
            Self::AxumNothing => "axum-nothing",
        }
    }

    pub(crate) fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|peer| peer.name() == name)
    }

    /// The peers that a scenario has, from another one on in each repetition.
    pub(crate) fn for_scenario(scenario: &Scenario, repetition: usize) -> Vec<Self> {
        let mut peers: Vec<_> = Self::ALL.into_iter().filter(|peer| peer.takes(scenario)).collect();
        let shift = repetition % peers.len();
        peers.rotate_left(shift);
        peers
    }

    fn takes(self, scenario: &Scenario) -> bool {
        match (self, &scenario.kind) {
            (Self::AxumNothing, kind) => matches!(kind, Kind::Publish { .. }),
            (Self::Nchan, kind) => nchan::is_installed() && matches!(kind, Kind::FanOut { .. } | Kind::Idle { .. }),
            // It knows no long poll.
            (Self::HandRolled, Kind::FanOut { transport, .. } | Kind::Idle { transport, .. }) => {
                *transport == Transport::Sse
            }
            (Self::HandRolled, kind) => matches!(kind, Kind::Resume { .. }),
            (Self::Floor | Self::FloorCoalesce, Kind::Publish { .. }) => false,
            (Self::FloorCoalesce, Kind::Idle { .. } | Kind::Resume { .. }) => false,
            _ => true,
        }
    }

    /// Serves until it is killed.
    pub(crate) fn serve(self) {
        match self {
            Self::Floor => floor::serve(floor::Writes::EachEvent),
            Self::FloorCoalesce => floor::serve(floor::Writes::AllPending),
            Self::OursHyper => ours::serve_on_hyper(),
            Self::OursAxum => ours::serve_in_axum(),
            Self::HandRolled => handrolled::serve(),
            Self::Nchan => nchan::serve(),
            Self::AxumNothing => handrolled::serve_nothing(),
        }
    }

    /// Starts it in a process of its own, on the first core.
    pub(crate) fn start(self) -> Running {
        let me = std::env::current_exe().expect("a path");
        let pinned = Command::new("taskset").arg("-V").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
        let mut command = if pinned { Command::new("taskset") } else { Command::new(&me) };
        if pinned {
            command.args(["-c", "0"]).arg(&me);
        }
        let mut child = command.args(["serve", self.name()]).stdout(Stdio::piped()).spawn().expect("a process");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut line).expect("the address");
        let (addr, pid) = line.trim().split_once(' ').expect("address and process");
        Running { child, addr: addr.parse().expect("an address"), pids: pid.split(',').map(str::to_owned).collect() }
    }
}

/// What a server prints once it listens: its address and the processes whose time counts.
pub(crate) fn announce(addr: SocketAddr) {
    println!("{addr} {}", std::process::id());
}

/// A server that runs; dropping it ends it.
pub(crate) struct Running {
    child: Child,
    pub(crate) addr: SocketAddr,
    pids: Vec<String>,
}

impl Running {
    /// Time on a CPU so far, in seconds, of all threads.
    pub(crate) fn cpu(&self) -> f64 {
        let threads = self.pids.iter().flat_map(|pid| fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten());
        let nanos: u64 = threads
            .flatten()
            .filter_map(|thread| fs::read_to_string(thread.path().join("schedstat")).ok())
            .filter_map(|stat| stat.split_whitespace().next()?.parse::<u64>().ok())
            .sum();
        nanos as f64 / 1e9
    }

    /// Proportional set size, in bytes.
    pub(crate) fn memory(&self) -> f64 {
        let kib: u64 = self
            .pids
            .iter()
            .filter_map(|pid| fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok())
            .filter_map(|rollup| {
                let line = rollup.lines().find(|line| line.starts_with("Pss:"))?.to_owned();
                line.split_whitespace().nth(1)?.parse::<u64>().ok()
            })
            .sum();
        kib as f64 * 1024.0
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // nginx has workers of its own, which end with their master.
        for pid in &self.pids {
            _ = Command::new("kill").args(["-TERM", pid]).status();
        }
        _ = self.child.kill();
        _ = self.child.wait();
    }
}
