//! Recorded runs: one producer per channel, and an end that readers see, whatever happens.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a helper's panic is a failed test"
)]

mod ends;
mod http;
mod producers;
#[path = "../support/recorded.rs"]
mod recorded;
mod stops;
#[path = "../support/mod.rs"]
mod support;

use tower_events::{Hub, Retention, Run, RunOutcome, RunState, Runs, Store};

use self::recorded::{channel, ended, entries};

/// The runs of a process on this store. Every one is another process to the store and to other `Runs`.
fn runs(store: impl Store) -> Runs {
    Runs::new(Hub::new(store))
}

/// Work that never ends by itself.
async fn idle(_: Run) {
    std::future::pending::<()>().await;
}

fn large() -> Retention {
    Retention::default().events(100_000)
}

const FINISHED: &str = r#"{"outcome":"finished"}"#;
const STOPPED: RunState = RunState::Ended(RunOutcome::Stopped);
