//! Where history ends and live events begin, and whether any history is missing.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use tower_events::{
    HubOptions, Listen, MemoryStore, Retention, StoreError, Subscription,
    store::{Expect, Head, Limit, Page, Reason, Start},
};

use super::{
    patched_store::{Fault, PatchedStore},
    *,
};

#[tokio::test(start_paused = true)]
async fn a_subscription_is_live_once_its_history_is_delivered() {
    let hub = Hub::with_options(MemoryStore::default(), HubOptions::default().page(Limit::new(2, 1 << 20)));
    hub.publish_all(&channel("a"), events(0..5)).await.unwrap();
    let mut idle = hub.subscribe(Subscription::new(channel("a"))).await.unwrap();
    assert!(idle.is_live(), "nothing to catch up");
    let mut behind = hub.subscribe(Subscription::new(channels(["a", "b"])).start(Start::Earliest)).await.unwrap();
    assert!(!behind.is_live());
    // An event that is appended meanwhile is not history.
    publish(&hub, "a", 5).await;
    let mut seen = Vec::new();
    while !behind.is_live() {
        seen.extend(texts(&mut behind).await);
    }
    assert!(seen.len() >= 5 && seen.len() <= 6, "{seen:?}");
    assert_eq!(texts(&mut idle).await, ["5"]);
    assert!(idle.is_live());
}

