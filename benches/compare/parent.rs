//! What a process of this program does for the one that started it, which [`process`](crate::process) is the other side of.

use std::{io::Read, net::SocketAddr, thread};

/// Tells the parent process the address, and the processes whose time and memory count.
pub(crate) fn announce(addr: SocketAddr, pids: &str) {
    println!("{addr} {pids}");
}

/// Exits when the parent process does.
pub(crate) fn end_with_parent() {
    thread::spawn(|| {
        _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
}
