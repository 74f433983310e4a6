//! The PostgreSQL store against a real server, which the tests start themselves: the conformance suite, each trap of
//! the server, and faults. `TOWER_EVENTS_LONG=1` runs the faults for longer and prints figures.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a helper's panic is a failed test"
)]

#[path = "../support/away.rs"]
mod away;
mod certificates;
mod conformance;
mod faults;
mod floors;
mod formats;
mod full;
mod harness;
mod idle;
mod load;
#[path = "../support/logs.rs"]
mod logs;
mod lookups;
mod notifying;
mod outbox;
mod pooler;
mod proxy;
mod retention;
mod secrets;
mod server;
mod snapshots;
mod support;
mod tidying;
mod traps;
mod waits;

/// Whether the long form was requested.
fn is_long() -> bool {
    std::env::var_os("TOWER_EVENTS_LONG").is_some_and(|value| value == "1")
}
