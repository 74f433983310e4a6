//! The Redis store against real servers: the contract, unexpected behaviour of Redis, and failures of the server and
//! the network.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod access;
#[path = "../support/away.rs"]
mod away;
mod conformance;
mod damage;
mod failover;
mod faults;
mod format;
mod idle;
mod janitor;
mod load;
#[path = "../support/logs.rs"]
mod logs;
mod nodes;
mod server;
mod serving;
mod settings;
mod support;
#[cfg(feature = "redis-tls")]
mod tls;
mod traps;
#[path = "../support/wire.rs"]
mod wire;
