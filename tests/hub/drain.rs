//! Draining a hub before its process ends.

use std::{collections::HashSet, time::Duration};

use tower_events::{
    Delivery, Hub, MemoryStore, Stats, SubscribeError, Subscription, hub::Totals, store::Start, testing::FaultStore,
};

use super::*;

const WINDOW: Duration = Duration::from_secs(5);

#[tokio::test(start_paused = true)]
async fn every_reader_ends_at_once_with_its_own_retry_hint() {
    let hub = Hub::new(MemoryStore::default());
    let mut readers = Vec::new();
    for _ in 0..100 {
        let mut subscriber = hub.subscribe(Subscription::new(channel("a"))).await.unwrap();
        readers.push(tokio::spawn(async move {
            let delivery = next(&mut subscriber).await;
            assert!(subscriber.next().await.is_none());
            delivery
        }));
    }
    tokio::task::yield_now().await;
    let before = tokio::time::Instant::now();
    let drained = hub.drain(WINDOW);
    let mut hints = HashSet::new();
    for reader in readers {
        let Delivery::Drained { retry } = reader.await.unwrap() else { panic!() };
        assert!(retry <= WINDOW && !retry.is_zero());
        hints.insert(retry);
    }
    drained.await;
    assert_eq!(before.elapsed(), Duration::ZERO);
    assert!(hints.len() > 90, "hints are spread");
    // No hint is below one second, so that few are in the first quarter.
    assert!(hints.iter().any(|hint| *hint < WINDOW / 2) && hints.iter().any(|hint| *hint > WINDOW * 3 / 4));
}

#[tokio::test(start_paused = true)]
async fn new_readers_are_refused_and_publishing_goes_on() {
    let hub = Hub::new(MemoryStore::default());
    hub.drain(WINDOW);
    let refused = hub.subscribe(Subscription::new(channel("a"))).await;
    assert!(matches!(refused, Err(SubscribeError::Draining { .. })));
    publish(&hub, "a", "still").await;
}

#[tokio::test(start_paused = true)]
async fn drained_waits_for_the_last_reader_and_may_be_dropped() {
    let hub = Hub::new(MemoryStore::default());
    let subscriber = hub.subscribe(Subscription::new(channel("a"))).await.unwrap();
    drop(hub.drain(WINDOW));
    let mut drained = std::pin::pin!(hub.drain(WINDOW));
    assert!(tokio::time::timeout(Duration::from_secs(60), &mut drained).await.is_err());
    drop(subscriber);
    drained.await;
}

#[tokio::test(start_paused = true)]
async fn a_parked_listen_returns_with_its_cursor_and_a_hint() {
    let hub = Hub::new(MemoryStore::default());
    publish(&hub, "a", 1).await;
    let parked = tokio::spawn({
        let hub = hub.clone();
        async move { hub.listen(Subscription::new(channel("a"))).await.unwrap() }
    });
    while hub.stats().readers == 0 {
        tokio::task::yield_now().await;
    }
    hub.drain(WINDOW).await;
    let listened = parked.await.unwrap();
    assert!(listened.entries().is_empty() && listened.retry.is_some());
    assert_eq!(listened.cursors, hub.position(&channel("a").into()).await.unwrap());
    assert_eq!(hub.stats().readers, 0);
}

#[tokio::test(start_paused = true)]
async fn a_thousand_readers_that_leave_leave_nothing_behind() {
    let hub = Hub::new(MemoryStore::default());
    let mut readers = Vec::new();
    for n in 0..1_000 {
        let subscription = Subscription::new(channels(["all", &format!("own{n}")]));
        readers.push(hub.subscribe(subscription).await.unwrap());
    }
    publish(&hub, "all", 1).await;
    let stats = hub.stats();
    assert_eq!((stats.readers, stats.followed_channels, stats.lingering_channels), (1_000, 1_001, 0));
    drop(readers);
    assert_eq!(hub.stats().readers, 0);
    assert!(hub.stats().lingering_channels > 0, "long polls would come back");
    tokio::time::sleep(crate::LINGER + crate::CHECK_EVERY * 2).await;
    let mut stats = hub.stats();
    stats.totals = Totals::default();
    assert_eq!(stats, Stats::default());
}

#[tokio::test(start_paused = true)]
async fn readers_that_still_wait_for_the_store_end_too() {
    for start in [Start::Earliest, Start::Latest] {
        let (store, faults) = FaultStore::new(MemoryStore::default());
        let hub = Hub::new(store);
        let (reads, heads) = (faults.hold_reads(), faults.hold_heads());
        let subscribing = tokio::spawn({
            let hub = hub.clone();
            async move { hub.subscribe(Subscription::new(channel("a")).start(start)).await.map(drop) }
        });
        match start {
            Start::Latest => heads.reached_by(1).await,
            _ => reads.reached_by(1).await,
        }
        settle().await;
        let before = tokio::time::Instant::now();
        hub.drain(WINDOW).await;
        assert!(matches!(subscribing.await.unwrap(), Err(SubscribeError::Draining { .. })), "{start:?}");
        assert_eq!(before.elapsed(), Duration::ZERO);
    }
}