#[tokio::test(start_paused = true)]
async fn a_start_is_decided_when_subscribing_returns() {
    for names in [&["a"][..], &["a", "b"]] {
        let names = Channels::new(names.iter().map(|name| channel(name))).unwrap();
        for start in [Start::Earliest, Start::Beginning, Start::Time(0), Start::Last(3)] {
            let page = Limit::new(2, 1 << 20);
            let hub = Hub::with_options(MemoryStore::default(), HubOptions::default().page(page).ring_bytes(1));
            hub.publish_all(&channel("a"), events(0..3)).await.unwrap();
            let mut reader = hub.subscribe(Subscription::new(names.clone()).start(start)).await.unwrap();
            let from = reader.cursors();
            // Events that are appended meanwhile do not move the start.
            hub.publish_all(&channel("a"), events(3..5)).await.unwrap();
            let mut seen = Vec::new();
            while !reader.is_live() {
                seen.extend(texts(&mut reader).await);
            }
            assert!(seen.len() == 3 || seen.len() == 4, "{start:?}: {seen:?}");
            let mut again = hub.subscribe(Subscription::new(names.clone()).resume(&from)).await.unwrap();
            assert_eq!(texts_of(&mut again, 5).await, ["0", "1", "2", "3", "4"], "{start:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_resumes_among_recent_events_is_live_after_those_of_that_time() {
    let hub = Hub::with_options(MemoryStore::default(), HubOptions::default().ring_bytes(1 << 20));
    // It makes the hub follow the channel, so that the ring holds recent events. Each event fills a delivery.
    let _other = hub.subscribe(Subscription::new(channel("a"))).await.unwrap();
    let large = |text: &str| Event::text(text.repeat(40 << 10));
    let first = hub.publish(&channel("a"), large("1")).await.unwrap();
    for text in ["2", "3"] {
        hub.publish(&channel("a"), large(text)).await.unwrap();
    }
    let mut reader = hub.subscribe(Subscription::new(channel("a")).resume(&first.cursor.into())).await.unwrap();
    let last = hub.publish(&channel("a"), large("4")).await.unwrap();
    let mut live = vec![reader.is_live()];
    for _ in 2..=4 {
        texts(&mut reader).await;
        live.push(reader.is_live());
    }
    assert_eq!(live, [false, false, true, true]);
    let at_head = hub.subscribe(Subscription::new(channel("a")).resume(&last.cursor.into())).await.unwrap();
    assert!(at_head.is_live());
}

#[tokio::test(start_paused = true)]
async fn after_a_reset_a_subscription_is_live_once_the_retained_events_are_delivered() {
    let hub = Hub::with_options(MemoryStore::default(), HubOptions::default().page(Limit::new(2, 1 << 20)));
    hub.publish_all(&channel("a"), events(0..3)).await.unwrap();
    let mut subscriber = hub.subscribe(Subscription::new(channel("a"))).await.unwrap();
    assert!(subscriber.is_live());
    hub.init(&channel("a"), events(10..15)).await.unwrap();
    settle().await;
    assert_eq!(reset(&mut subscriber).await.reason, Reason::EpochChanged);
    assert!(!subscriber.is_live());
    assert_eq!(texts_of(&mut subscriber, 5).await.len(), 5);
    assert!(subscriber.is_live());
    hub.delete(&channel("a")).await.unwrap();
    settle().await;
    reset(&mut subscriber).await;
    assert!(subscriber.is_live(), "nothing is left to deliver");
}

#[tokio::test(start_paused = true)]
async fn a_poll_reports_whether_it_saw_every_channel_at_its_head() {
    let hub = Hub::new(MemoryStore::default());
    hub.publish_all(&channel("a"), events(0..5)).await.unwrap();
    let earliest = Subscription::new(channels(["a", "b"])).start(Start::Earliest);
    let poll = |limit| Listen::from(earliest.clone()).limit(limit).wait(Duration::ZERO);
    for (limit, live) in [(4, false), (6, true)] {
        let seen = hub.listen(poll(limit)).await.unwrap();
        assert_eq!((seen.entries().len(), seen.live), (limit.min(5), live));
    }
}

/// What a start at the beginning gives: the reason of a reset, and the texts that are left.
async fn from_the_beginning(hub: &Hub) -> (Option<Reason>, Vec<String>) {
    let start = Subscription::new(channel("a")).start(Start::Beginning);
    let seen = hub.listen(Listen::from(start).wait(Duration::ZERO)).await.unwrap();
    let texts = seen.entries().iter().map(|entry| entry.data.as_text().unwrap().to_owned()).collect();
    (seen.resets.first().map(|reset| reset.reason), texts)
}

#[tokio::test(start_paused = true)]
async fn a_start_at_the_beginning_reports_whether_anything_was_dropped() {
    let hub = Hub::new(MemoryStore::new(Retention::default().events(4)));
    assert_eq!(from_the_beginning(&hub).await, (None, vec![]));
    for n in 0..4 {
        publish(&hub, "a", n).await;
        assert_eq!(from_the_beginning(&hub).await.0, None);
    }
    publish(&hub, "a", 4).await;
    let left = ["1", "2", "3", "4"].map(str::to_owned).to_vec();
    assert_eq!(from_the_beginning(&hub).await, (Some(Reason::Trimmed), left.clone()));
    // A start at the earliest event reports no reset.
    let earliest = hub.listen(Subscription::new(channel("a")).start(Start::Earliest)).await.unwrap();
    assert!(earliest.resets.is_empty() && earliest.entries().len() == 4);
    hub.store().init(&channel("a"), events(0..2), Expect::Any).await.unwrap();
    assert_eq!(from_the_beginning(&hub).await.0, None, "a replaced history has a new beginning");
    hub.delete(&channel("a")).await.unwrap();
    assert_eq!(from_the_beginning(&hub).await, (None, vec![]));
}

#[tokio::test(start_paused = true)]
async fn a_subscription_is_live_at_the_end_of_a_log_that_lost_its_tail() {
    let inner = MemoryStore::default();
    append(&inner, 0..10).await;
    let options = HubOptions::default().page(Limit::new(3, 1 << 20));
    let hub = Hub::with_options(inner.clone(), options);
    let mut subscriber = hub.subscribe(Subscription::new(channel("a")).start(Start::Earliest)).await.unwrap();
    assert_eq!(texts(&mut subscriber).await, ["0", "1", "2"]);
    inner.lose_tail(&channel("a"), 5);
    assert_eq!(texts(&mut subscriber).await, ["3", "4"]);
    assert!(is_parked(&mut subscriber).await);
    assert!(subscriber.is_live());

    // Nothing that it should read is retained.
    let both = Subscription::new(channels(["a", "b"])).start(Start::Earliest);
    let mut subscriber = hub.subscribe(both).await.unwrap();
    inner.lose_tail(&channel("a"), 5);
    assert!(!subscriber.is_live());
    assert!(is_parked(&mut subscriber).await);
    assert!(subscriber.is_live());
}

#[tokio::test(start_paused = true)]
async fn a_start_by_time_filters_only_events_that_were_stored_when_it_was_decided() {
    let hub = Hub::new(MemoryStore::default());
    let at = |time: u64, text: &str| Event::text(text).at(time).unwrap();
    for name in ["a", "b"] {
        hub.publish(&channel(name), at(50, "filtered")).await.unwrap();
        hub.publish(&channel(name), at(150, "wanted")).await.unwrap();
    }
    let both = Subscription::new(channels(["a", "b"])).start(Start::Time(100));
    let mut subscriber = hub.subscribe(both.clone()).await.unwrap();
    // One channel waits until the page of the other one is delivered.
    for name in ["a", "b"] {
        hub.publish(&channel(name), at(50, "since")).await.unwrap();
    }
    let mut seen = texts_of(&mut subscriber, 4).await;
    seen.sort();
    assert_eq!(seen, ["since", "since", "wanted", "wanted"]);

    let mut subscriber = hub.subscribe(both).await.unwrap();
    for name in ["a", "b"] {
        hub.init(&channel(name), vec![at(50, "anew")]).await.unwrap();
    }
    let (mut resets, mut seen) = (0, Vec::new());
    while let Ok(delivery) = tokio::time::timeout(Duration::from_secs(1), next(&mut subscriber)).await {
        match delivery {
            Delivery::Reset(reset) => resets += u32::from(reset.reason == Reason::EpochChanged),
            Delivery::Events(events) => {
                seen.extend(events.entries().map(|entry| entry.data.as_text().unwrap().to_owned()));
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((resets, seen.iter().filter(|text| *text == "anew").count()), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn a_start_by_time_is_reset_when_the_log_loses_its_tail_before_it_is_read() {
    let old = || Event::text("filtered").at(50).unwrap();
    for grown_again in [0, 1] {
        let inner = MemoryStore::default();
        let hub = Hub::new(inner.clone());
        for name in ["a", "b"] {
            inner.append(&channel(name), Append::new([old(), old()])).await.unwrap();
        }
        let both = Subscription::new(channels(["a", "b"])).start(Start::Time(100));
        let mut subscriber = hub.subscribe(both).await.unwrap();
        for name in ["a", "b"] {
            inner.lose_tail(&channel(name), 1);
            let again = (0..grown_again).map(|_| old());
            inner.append(&channel(name), Append::new(again)).await.unwrap();
        }
        for _ in 0..2 {
            let Delivery::Reset(reset) = next(&mut subscriber).await else { panic!("no reset") };
            assert_eq!(reset.reason, [Reason::Ahead, Reason::EpochChanged][grown_again]);
            // What is left is delivered again.
            assert_eq!(texts(&mut subscriber).await.len(), 1 + grown_again);
        }
    }
}

/// A store that can be switched to another history of the same channels.
struct Replaced {
    by: MemoryStore,
    is_replaced: AtomicBool,
}

impl Replaced {
    fn current<'a>(&'a self, inner: &'a MemoryStore) -> &'a MemoryStore {
        if self.is_replaced.load(Relaxed) { &self.by } else { inner }
    }
}

impl Fault for Replaced {
    async fn read(
        &self,
        inner: &MemoryStore,
        channel: &Channel,
        start: Start,
        limit: Limit,
    ) -> Result<Page, StoreError> {
        self.current(inner).read(channel, start, limit).await
    }

    async fn heads(&self, inner: &MemoryStore, channels: &[Channel]) -> Result<Vec<Head>, StoreError> {
        self.current(inner).heads(channels).await
    }
}

#[tokio::test(start_paused = true)]
async fn a_start_by_time_is_reset_when_the_events_that_it_asked_for_belong_to_another_history() {
    let at = |time: u64| Event::text(time.to_string()).at(time).unwrap();
    let (inner, by) = (MemoryStore::default(), MemoryStore::default());
    let names = channels(["a", "b"]);
    for name in &names {
        inner.append(name, Append::new([50, 150, 150, 150, 150].map(at))).await.unwrap();
        // Its new event lies between the start and the head of that time.
        by.append(name, Append::new([50, 50, 151].map(at))).await.unwrap();
    }
    let replaced = Arc::new(Replaced { by, is_replaced: AtomicBool::new(false) });
    let hub = Hub::new(PatchedStore::new(inner, replaced.clone()));
    let mut subscriber = hub.subscribe(Subscription::new(names.clone()).start(Start::Time(100))).await.unwrap();
    replaced.is_replaced.store(true, Relaxed);
    for _ in &names {
        assert_eq!(reset(&mut subscriber).await.reason, Reason::EpochChanged);
        assert_eq!(texts(&mut subscriber).await, ["50", "50", "151"]);
    }
}

/// A store that takes its time to read after a position.
struct SlowAfter;

impl Fault for SlowAfter {
    async fn read(
        &self,
        inner: &MemoryStore,
        channel: &Channel,
        start: Start,
        limit: Limit,
    ) -> Result<Page, StoreError> {
        if let Start::After(_) = start {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        inner.read(channel, start, limit).await
    }
}

#[tokio::test(start_paused = true)]
async fn a_start_by_time_is_reset_when_its_log_was_deleted_of_which_the_ring_does_not_know_yet() {
    let new = || Event::text("new").at(150).unwrap();
    for last in [Append::new([]).closing(), Append::new([new()])] {
        let inner = MemoryStore::default();
        let hub = Hub::new(PatchedStore::new(inner.clone(), Arc::new(SlowAfter)));
        inner.append(&channel("a"), Append::new([new(), new()])).await.unwrap();
        let both = Subscription::new(channels(["a", "b"])).start(Start::Time(100));
        let mut subscriber = hub.subscribe(both).await.unwrap();
        hub.append(&channel("a"), last).await.unwrap();
        inner.delete(&channel("a")).await.unwrap();
        // Neither the end of the deleted log nor what followed the start in it: two events before are missing.
        assert_eq!(reset(&mut subscriber).await.reason, Reason::Trimmed);
        let nothing = tokio::time::timeout(crate::CHECK_EVERY * 3, subscriber.next()).await;
        assert!(nothing.is_err() && subscriber.is_live(), "{nothing:?}");
    }
}

/// A store that never answers reads after a position. The channel `corrupt` cannot be read.
struct NothingAfter;

impl Fault for NothingAfter {
    async fn read(
        &self,
        inner: &MemoryStore,
        channel: &Channel,
        start: Start,
        limit: Limit,
    ) -> Result<Page, StoreError> {
        if channel.as_str() == "corrupt" {
            return Err(StoreError::Corrupt("a fault on purpose".into()));
        }
        if let Start::After(_) = start {
            std::future::pending::<()>().await;
        }
        inner.read(channel, start, limit).await
    }
}

#[tokio::test(start_paused = true)]
async fn a_subscription_is_live_at_the_end_of_its_history_even_if_all_of_that_was_filtered() {
    let inner = MemoryStore::default();
    let store = PatchedStore::new(inner.clone(), Arc::new(NothingAfter));
    let hub = Hub::with_options(store, HubOptions::default().ring_bytes(1));
    let old = || Event::text("old").at(50).unwrap();
    inner.append(&channel("a"), Append::new([old()])).await.unwrap();
    // Of several channels, the position of each is decided before its page is read.
    let since = Subscription::new(channels(["a", "corrupt"])).start(Start::Time(100));
    let mut subscriber = hub.subscribe(since).await.unwrap();
    inner.append(&channel("a"), Append::new([old(), old(), old()])).await.unwrap();
    assert!(matches!(next(&mut subscriber).await, Delivery::Failed(_)));
    assert!(!subscriber.is_live());
    // Events that were appended since are not filtered, and take another read.
    let nothing = tokio::time::timeout(Duration::from_secs(1), subscriber.next()).await;
    assert!(nothing.is_err() && subscriber.is_live(), "{nothing:?}");
}

#[tokio::test(start_paused = true)]
async fn a_start_by_time_is_not_reset_when_only_what_it_has_yet_to_read_was_replaced() {
    let inner = MemoryStore::default();
    let hub = Hub::new(inner.clone());
    let names = channels(["a", "b"]);
    let append = async |name: &Channel, time: u64| {
        let event = Event::text(time.to_string()).at(time).unwrap();
        inner.append(name, Append::new([event])).await.unwrap();
    };
    for name in &names {
        append(name, 50).await;
        append(name, 150).await;
    }
    let mut subscriber = hub.subscribe(Subscription::new(names.clone()).start(Start::Time(100))).await.unwrap();
    for name in &names {
        inner.lose_tail(name, 1);
        append(name, 151).await;
    }
    assert_eq!(texts_of(&mut subscriber, 2).await, ["151", "151"]);
    let nothing = tokio::time::timeout(crate::CHECK_EVERY * 3, subscriber.next()).await;
    assert!(nothing.is_err() && subscriber.is_live(), "{nothing:?}");
}

#[tokio::test(start_paused = true)]
async fn a_reset_of_a_start_by_time_names_no_position_after_what_follows() {
    let inner = MemoryStore::new(Retention::default().events(2));
    let hub = Hub::new(inner.clone());
    let publish = async |name: &str, time: u64| {
        let event = Event::text(time.to_string()).at(time).unwrap();
        inner.append(&channel(name), Append::new([event])).await.unwrap()
    };
    for name in ["a", "b"] {
        publish(name, 500).await;
        publish(name, 50).await;
    }
    let both = Subscription::new(channels(["a", "b"])).start(Start::Time(100));
    let mut subscriber = hub.subscribe(both).await.unwrap();
    for name in ["a", "b"] {
        // It displaces the only event that is new enough; it was not stored yet at the start.
        publish(name, 51).await;
    }
    let (mut resets, mut follows) = (Vec::new(), Vec::new());
    for _ in 0..4 {
        match next(&mut subscriber).await {
            Delivery::Reset(reset) => resets.push((reset.channel, reset.reason, reset.earliest)),
            Delivery::Events(events) => {
                let first = events.entries().next().unwrap();
                let reset = (first.channel.clone(), Reason::Trimmed, first.prev());
                assert!(first.data.as_text() == Some("51") && resets.contains(&reset), "{first:?} after {resets:?}");
                follows.push(reset);
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(follows.len(), 2);
}
