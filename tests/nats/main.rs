//! The NATS store against real servers, which the tests start and stop. `NATS_SERVER` names other binaries, separated
//! by `:`; `TOWER_EVENTS_LONG=1` repeats the faults more often and prints what was lost and seen.
#![allow(
    unreachable_pub,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a panic is a failed test"
)]

#[path = "../support/away.rs"]
mod away;
mod bounds;
mod churn;
mod clocks;
mod cluster;
mod conformance;
mod domain;
mod fairness;
mod faults;
mod full;
mod grant;
mod harness;
mod health;
mod hints;
mod idle;
mod keys;
mod load;
#[path = "../support/logs.rs"]
mod logs;
#[cfg(feature = "nats-nkeys")]
mod nkeys;
mod nodes;
mod outside;
mod server;
mod settings;
mod slow;
mod tls;
mod traps;
#[path = "../support/wire.rs"]
mod wire;
