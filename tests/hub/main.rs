//! The hub, without HTTP: what a subscriber in the process sees.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

mod at_once;
mod bounds;
mod comparison;
#[path = "../support/deadline.rs"]
mod deadline;
mod delivery;
mod drain;
mod failing_channels;
mod faults;
mod history;
mod listening;
#[path = "../support/logs.rs"]
mod logs;
mod overload;
mod pages;
mod panics;
#[path = "../support/patched_store.rs"]
mod patched_store;
mod resets;
mod sharing;
mod simulation;

use std::time::Duration;

use tower_events::{
    Channel, Channels, Cursor, Delivery, Event, Hub, MemoryStore, Reset, Store, Subscriber,
    store::Append,
    testing::{FaultStore, Faults},
};

/// What every test begins with, so that each has a deadline.
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

/// A hub on a store with faults, and the store inside, which stands for other processes.
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
    // At once on a paused clock, where hubs compare heads for ever.
    let next = tokio::time::timeout(Duration::from_secs(3600), subscriber.next()).await;
    next.expect("a delivery within the hour").expect("not ended").expect("no failure")
}

/// The next delivery's texts; it must be events.
async fn texts(subscriber: &mut Subscriber) -> Vec<String> {
    match next(subscriber).await {
        Delivery::Events(events) => events.entries().map(|entry| entry.data.as_text().unwrap().to_owned()).collect(),
        other => panic!("events expected, not {other:?}"),
    }
}

/// The texts of as many deliveries as it takes to see `count` events.
async fn texts_of(subscriber: &mut Subscriber, count: usize) -> Vec<String> {
    let mut seen = Vec::new();
    while seen.len() < count {
        seen.extend(texts(subscriber).await);
    }
    seen
}

/// The next delivery; it must be a reset.
async fn reset(subscriber: &mut Subscriber) -> Reset {
    match next(subscriber).await {
        Delivery::Reset(reset) => reset,
        other => panic!("a reset expected, not {other:?}"),
    }
}

/// Whether nothing is there to hand out, also after every task that can run has run.
async fn is_parked(subscriber: &mut Subscriber) -> bool {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    tokio::time::timeout(Duration::ZERO, subscriber.next()).await.is_err()
}
