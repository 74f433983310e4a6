//! The seed's `listen`.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;
use tower_events::{Hub, HubOptions, MemoryStore, Subscription, store::Start, testing::FaultStore};

use super::*;

#[tokio::test(start_paused = true)]
async fn returns_none_when_its_wait_is_over() {
    let hub = Hub::new(MemoryStore::default());
    let before = Instant::now();
    let wait = Subscription::new(channel("a")).wait(Duration::from_secs(7));
    assert!(hub.listen(wait).await.unwrap().entries().is_empty());
    assert_eq!(before.elapsed(), Duration::from_secs(7));
    let at_once = Subscription::new(channel("a")).wait(Duration::ZERO);
    assert!(hub.listen(at_once).await.unwrap().entries().is_empty());
    assert_eq!(before.elapsed(), Duration::from_secs(7));
}

#[tokio::test(start_paused = true)]
async fn the_wait_covers_the_stores_answer_and_may_be_endless() {
    let (store, faults) = FaultStore::new(MemoryStore::default());
    // Seldom, so that a long time is a short test.
    let hub = Hub::with_options(store, HubOptions::default().check_every(Duration::from_secs(100_000)));
    faults.delay(Duration::from_secs(2));
    let before = Instant::now();
    let wait = Subscription::new(channel("a")).wait(Duration::from_secs(7));
    assert!(hub.listen(wait).await.unwrap().entries().is_empty());
    assert_eq!(before.elapsed(), Duration::from_secs(7));
    let endless = tokio::spawn({
        let (hub, subscription) = (hub.clone(), Subscription::new(channel("a")).wait(Duration::MAX));
        async move { hub.listen(subscription).await.unwrap() }
    });
    tokio::time::sleep(Duration::from_secs(1_000_000)).await;
    publish(&hub, "a", "at last").await;
    assert_eq!(endless.await.unwrap().entries().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn returns_as_soon_as_there_is_an_event_and_goes_on_from_its_cursors() {
    let hub = Hub::new(MemoryStore::default());
    let mut cursors = hub.position(&channel("a").into()).await.unwrap();
    for n in 0..5 {
        let parked = tokio::spawn({
            let (hub, subscription) = (hub.clone(), Subscription::new(channel("a")).resume(&cursors));
            async move { hub.listen(subscription).await.unwrap() }
        });
        // Published before, while and after it parks, as the rounds go.
        for _ in 0..n * 2 {
            tokio::task::yield_now().await;
        }
        publish(&hub, "a", n).await;
        let listened = parked.await.unwrap();
        let texts: Vec<_> = listened.entries().iter().map(|entry| entry.data.as_text().unwrap().to_owned()).collect();
        assert_eq!(texts, [n.to_string()]);
        assert!(listened.resets.is_empty());
        cursors = listened.cursors;
    }
}

#[tokio::test(start_paused = true)]
async fn sorts_by_time_when_it_started_by_time() {
    let hub = Hub::new(MemoryStore::default());
    for time in [500, 300, 400, 300, 100] {
        hub.publish(&channel("a"), Event::text(time.to_string()).at(time).unwrap()).await.unwrap();
    }
    let since = Subscription::new(channel("a")).start(Start::Time(200));
    let listened = hub.listen(since).await.unwrap();
    let times: Vec<_> = listened.entries().iter().map(|entry| entry.time).collect();
    assert_eq!(times, [300, 300, 400, 500]);
    // The filter belongs to the start: a back-dated event comes after the cursor.
    hub.publish(&channel("a"), Event::text("old").at(1).unwrap()).await.unwrap();
    let listened = hub.listen(Subscription::new(channel("a")).resume(&listened.cursors)).await.unwrap();
    assert_eq!(listened.entries()[0].time, 1);
}

#[tokio::test(start_paused = true)]
async fn takes_no_more_than_its_limit_and_misses_nothing() {
    let hub = Hub::new(MemoryStore::default());
    hub.publish_all(&channel("a"), events(0..25)).await.unwrap();
    let mut subscription = Subscription::new(channel("a")).start(Start::Earliest).limit(10);
    let mut seen = Vec::new();
    for expected in [10, 10, 5] {
        let listened = hub.listen(subscription).await.unwrap();
        assert_eq!(listened.entries().len(), expected);
        seen.extend(listened.entries().iter().map(|entry| entry.data.as_text().unwrap().to_owned()));
        subscription = Subscription::new(channel("a")).resume(&listened.cursors).limit(10);
    }
    assert_eq!(seen, (0..25).map(|n| n.to_string()).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn tells_its_observer_of_each_empty_look() {
    let hub = Hub::new(MemoryStore::default());
    let looks = Arc::new(AtomicUsize::new(0));
    let subscription = Subscription::new(channel("a")).wait(Duration::from_secs(1)).on_empty({
        let looks = looks.clone();
        move || _ = looks.fetch_add(1, Ordering::Relaxed)
    });
    hub.listen(subscription.clone()).await.unwrap();
    assert!(looks.load(Ordering::Relaxed) > 0);
    publish(&hub, "a", 1).await;
    looks.store(0, Ordering::Relaxed);
    assert_eq!(hub.listen(subscription.start(Start::Earliest)).await.unwrap().entries().len(), 1);
    assert_eq!(looks.load(Ordering::Relaxed), 0);
}

#[tokio::test(start_paused = true)]
async fn says_when_every_channel_is_closed_and_read() {
    let hub = Hub::new(MemoryStore::default());
    publish(&hub, "a", 1).await;
    hub.close(&channel("a")).await.unwrap();
    let all = hub.listen(Subscription::new(channel("a")).start(Start::Earliest)).await.unwrap();
    assert_eq!((all.entries().len(), all.closed), (1, true));
    let after = hub.listen(Subscription::new(channel("a")).resume(&all.cursors)).await.unwrap();
    assert_eq!((after.entries().len(), after.closed), (0, true));
}
