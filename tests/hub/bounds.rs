//! Bounds on what a hub holds.

use std::{pin::Pin, task::Poll, time::Duration};

use futures_core::Stream as _;
use tower_events::{
    Hub, HubOptions, MemoryStore, Store, SubscribeError, Subscription,
    store::{Reason, Start},
    testing::FaultStore,
};

use super::*;

/// The default of [`HubOptions::stall_timeout`].
const STALL_TIMEOUT: Duration = Duration::from_secs(300);

#[tokio::test(start_paused = true)]
async fn readers_above_the_bound_are_refused_until_one_leaves() {
    let hub = Hub::with_options(MemoryStore::default(), HubOptions::default().max_readers(2));
    let one = hub.subscribe(Subscription::new(channel("a"))).await.unwrap();
    let _two = hub.subscribe(Subscription::new(channel("a"))).await.unwrap();
    let third = hub.subscribe(Subscription::new(channel("a"))).await;
    assert!(matches!(third, Err(SubscribeError::TooManyReaders { .. })));
    drop(one);
    assert!(hub.subscribe(Subscription::new(channel("a"))).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn the_number_of_lingering_channels_is_bounded() {
    let hub = Hub::with_options(MemoryStore::default(), HubOptions::default().max_lingering(10));
    for n in 0..100 {
        drop(hub.subscribe(Subscription::new(channel(&n.to_string()))).await.unwrap());
    }
    assert_eq!(hub.stats().followed_channels, 10);
    let none = Hub::with_options(MemoryStore::default(), HubOptions::default().linger(Duration::ZERO));
    drop(none.subscribe(Subscription::new(channel("a"))).await.unwrap());
    assert_eq!(none.stats().followed_channels, 0);
}

#[tokio::test(start_paused = true)]
async fn the_bytes_of_recent_entries_are_counted_while_their_channels_are_followed() {
    let hub = Hub::with_options(MemoryStore::default(), HubOptions::default().linger(Duration::ZERO));
    let a = hub.subscribe(Subscription::new(channel("a"))).await.unwrap();
    let b = hub.subscribe(Subscription::new(channel("b"))).await.unwrap();
    for name in ["a", "b"] {
        hub.publish(&channel(name), Event::text("x".repeat(1000))).await.unwrap();
    }
    let both = hub.stats().ring_bytes;
    assert!((2_000..6_000).contains(&both), "{both}");
    drop(a);
    let one = hub.stats().ring_bytes;
    assert!((1_000..3_000).contains(&one), "{one}");
    drop(b);
    assert_eq!(hub.stats().ring_bytes, 0);
}

#[tokio::test(start_paused = true)]
async fn a_lingering_channel_serves_the_next_poll() {
    let hub = Hub::new(MemoryStore::default());
    let mut subscriber = hub.subscribe(Subscription::new(channel("a"))).await.unwrap();
    publish(&hub, "a", 1).await;
    assert_eq!(texts(&mut subscriber).await, ["1"]);
    let cursors = subscriber.cursors();
    drop(subscriber);
    publish(&hub, "a", 2).await;
    let mut subscriber = hub.subscribe(Subscription::new(channel("a")).resume(&cursors)).await.unwrap();
    assert_eq!(texts(&mut subscriber).await, ["2"]);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_hub_releases_its_store() {
    let store = std::sync::Arc::new(MemoryStore::default());
    let hub = Hub::new(store.clone());
    drop(hub.subscribe(Subscription::new(channel("a"))).await.unwrap());
    drop(hub);
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    assert_eq!(std::sync::Arc::strong_count(&store), 1);
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_takes_nothing_loses_its_page_and_resumes_from_its_position() {
    let hub = Hub::with_options(MemoryStore::default(), HubOptions::default().ring_bytes(1));
    hub.publish_all(&channel("a"), (0..400).map(|n| Event::text(format!("{n} {}", "x".repeat(400))))).await.unwrap();
    let mut stalled = hub.subscribe(Subscription::new(channel("a")).start(Start::Earliest)).await.unwrap();
    let mut slow = hub.subscribe(Subscription::new(channel("a")).start(Start::Earliest)).await.unwrap();
    let first = texts(&mut stalled).await.len();
    assert!(first < 400, "more is left");
    // One poll is enough to keep a page.
    for _ in 0..2 {
        texts(&mut slow).await;
        tokio::time::sleep(STALL_TIMEOUT / 2 + crate::CHECK_EVERY).await;
    }
    texts(&mut slow).await;
    let position = stalled.cursors();
    assert!(matches!(stalled.next().await, Some(Err(SubscribeError::Stalled))));
    assert_eq!((stalled.cursors(), hub.stats().readers), (position, 2), "it counts until it is dropped");
    let resume = Subscription::new(channel("a")).resume(&stalled.cursors());
    let mut again = hub.subscribe(resume).await.unwrap();
    assert!(texts(&mut again).await[0].starts_with(&format!("{first} ")));
}

#[tokio::test(start_paused = true)]
async fn a_reset_that_was_not_taken_is_repeated_when_its_reader_resumes() {
    let hub = Hub::new(MemoryStore::default());
    publish(&hub, "a", 1).await;
    let mut stalled = hub.subscribe(Subscription::new(channel("a"))).await.unwrap();
    hub.init(&channel("a"), events(0..5)).await.unwrap();
    // Polled once, so that the page is read, but not again to take it.
    let is_pending = std::future::poll_fn(|cx| Poll::Ready(Pin::new(&mut stalled).poll_next(cx).is_pending())).await;
    assert!(is_pending);
    settle().await;
    tokio::time::sleep(STALL_TIMEOUT * 2).await;
    let resume = Subscription::new(channel("a")).resume(&stalled.cursors());
    let mut again = hub.subscribe(resume).await.unwrap();
    assert_eq!(reset(&mut again).await.reason, Reason::EpochChanged);
}

#[tokio::test(start_paused = true)]
async fn a_page_that_was_read_is_kept_for_other_readers_for_a_moment_only() {
    let inner = MemoryStore::default();
    append(&inner, [1]).await;
    let from = inner.heads(&[channel("a")]).await.unwrap()[0].cursor;
    append(&inner, 2..=50).await;
    let (store, faults) = FaultStore::new(inner);
    let hub = Hub::with_options(store, HubOptions::default().ring_bytes(1));
    let _live = hub.subscribe(Subscription::new(channel("a"))).await.unwrap();
    settle().await;
    let comes_back = async || {
        let mut back = hub.subscribe(Subscription::new(channel("a")).resume(&from.into())).await.unwrap();
        assert_eq!(texts_of(&mut back, 49).await.len(), 49);
        faults.reads()
    };
    assert_eq!(comes_back().await, 1);
    assert_eq!(comes_back().await, 1, "it was just read");
    tokio::time::sleep(crate::CHECK_EVERY * 2).await;
    assert_eq!(comes_back().await, 2, "it is not kept forever");
}
