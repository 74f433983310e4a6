//! Every event once and in order, however fast the subscriber reads.

use std::time::Duration;

use tower_events::{
    Delivery, Hub, HubOptions, MemoryStore, Retention, Stats, Store, Subscription,
    hub::Totals,
    store::{Append, Limit, Start},
};

use super::*;

#[tokio::test(start_paused = true)]
async fn events_published_after_subscribing_come_at_once_and_in_order() {
    let hub = Hub::new(MemoryStore::default());
    publish(&hub, "a", "before").await;
    let mut subscriber = hub.subscribe(Subscription::new(channel("a"))).await.unwrap();
    for n in 0..10 {
        publish(&hub, "a", n).await;
        assert_eq!(texts(&mut subscriber).await, [n.to_string()]);
    }
    assert!(is_parked(&mut subscriber).await);
}

#[tokio::test(start_paused = true)]
async fn a_subscription_starts_where_it_says() {
    let hub = Hub::new(MemoryStore::default());
    let a = channel("a");
    for n in 1..=5_u64 {
        hub.publish(&a, Event::text(n.to_string()).at(n * 100).unwrap()).await.unwrap();
    }
    let third = hub.store().read(&a, Start::Earliest, Limit::new(3, 1 << 20)).await.unwrap().next;
    let table = [
        (Start::Earliest, vec!["1", "2", "3", "4", "5"]),
        (Start::After(third), vec!["4", "5"]),
        (Start::Time(300), vec!["4", "5"]),
        (Start::Last(2), vec!["4", "5"]),
        (Start::Last(0), vec![]),
        (Start::Latest, vec![]),
        (Start::Time(500), vec![]),
    ];
    for (start, expected) in table {
        let mut subscriber = hub.subscribe(Subscription::new(&a).start(start)).await.unwrap();
        if !expected.is_empty() {
            assert_eq!(texts_of(&mut subscriber, expected.len()).await, expected, "{start:?}");
        }
        assert!(is_parked(&mut subscriber).await, "{start:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_channel_exists_once_it_has_its_own_record() {
    let hub = Hub::new(MemoryStore::default());
    publish(&hub, "room:12", "x").await;
    for (name, exists) in [("room:12", true), ("room:1", false), ("room:123", false), ("room", false), ("z", false)] {
        assert_eq!(hub.exists(&channel(name)).await.unwrap(), exists, "{name}");
    }
    hub.delete(&channel("room:12")).await.unwrap();
    assert!(!hub.exists(&channel("room:12")).await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_falls_behind_the_ring_reads_the_store_and_rejoins() {
    let store = MemoryStore::new(Retention::default().events(10_000));
    let hub = Hub::with_options(store, HubOptions::default().ring_bytes(1_000));
    let mut slow = hub.subscribe(Subscription::new(channel("a"))).await.unwrap();
    let mut quick = hub.subscribe(Subscription::new(channel("a"))).await.unwrap();
    for n in 0..1_000 {
        publish(&hub, "a", n).await;
        assert_eq!(texts(&mut quick).await, [n.to_string()]);
    }
    let expected: Vec<_> = (0..1_000).map(|n| n.to_string()).collect();
    assert_eq!(texts_of(&mut slow, 1_000).await, expected);
    publish(&hub, "a", "live").await;
    assert_eq!(texts(&mut slow).await, ["live"]);
    assert!(hub.stats().ring_bytes <= 1_000);
}

#[tokio::test(start_paused = true)]
async fn a_batch_is_delivered_in_one_piece() {
    let hub = Hub::new(MemoryStore::default());
    let mut subscriber = hub.subscribe(Subscription::new(channel("a"))).await.unwrap();
    hub.publish_all(&channel("a"), events(0..16)).await.unwrap();
    assert_eq!(texts(&mut subscriber).await.len(), 16);
}

#[tokio::test(start_paused = true)]
async fn several_channels_come_in_one_subscription_and_resume_from_one_token() {
    let hub = Hub::new(MemoryStore::default());
    let both = channels(["a", "b"]);
    let mut subscriber = hub.subscribe(Subscription::new(both.clone())).await.unwrap();
    publish(&hub, "a", "a1").await;
    publish(&hub, "b", "b1").await;
    let mut seen = texts_of(&mut subscriber, 2).await;
    seen.sort();
    assert_eq!(seen, ["a1", "b1"]);

    let token = subscriber.cursors().to_string().parse().unwrap();
    drop(subscriber);
    publish(&hub, "b", "b2").await;
    publish(&hub, "a", "a2").await;
    let mut subscriber = hub.subscribe(Subscription::new(both).resume(&token)).await.unwrap();
    let mut seen = texts_of(&mut subscriber, 2).await;
    seen.sort();
    assert_eq!(seen, ["a2", "b2"]);
    assert!(is_parked(&mut subscriber).await);
}

#[tokio::test(start_paused = true)]
async fn a_busy_channel_does_not_starve_the_others() {
    let mut busy_first = 0;
    for _ in 0..200 {
        let hub = Hub::new(MemoryStore::default());
        let mut subscriber = hub.subscribe(Subscription::new(channels(["busy", "quiet"]))).await.unwrap();
        publish(&hub, "quiet", "at last").await;
        publish(&hub, "busy", 0).await;
        let first = texts(&mut subscriber).await;
        publish(&hub, "busy", 1).await;
        let second = texts(&mut subscriber).await;
        let is_quiet = |texts: &[String]| texts == ["at last"];
        assert!(is_quiet(&first) || is_quiet(&second), "{first:?} {second:?}");
        busy_first += usize::from(is_quiet(&second));
    }
    assert!((50..150).contains(&busy_first), "the first turn is random: {busy_first} of 200");
}

#[tokio::test(start_paused = true)]
async fn appends_by_another_process_are_delivered_too() {
    let store = MemoryStore::default();
    let (here, there) = (Hub::new(store.clone()), Hub::new(store.clone()));
    let mut subscriber = here.subscribe(Subscription::new(channel("a"))).await.unwrap();
    publish(&there, "a", "from there").await;
    assert_eq!(texts(&mut subscriber).await, ["from there"]);
    store.append(&channel("a"), Append::new(events(["past all hubs"]))).await.unwrap();
    assert_eq!(texts(&mut subscriber).await, ["past all hubs"]);
}

#[tokio::test(start_paused = true)]
async fn a_closed_channel_is_read_to_its_end() {
    let hub = Hub::new(MemoryStore::default());
    let mut subscriber = hub.subscribe(Subscription::new(channels(["a", "b"]))).await.unwrap();
    hub.append(&channel("a"), Append::new(events(["last"])).closing()).await.unwrap();
    assert_eq!(texts(&mut subscriber).await, ["last"]);
    assert!(matches!(next(&mut subscriber).await, Delivery::Closed(closed) if closed.channel == channel("a")));
    publish(&hub, "b", "others go on").await;
    assert_eq!(texts(&mut subscriber).await, ["others go on"]);
    assert!(!subscriber.at_end());
    hub.close(&channel("b")).await.unwrap();
    assert!(subscriber.at_end());
    assert!(matches!(next(&mut subscriber).await, Delivery::Closed(closed) if closed.channel == channel("b")));
    assert!(subscriber.next().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_resume_from_the_end_of_a_closed_channel_is_at_the_end() {
    let hub = Hub::new(MemoryStore::default());
    publish(&hub, "a", 1).await;
    let end = hub.close(&channel("a")).await.unwrap();
    let resume = Subscription::new(channel("a")).resume(&end.cursor.into());
    let subscriber = hub.subscribe(resume).await.unwrap();
    assert!(subscriber.at_end());
}

#[tokio::test(start_paused = true)]
async fn dropping_a_subscriber_at_any_point_is_the_normal_end() {
    let (hub, faults, _) = faulty();
    publish(&hub, "a", 1).await;
    publish(&hub, "b", 1).await;
    // Each call of the store takes a while, so that there is a point before, during and after it.
    faults.delay(Duration::from_millis(10));
    let (mut points, mut is_done) = (0, false);
    while !is_done {
        let reading = async {
            let of = Subscription::new(channels(["a", "b", "c"])).start(Start::Earliest);
            let mut subscriber = hub.subscribe(of).await.unwrap();
            assert_eq!(texts_of(&mut subscriber, 2).await, ["1", "1"]);
            assert_eq!(hub.stats().readers, 1);
            // It is parked, and nothing wakes it.
            _ = tokio::time::timeout(Duration::from_millis(10), subscriber.next()).await;
        };
        is_done = tokio::time::timeout(Duration::from_millis(points), reading).await.is_ok();
        assert_eq!(hub.stats().readers, 0, "dropped after {points} ms");
        // What was started for it ends, and what is kept for readers that come back is dropped.
        tokio::time::sleep(crate::LINGER + 2 * crate::CHECK_EVERY).await;
        let mut stats = hub.stats();
        stats.totals = Totals::default();
        assert_eq!((stats, faults.watchers()), (Stats::default(), 0), "dropped after {points} ms");
        points += 1;
    }
    assert!(points > 30, "{points} points");
}
