//! Two nodes of the example server behind nginx, HAProxy and Caddy, with the configuration files that users are meant to copy:
//! nodes are stopped and restarted while clients that follow EventSource's rules exactly read from them.
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
mod reloads;
mod restarts;
mod settings;
#[path = "../../../tests/support/stream_parser.rs"]
mod stream_parser;

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

/// Defines each test once per proxy.
macro_rules! behind_each_proxy {
    ($($test:ident)*) => {
        mod nginx { $(#[test] fn $test() { super::$test(crate::proxies::Kind::Nginx); })* }
        mod haproxy { $(#[test] fn $test() { super::$test(crate::proxies::Kind::Haproxy); })* }
        mod caddy { $(#[test] fn $test() { super::$test(crate::proxies::Kind::Caddy); })* }
    };
}
use behind_each_proxy;

/// A free address on the loopback interface.
fn free_address() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap()
}
