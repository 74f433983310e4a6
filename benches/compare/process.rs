//! Processes that this one starts and ends: the servers, and measurements without sockets.
//!
//! Each has its own process group, and exits when its standard input ends, so also when this process is killed or panics.

use std::{
    io::{BufRead, BufReader, Read},
    net::SocketAddr,
    os::unix::process::CommandExt,
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use rustix::process::{Pid, Signal};

use crate::{
    machine,
    peer::{Peer, Settings},
};

/// A running server; dropping it ends it.
pub(crate) struct Server {
    child: Child,
    pub(crate) addr: SocketAddr,
    pids: Vec<String>,
}

impl Server {
    pub(crate) fn start(peer: Peer, settings: Settings) -> Self {
        let mut child = start(&["serve", peer.name(), &settings.to_string()]);
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut line).expect("text");
        let Some((addr, pids)) = line.trim().split_once(' ') else {
            panic!("{} did not start: {:?}", peer.name(), child.wait());
        };
        let pids = pids.split(',').map(str::to_owned).collect();
        Self { child, addr: addr.parse().expect("an address"), pids }
    }

    pub(crate) fn cpu(&self) -> f64 {
        machine::cpu(&self.pids)
    }

    pub(crate) fn memory(&self) -> f64 {
        machine::memory(&self.pids)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

/// The output of `measure <what>` in a new process.
pub(crate) fn measured(what: &[&str]) -> String {
    let mut child = start(&[&["measure"], what].concat());
    let mut text = String::new();
    child.stdout.take().expect("a pipe").read_to_string(&mut text).expect("text");
    end(&mut child);
    text
}

fn start(arguments: &[&str]) -> Child {
    let me = std::env::current_exe().expect("a path");
    Command::new(me)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .process_group(0)
        .spawn()
        .expect("a process")
}

fn end(child: &mut Child) {
    drop(child.stdin.take());
    let group = Pid::from_child(child);
    let (ended, end) = mpsc::channel();
    thread::scope(|scope| {
        scope.spawn(move || _ = ended.send(child.wait()));
        _ = end.recv_timeout(Duration::from_secs(5));
        // Kills the process if it did not exit, and any children that it left behind.
        _ = rustix::process::kill_process_group(group, Signal::KILL);
    });
}
