//! The hub without HTTP: what a subscriber within the process receives.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

mod bounds;
mod compaction;
#[path = "../support/deadline.rs"]
mod deadline;
mod delivery;
mod drain;
mod failing_channels;
mod faults;
mod head_comparison;
mod history;
mod listening;
#[path = "../support/logs.rs"]
mod logs;
mod overload;
mod own_appends;
mod panics;
#[path = "../support/patched_store.rs"]
mod patched_store;
mod resets;
mod sharing;
mod short_pages;
mod simulation;
mod uneven_channels;
mod updates;
mod without_comparison;

use std::time::Duration;

use tower_events::{
    Channel, Channels, Cursor, Delivery, Event, Hub, MemoryStore, Reset, Store, Subscriber, Subscription,
    store::Append,
    testing::{FaultStore, Faults},
};

/// The default of [`HubOptions::check_every`](tower_events::HubOptions::check_every).
const CHECK_EVERY: Duration = Duration::from_secs(3);

/// The default of [`HubOptions::linger`](tower_events::HubOptions::linger).
const LINGER: Duration = Duration::from_secs(30);

/// The default of [`HubOptions::read_timeout`](tower_events::HubOptions::read_timeout).
const READ_TIMEOUT: Duration = Duration::from_secs(10);

/// The default of [`HubOptions::max_reads`](tower_events::HubOptions::max_reads).
const MAX_READS: usize = 64;

/// Every test calls this first, so that each has a deadline.
fn channel(name: &str) -> Channel {
    deadline::arm();
    Channel::new(name).unwrap()
}

fn channels<const N: usize>(names: [&str; N]) -> Channels {
    Channels::new(names.map(channel)).unwrap()
}

fn events(texts: impl IntoIterator<Item = impl ToString>) -> Vec<Event> {
    texts.into_iter().map(|text| Event::text(text.to_string())).collect()
}

/// What a client asks for whose position is not one of ours.
fn resuming_after_nonsense(channels: impl Into<Channels>) -> Subscription {
    let request = http::Request::get("/").header("last-event-id", "nonsense").body(()).unwrap();
    Subscription::from_request(&request.into_parts().0, channels).unwrap()
}

/// A hub on a fault store, and the store inside it, which other processes would use.
fn faulty() -> (Hub, Faults, MemoryStore) {
    let inner = MemoryStore::default();
    let (store, faults) = FaultStore::new(inner.clone());
    (Hub::new(store), faults, inner)
}

async fn append(store: &MemoryStore, texts: impl IntoIterator<Item = impl ToString>) {
    store.append(&channel("a"), Append::new(events(texts))).await.unwrap();
}

async fn settle() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

async fn publish(hub: &Hub, name: &str, text: impl ToString) {
    hub.publish(&channel(name), Event::text(text.to_string())).await.unwrap();
}

async fn next(subscriber: &mut Subscriber) -> Delivery {
    // Takes no real time on a paused clock, on which hubs compare heads forever.
    let next = tokio::time::timeout(Duration::from_secs(3600), subscriber.next()).await;
    next.expect("a delivery within an hour").expect("not ended").expect("no failure")
}

/// The texts of the next delivery, which must be events.
async fn texts(subscriber: &mut Subscriber) -> Vec<String> {
    match next(subscriber).await {
        Delivery::Events(events) => events.entries().map(|entry| entry.data.as_text().unwrap().to_owned()).collect(),
        other => panic!("events expected, not {other:?}"),
    }
}

/// The texts of as many deliveries as it takes to receive `count` events.
async fn texts_of(subscriber: &mut Subscriber, count: usize) -> Vec<String> {
    let mut seen = Vec::new();
    while seen.len() < count {
        seen.extend(texts(subscriber).await);
    }
    seen
}

/// The next delivery, which must be a reset.
async fn reset(subscriber: &mut Subscriber) -> Reset {
    match next(subscriber).await {
        Delivery::Reset(reset) => reset,
        other => panic!("a reset expected, not {other:?}"),
    }
}

/// Whether nothing is delivered even after every runnable task has run.
async fn is_parked(subscriber: &mut Subscriber) -> bool {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    tokio::time::timeout(Duration::ZERO, subscriber.next()).await.is_err()
}
