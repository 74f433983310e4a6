//! Recorded runs: one producer per channel, and an end that readers see, whatever happens.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a helper's panic is a failed test"
)]

mod ends;
mod http;
mod processes;
mod producers;
mod stops;
#[path = "../support/mod.rs"]
mod support;

use tower_events::{
    Channel, Hub, Retention, Run, RunOutcome, RunState, Runs, Store,
    store::{Entry, Limit, Start},
};

/// What happens to be the name of a run's channel.
fn channel(name: &str) -> Channel {
    Channel::new(format!("run:{name}")).unwrap()
}

/// The runs of a process on this store. Every one is another process to the store and to other `Runs`.
fn runs(store: impl Store) -> Runs {
    Runs::new(Hub::new(store))
}

/// Everything that the channel holds, from its first event on.
async fn entries(store: &impl Store, channel: &Channel) -> Vec<Entry> {
    let page = store.read(channel, Start::Earliest, Limit::new(usize::MAX, usize::MAX)).await.unwrap();
    assert_eq!(page.from.tag, 0, "the beginning is kept");
    page.entries
}

/// The texts between the first and the last event of a run that has ended once, and its outcome.
async fn ended(store: &impl Store, channel: &Channel) -> (Vec<String>, String) {
    let entries = entries(store, channel).await;
    let names: Vec<_> = entries.iter().map(|entry| entry.name.as_ref().map_or("", |name| name.as_str())).collect();
    let count = |wanted: &str| names.iter().filter(|name| **name == wanted).count();
    assert_eq!((count("stream-run-start"), count("stream-run-end")), (1, 1), "{names:?}");
    assert_eq!((names[0], names[names.len() - 1]), ("stream-run-start", "stream-run-end"));
    let shown: Vec<_> = entries.iter().map(|entry| entry.data.as_shown().to_owned()).collect();
    (shown[1..shown.len() - 1].to_vec(), shown[shown.len() - 1].clone())
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
