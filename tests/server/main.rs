//! The `server` example as an operator sees it: its limits, its stop and restart under load, and how it lasts.
//!
//! The long forms print figures, with more clients and for longer:
//! ```sh
//! TOWER_EVENTS_LONG=1 cargo test --release --test server -- --nocapture --test-threads 1 half_sent   # memory
//! TOWER_EVENTS_LONG=1 cargo test --release --test server -- --nocapture restart     # writes benches/restart.svg
//! TOWER_EVENTS_LONG=1 cargo test --release --test server -- --nocapture endurance   # ten minutes
//! TOWER_EVENTS_LONG=3600 cargo test --release --test server -- --nocapture endurance   # an hour
//! ```
#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a helper's panic is a failed test"
)]

#[allow(dead_code, reason = "other tests use more of it")]
#[path = "../support/program.rs"]
mod program;
#[path = "../support/mod.rs"]
mod support;

mod clients;
mod drain;
mod endurance;
mod half_sent;
mod limits;
mod operating;
mod process;
mod publisher;
mod restart;
mod returns;
mod table;

use std::time::Duration;

/// The seconds of `TOWER_EVENTS_LONG`, where 1 means ten minutes; `None` in the short form.
fn long_form() -> Option<Duration> {
    let seconds: u64 = std::env::var("TOWER_EVENTS_LONG").ok()?.parse().unwrap();
    Some(Duration::from_secs(if seconds == 1 { 600 } else { seconds }))
}
