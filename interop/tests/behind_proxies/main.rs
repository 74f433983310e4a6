//! Two nodes of the example server behind nginx, HAProxy and Caddy with the very configurations that are for users to
//! copy: nodes are stopped and started while clients read that obey EventSource's rules to the letter.
#![cfg(unix)]
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    dead_code,
    unreachable_pub,
    reason = "a helper that panics is a failed test, and not all that is shared is used"
)]

mod event_source;
mod heads;
mod nodes;
mod poll;
#[path = "../../../tests/support/program.rs"]
mod program;
mod proxies;
mod publisher;
mod restarts;
#[path = "../../../tests/support/stream_parser.rs"]
mod stream_parser;

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

/// A test of each proxy.
macro_rules! behind_each_proxy {
    ($($test:ident)*) => {
        mod nginx { $(#[test] fn $test() { super::$test(crate::proxies::nginx); })* }
        mod haproxy { $(#[test] fn $test() { super::$test(crate::proxies::haproxy); })* }
        mod caddy { $(#[test] fn $test() { super::$test(crate::proxies::caddy); })* }
    };
}
use behind_each_proxy;

/// An address of the loopback interface that was free just now.
fn free() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap()
}
