//! `Hub::listen`: one wait for events.

use std::{
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;
use tower_events::{
    Hub, HubOptions, Listen, Listened, MemoryStore, Retention, SubscribeError, Subscription,
    store::{Limit, Start},
    testing::FaultStore,
};

use super::*;

#[tokio::test(start_paused = true)]
async fn listen_returns_no_events_when_its_wait_is_over() {
    let hub = Hub::new(MemoryStore::default());
    let before = Instant::now();
    let wait = Listen::from(Subscription::new(channel("a"))).wait(Duration::from_secs(7));
    assert!(hub.listen(wait).await.unwrap().entries().is_empty());
    assert_eq!(before.elapsed(), Duration::from_secs(7));
    let at_once = Listen::from(Subscription::new(channel("a"))).wait(Duration::ZERO);
    assert!(hub.listen(at_once).await.unwrap().entries().is_empty());
    assert_eq!(before.elapsed(), Duration::from_secs(7));
}

#[tokio::test(start_paused = true)]
async fn the_wait_includes_the_stores_answer_and_may_be_endless() {
    let (store, faults) = FaultStore::new(MemoryStore::default());
    // Rarely compared, so that simulating a long time is quick.
    let hub = Hub::with_options(store, HubOptions::default().check_every(Duration::from_secs(100_000)));
    faults.delay(Duration::from_secs(2));
    let before = Instant::now();
    let wait = Listen::from(Subscription::new(channel("a"))).wait(Duration::from_secs(7));
    assert!(hub.listen(wait).await.unwrap().entries().is_empty());
    assert_eq!(before.elapsed(), Duration::from_secs(7));
    let endless = tokio::spawn({
        let (hub, endless) = (hub.clone(), Listen::from(Subscription::new(channel("a"))).wait(Duration::MAX));
        async move { hub.listen(endless).await.unwrap() }
    });
    tokio::time::sleep(Duration::from_secs(1_000_000)).await;
    publish(&hub, "a", "at last").await;
    assert_eq!(endless.await.unwrap().entries().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn listen_returns_as_soon_as_there_is_an_event_and_resumes_from_its_cursors() {
    let hub = Hub::new(MemoryStore::default());
    let mut cursors = hub.position(&channel("a").into()).await.unwrap();
    for n in 0..5 {
        let parked = tokio::spawn({
            let (hub, subscription) = (hub.clone(), Subscription::new(channel("a")).resume(&cursors));
            async move { hub.listen(subscription).await.unwrap() }
        });
        // Depending on the round, published before, while or after it parks.
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
async fn a_start_by_time_returns_entries_sorted_by_time() {
    let hub = Hub::new(MemoryStore::default());
    for time in [500, 300, 400, 300, 100] {
        hub.publish(&channel("a"), Event::text(time.to_string()).at(time).unwrap()).await.unwrap();
    }
    let since = Subscription::new(channel("a")).start(Start::Time(200));
    let listened = hub.listen(since).await.unwrap();
    let times: Vec<_> = listened.entries().iter().map(|entry| entry.time).collect();
    assert_eq!(times, [300, 300, 400, 500]);
    // The filter applies to the start only: a back-dated event after the cursor is returned.
    hub.publish(&channel("a"), Event::text("old").at(1).unwrap()).await.unwrap();
    let listened = hub.listen(Subscription::new(channel("a")).resume(&listened.cursors)).await.unwrap();
    assert_eq!(listened.entries()[0].time, 1);
}

#[tokio::test(start_paused = true)]
async fn listen_returns_no_more_than_its_limit_and_misses_nothing() {
    let hub = Hub::new(MemoryStore::default());
    hub.publish_all(&channel("a"), events(0..25)).await.unwrap();
    let mut subscription = Subscription::new(channel("a")).start(Start::Earliest);
    let mut seen = Vec::new();
    for expected in [10, 10, 5] {
        let listened = hub.listen(Listen::from(subscription).limit(10)).await.unwrap();
        assert_eq!(listened.entries().len(), expected);
        seen.extend(listened.entries().iter().map(|entry| entry.data.as_text().unwrap().to_owned()));
        subscription = Subscription::new(channel("a")).resume(&listened.cursors);
    }
    assert_eq!(seen, (0..25).map(|n| n.to_string()).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn the_observer_is_called_after_each_empty_look() {
    let hub = Hub::new(MemoryStore::default());
    let looks = Arc::new(AtomicUsize::new(0));
    let observed = |start| {
        let (looks, subscription) = (looks.clone(), Subscription::new(channel("a")).start(start));
        Listen::from(subscription)
            .wait(Duration::from_secs(1))
            .on_empty(move || _ = looks.fetch_add(1, Ordering::Relaxed))
    };
    hub.listen(observed(Start::Latest)).await.unwrap();
    assert!(looks.load(Ordering::Relaxed) > 0);
    publish(&hub, "a", 1).await;
    looks.store(0, Ordering::Relaxed);
    assert_eq!(hub.listen(observed(Start::Earliest)).await.unwrap().entries().len(), 1);
    assert_eq!(looks.load(Ordering::Relaxed), 0);
}

#[tokio::test(start_paused = true)]
async fn listen_reports_when_every_channel_is_closed_and_read() {
    let hub = Hub::new(MemoryStore::default());
    publish(&hub, "a", 1).await;
    hub.close(&channel("a")).await.unwrap();
    let all = hub.listen(Subscription::new(channel("a")).start(Start::Earliest)).await.unwrap();
    assert_eq!((all.entries().len(), all.closed), (1, true));
    let after = hub.listen(Subscription::new(channel("a")).resume(&all.cursors)).await.unwrap();
    assert_eq!((after.entries().len(), after.closed), (0, true));
}

#[tokio::test(start_paused = true)]
async fn a_wait_shorter_than_the_stores_answer_misses_nothing_that_was_stored() {
    let (hub, faults, _) = faulty();
    let before = hub.position(&channels(["a"])).await.unwrap();
    let before_both = hub.position(&channels(["a", "b"])).await.unwrap();
    publish(&hub, "a", 1).await;
    faults.delay(Duration::from_secs(2));
    for (subscription, longest) in [
        (Subscription::new(channel("a")).start(Start::Earliest), 2),
        (Subscription::new(channel("a")).resume(&before), 4),
        (Subscription::new(channels(["a", "b"])).start(Start::Earliest), 4),
        (Subscription::new(channels(["a", "b"])).resume(&before_both), 4),
    ] {
        for wait in [0, 1] {
            let start = Instant::now();
            let poll = Listen::from(subscription.clone()).wait(Duration::from_secs(wait));
            let listened = hub.listen(poll).await.unwrap();
            assert_eq!(listened.entries().len(), 1, "{subscription:?}");
            assert!(start.elapsed() <= Duration::from_secs(longest), "{subscription:?}: {:?}", start.elapsed());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_look_counts_as_empty_only_once_the_store_has_answered() {
    let (hub, faults, _) = faulty();
    let start = hub.position(&channel("a").into()).await.unwrap();
    // The position is not the head, so that the store is read.
    publish(&hub, "a", 1).await;
    hub.init(&channel("a"), events([0; 0])).await.unwrap();
    let looks = Arc::new(AtomicUsize::new(0));
    let counted = |subscription: Subscription| {
        let looks = looks.clone();
        Listen::from(subscription)
            .wait(Duration::from_secs(5))
            .on_empty(move || _ = looks.fetch_add(1, Ordering::Relaxed))
    };
    for subscription in [
        counted(Subscription::new(channel("a")).start(Start::Earliest)),
        counted(Subscription::new(channels(["a", "b"])).start(Start::Earliest)),
        counted(Subscription::new(channel("a")).resume(&start)),
    ] {
        looks.store(0, Ordering::Relaxed);
        let reads = faults.hold_reads();
        let listening = tokio::spawn({
            let hub = hub.clone();
            async move { hub.listen(subscription).await }
        });
        reads.reached_by(1).await;
        settle().await;
        assert_eq!(looks.load(Ordering::Relaxed), 0);
        drop(reads);
        let listened = listening.await.unwrap().unwrap();
        assert_eq!((listened.entries().len(), looks.load(Ordering::Relaxed) > 0), (0, listened.resets.is_empty()));
    }
}

#[tokio::test(start_paused = true)]
async fn events_of_other_channels_are_returned_before_a_failure() {
    for _ in 0..20 {
        let (hub, faults, _) = faulty();
        let both = channels(["a", "b"]);
        let start = hub.position(&both).await.unwrap();
        // A followed channel needs no read.
        let _live = hub.subscribe(Subscription::new(channel("a"))).await.unwrap();
        publish(&hub, "a", "a1").await;
        publish(&hub, "b", "b1").await;
        faults.fail_channel(&channel("b"));
        let poll = |from| Listen::from(Subscription::new(both.clone()).resume(from)).wait(Duration::from_secs(1));
        let listened = hub.listen(poll(&start)).await.unwrap();
        assert_eq!(listened.entries().len(), 1);
        assert_eq!(listened.cursors.position(&channel("b")), start.position(&channel("b")));
        assert!(!listened.live);
        let failed = hub.listen(poll(&listened.cursors)).await;
        assert!(matches!(failed, Err(SubscribeError::Store(_))), "{failed:?}");
        faults.mend_channel(&channel("b"));
        let listened = hub.listen(poll(&listened.cursors)).await.unwrap();
        assert_eq!(listened.entries()[0].data.as_text(), Some("b1"));
    }
}

/// A hub whose rings hold one event: several events at once have to be read from the store.
fn without_ring() -> (Hub, Faults) {
    let (store, faults) = FaultStore::new(MemoryStore::default());
    (Hub::with_options(store, HubOptions::default().ring_bytes(1)), faults)
}

#[tokio::test(start_paused = true)]
async fn a_wait_ends_on_time_even_while_the_store_is_read() {
    let (hub, faults) = without_ring();
    let start = Instant::now();
    let waiting = tokio::spawn({
        let (hub, poll) = (hub.clone(), Listen::from(Subscription::new(channel("a"))).wait(Duration::from_secs(5)));
        async move { hub.listen(poll).await }
    });
    tokio::time::sleep(Duration::from_secs(1)).await;
    let _reads = faults.hold_reads();
    hub.publish_all(&channel("a"), events(0..3)).await.unwrap();
    let listened = waiting.await.unwrap().unwrap();
    assert_eq!((listened.entries().len(), start.elapsed()), (0, Duration::from_secs(5)));
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_bounded_in_bytes_and_the_next_one_continues() {
    // Read from the store in pages, and from the ring.
    for ring_bytes in [1, 64 << 20] {
        let hub = Hub::with_options(MemoryStore::default(), HubOptions::default().ring_bytes(ring_bytes));
        let live = hub.subscribe(Subscription::new(channel("a"))).await.unwrap();
        let mut cursors = live.cursors();
        for n in 0..30 {
            publish(&hub, "a", format!("{n:02}{}", "x".repeat(100_000))).await;
        }
        let mut seen = Vec::new();
        for answer in 0..3 {
            let listened = hub.listen(Subscription::new(channel("a")).resume(&cursors)).await.unwrap();
            let bytes: usize = listened.entries().iter().map(|entry| entry.size()).sum();
            assert!(bytes <= (1 << 20) + 110_000 && (answer == 2 || bytes >= 1 << 20), "{bytes}");
            assert_eq!(listened.live, answer == 2);
            seen.extend(listened.entries().iter().map(|entry| entry.data.as_text().unwrap()[..2].to_owned()));
            cursors = listened.cursors;
        }
        assert_eq!(seen, (0..30).map(|n| format!("{n:02}")).collect::<Vec<_>>());
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_full_does_not_wait_for_other_channels() {
    for (limit, texts) in [(100, "x".repeat(100_000)), (3, String::new())] {
        // Which channel comes first is random.
        for _ in 0..10 {
            let (store, faults) = FaultStore::new(MemoryStore::default());
            let hub = Hub::with_options(store, HubOptions::default().ring_bytes(64 << 20));
            let _live = hub.subscribe(Subscription::new(channel("a"))).await.unwrap();
            let both = channels(["a", "b"]);
            let start = hub.position(&both).await.unwrap();
            publish(&hub, "b", 1).await;
            for _ in 0..20 {
                publish(&hub, "a", &texts).await;
            }
            settle().await;
            // The store answers nothing from now on.
            let _held = (faults.hold_answers(), faults.hold_heads());
            let before = Instant::now();
            let poll = Listen::from(Subscription::new(both).resume(&start)).limit(limit);
            let listened = hub.listen(poll).await.unwrap();
            assert_eq!((listened.entries().len(), before.elapsed()), (limit.min(11), Duration::ZERO));
            assert!(!listened.live);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_waiting_listener_returns_new_events_even_while_another_channel_is_read() {
    let (hub, faults) = without_ring();
    let start = Instant::now();
    let waiting = tokio::spawn({
        let hub = hub.clone();
        async move { hub.listen(Subscription::new(channels(["a", "b"]))).await }
    });
    settle().await;
    let _reads = faults.hold_reads();
    hub.publish_all(&channel("b"), events(0..3)).await.unwrap();
    settle().await;
    publish(&hub, "a", 1).await;
    let listened = waiting.await.unwrap().unwrap();
    assert_eq!((listened.entries().len(), listened.live, start.elapsed()), (1, false, Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn events_that_were_found_wait_for_other_channels_until_the_wait_ends() {
    let (store, faults) = FaultStore::new(MemoryStore::default());
    let hub = Hub::with_options(store, HubOptions::default().read_timeout(Duration::from_secs(60)));
    let _live = hub.subscribe(Subscription::new(channel("a"))).await.unwrap();
    let both = channels(["a", "b"]);
    let start = hub.position(&both).await.unwrap();
    for name in ["a", "b"] {
        publish(&hub, name, name).await;
    }
    let poll = Listen::from(Subscription::new(both).resume(&start)).wait(Duration::from_secs(5));
    faults.delay(Duration::from_secs(1));
    assert_eq!(hub.listen(poll.clone()).await.unwrap().entries().len(), 2, "it waits for the other");
    faults.delay(Duration::from_secs(20));
    // One that only catches up waits for a fixed time.
    for (wait, elapsed) in [(5, 5), (0, 10)] {
        let before = Instant::now();
        assert_eq!(hub.listen(poll.clone().wait(Duration::from_secs(wait))).await.unwrap().entries().len(), 1);
        assert_eq!(before.elapsed(), Duration::from_secs(elapsed));
    }
    let before = Instant::now();
    let drained = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        hub.drain(Duration::from_secs(5));
    };
    let (listened, ()) = tokio::join!(hub.listen(poll), drained);
    assert_eq!((listened.unwrap().entries().len(), before.elapsed()), (1, Duration::from_secs(1)));
}

#[tokio::test(start_paused = true)]
async fn a_listener_waits_25_seconds_for_at_most_100_events_unless_it_asks_for_something_else() {
    let hub = Hub::new(MemoryStore::default());
    let start = Instant::now();
    assert!(hub.listen(Subscription::new(channel("a"))).await.unwrap().entries().is_empty());
    assert_eq!(start.elapsed(), Duration::from_secs(25));
    hub.publish_all(&channel("a"), events(0..150)).await.unwrap();
    let earliest = Subscription::new(channel("a")).start(Start::Earliest);
    let limited = |limit| Listen::from(earliest.clone()).limit(limit);
    assert_eq!(hub.listen(earliest.clone()).await.unwrap().entries().len(), 100);
    for (limit, events) in [(120, 120), (0, 1)] {
        assert_eq!(hub.listen(limited(limit)).await.unwrap().entries().len(), events);
    }
}

#[tokio::test(start_paused = true)]
async fn events_from_before_and_after_a_reset_come_in_two_answers() {
    let inner = MemoryStore::new(Retention::default().events(8));
    let (store, faults) = FaultStore::new(inner.clone());
    let hub = Hub::with_options(store, HubOptions::default().ring_bytes(1).page(Limit::new(3, usize::MAX)));
    let start = hub.position(&channel("a").into()).await.unwrap();
    let publish = async |numbers: Range<u32>| {
        for number in numbers {
            append(&inner, [number]).await;
        }
    };
    publish(0..8).await;
    faults.delay(Duration::from_secs(1));
    let listening = hub.listen(Listen::from(Subscription::new(channel("a")).resume(&start)).limit(6));
    let (first, ()) = tokio::join!(listening, async {
        // The second read does not reach the store before the events are gone that it is for.
        while faults.reads() < 2 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        publish(8..30).await;
    });
    let first = first.unwrap();
    assert_eq!((texts_in(&first), first.resets.len()), (vec!["0", "1", "2"], 0));
    let next = hub.listen(Subscription::new(channel("a")).resume(&first.cursors)).await.unwrap();
    assert_eq!((texts_in(&next).first(), next.resets.len()), (Some(&"22"), 1));
}

fn texts_in(listened: &Listened) -> Vec<&str> {
    listened.entries().iter().map(|entry| entry.data.as_shown()).collect()
}
