//! Many readers that come back at once: one read of the store serves them all, and none depends on another.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{task::JoinSet, time::Instant};
use tower_events::{
    Hub, HubOptions, Listen, MemoryStore, Retention, Store, StoreError, Subscription,
    store::{Limit, Page, Start},
    testing::FaultStore,
};

use super::{
    patched_store::{Fault, PatchedStore},
    *,
};

#[tokio::test(start_paused = true)]
async fn a_thousand_readers_that_resume_from_one_position_cost_one_read() {
    let inner = MemoryStore::default();
    append(&inner, [1]).await;
    let from = inner.heads(&[channel("a")]).await.unwrap()[0].cursor;
    append(&inner, 2..=50).await;
    let (store, faults) = FaultStore::new(inner);
    let hub = Hub::new(store);
    let _live = hub.subscribe(Subscription::new(channel("a"))).await.unwrap();
    settle().await;
    let answers = faults.hold_answers();
    let readers: Vec<_> = (0..1_000)
        .map(|_| {
            let hub = hub.clone();
            tokio::spawn(async move {
                let resume = Subscription::new(channel("a")).resume(&from.into());
                texts_of(&mut hub.subscribe(resume).await.unwrap(), 49).await
            })
        })
        .collect();
    answers.reached_by(1).await;
    settle().await;
    assert_eq!(faults.reads(), 1);
    drop(answers);
    for reader in readers {
        assert_eq!(reader.await.unwrap()[48], "50");
    }
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_resumes_where_another_did_costs_no_read() {
    let inner = MemoryStore::default();
    append(&inner, [1]).await;
    let from = inner.heads(&[channel("a")]).await.unwrap()[0].cursor;
    append(&inner, 2..=500).await;
    let (store, faults) = FaultStore::new(inner);
    let hub = Hub::new(store);
    let _live = hub.subscribe(Subscription::new(channel("a"))).await.unwrap();
    let resume = || hub.subscribe(Subscription::new(channel("a")).resume(&from.into()));
    let expected: Vec<_> = (2..=500).map(|n| n.to_string()).collect();
    assert_eq!(texts_of(&mut resume().await.unwrap(), 499).await, expected);
    let reads = faults.reads();
    publish(&hub, "a", 501).await;
    assert_eq!(texts_of(&mut resume().await.unwrap(), 500).await[..499], expected);
    assert_eq!(faults.reads(), reads);
}

#[tokio::test(start_paused = true)]
async fn a_reader_does_not_wait_for_a_page_that_ends_before_its_position() {
    let inner = MemoryStore::default();
    let written = Append::new(events((0..100).map(|n| format!("{n} {}", "x".repeat(1000)))));
    let entries = inner.append(&channel("a"), written).await.unwrap().entries;
    let positions: Vec<_> = entries.iter().map(|entry| entry.cursor).collect();
    let (store, faults) = FaultStore::new(inner);
    // A page has room for 1 000 entries by number, and for about four by size.
    let hub = Hub::with_options(store, HubOptions::default().page(Limit::new(1000, 4500)));
    let resume = |at: usize| {
        let (hub, from) = (hub.clone(), positions[at]);
        async move { texts(&mut hub.subscribe(Subscription::new(channel("a")).resume(&from.into())).await.unwrap()).await }
    };
    let _live = hub.subscribe(Subscription::new(channel("a"))).await.unwrap();
    assert!(resume(0).await[0].starts_with("1 "), "how many entries a page holds is known from here on");
    tokio::time::sleep(Duration::from_secs(10)).await;
    let (before, answers) = (faults.reads(), faults.hold_answers());
    let readers = [tokio::spawn(resume(10)), tokio::spawn(resume(50))];
    answers.reached_by(2).await;
    assert_eq!(faults.reads(), before + 2);
    drop(answers);
    for (reader, first) in readers.into_iter().zip(["11 ", "51 "]) {
        assert!(reader.await.unwrap()[0].starts_with(first));
    }
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_shares_a_read_does_not_depend_on_the_one_that_began_it() {
    let (hub, faults, inner) = faulty();
    append(&inner, [1]).await;
    let from = inner.heads(&[channel("a")]).await.unwrap()[0].cursor;
    append(&inner, [2]).await;
    let answers = faults.hold_answers();
    let resume = || Subscription::new(channel("a")).resume(&from.into());
    let mut first = Box::pin(hub.subscribe(resume()));
    assert!(tokio::time::timeout(Duration::ZERO, &mut first).await.is_err());
    let second = tokio::spawn({
        let (hub, resume) = (hub.clone(), resume());
        async move { texts(&mut hub.subscribe(resume).await.unwrap()).await }
    });
    answers.reached_by(1).await;
    settle().await;
    drop(first);
    drop(answers);
    assert_eq!(second.await.unwrap(), ["2"]);
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_joins_an_old_read_does_not_rely_on_its_result() {
    let inner = MemoryStore::default();
    let (store, faults) = FaultStore::new(inner.clone());
    let hub = Hub::with_options(store, HubOptions::default().ring_bytes(1));
    let _live = hub.subscribe(Subscription::new(channel("a"))).await.unwrap();
    settle().await;
    // Another process appends, and its client comes here before the hint reaches this process.
    let hints = faults.hold_hints();
    append(&inner, [1]).await;
    let from = inner.heads(&[channel("a")]).await.unwrap()[0].cursor;
    let resume = || {
        let (hub, resume) = (hub.clone(), Subscription::new(channel("a")).resume(&from.into()));
        tokio::spawn(async move {
            let mut subscriber = hub.subscribe(resume).await.unwrap();
            tokio::time::timeout(Duration::from_secs(60), texts_of(&mut subscriber, 2))
                .await
                .expect("the reader is not left waiting")
        })
    };
    let answers = faults.hold_answers();
    let first = resume();
    answers.reached_by(1).await;
    // The answer says that nothing follows, but the ring has advanced by the time the second reader shares it.
    drop(hints);
    settle().await;
    append(&inner, [2]).await;
    append(&inner, [3]).await;
    settle().await;
    let second = resume();
    settle().await;
    drop(answers);
    for reader in [first, second] {
        assert_eq!(reader.await.unwrap(), ["2", "3"]);
    }
}

#[tokio::test(start_paused = true)]
async fn all_readers_that_start_at_the_head_share_one_request_for_it() {
    let (hub, faults, _) = faulty();
    let names = Channels::new((0..32).map(|n| channel(&n.to_string()))).unwrap();
    let mut starting = JoinSet::new();
    for _ in 0..100 {
        for subscription in [Subscription::new(channel("a")), Subscription::new(names.clone())] {
            let hub = hub.clone();
            starting.spawn(async move { hub.subscribe(subscription).await.unwrap() });
        }
    }
    let readers = starting.join_all().await;
    assert_eq!(faults.reads(), 0);
    assert!(faults.heads() <= 3, "one or two requests, and a comparison: {}", faults.heads());
    publish(&hub, "a", 1).await;
    for mut reader in readers.into_iter().filter(|reader| reader.channels().len() == 1) {
        assert_eq!(texts(&mut reader).await, ["1"]);
    }
}

#[tokio::test(start_paused = true)]
async fn all_readers_that_come_back_to_a_head_share_one_request_for_it() {
    let inner = MemoryStore::default();
    append(&inner, [1]).await;
    let head = inner.heads(&[channel("a")]).await.unwrap()[0].cursor;
    let (store, faults) = FaultStore::new(inner);
    let hub = Hub::new(store);
    let mut starting = JoinSet::new();
    for _ in 0..100 {
        let (hub, resume) = (hub.clone(), Subscription::new(channel("a")).resume(&head.into()));
        starting.spawn(async move { hub.subscribe(resume).await.unwrap() });
    }
    for mut reader in starting.join_all().await {
        assert!(is_parked(&mut reader).await);
    }
    assert_eq!(faults.reads(), 0);
    assert!(faults.heads() <= 3, "{}", faults.heads());
}

#[tokio::test(start_paused = true)]
async fn all_callers_that_ask_for_a_head_share_one_request_for_it() {
    let (hub, faults, _) = faulty();
    let mut asking = JoinSet::new();
    for _ in 0..100 {
        let hub = hub.clone();
        asking.spawn(async move { hub.heads(&channels(["a", "b"])).await.unwrap() });
    }
    asking.join_all().await;
    assert!(faults.heads() <= 2, "{}", faults.heads());
}

#[tokio::test(start_paused = true)]
async fn readers_that_come_back_to_different_positions_of_one_history_share_its_pages() {
    // Ten pages of a hundred events; none fits into the ring.
    let inner = MemoryStore::new(Retention::default().events(1_000));
    let mut cursors = Vec::new();
    for n in 0..1_000 {
        append(&inner, [n]).await;
        cursors.push(inner.heads(&[channel("a")]).await.unwrap()[0].cursor);
    }
    let (store, faults) = FaultStore::new(inner);
    let options = HubOptions::default().ring_bytes(1).page(Limit::new(100, 1 << 20));
    let hub = Hub::with_options(store, options);
    faults.delay(Duration::from_millis(5));
    let mut coming_back = JoinSet::new();
    let expected: Arc<Vec<_>> = Arc::new((0..1_000).map(|n| n.to_string()).collect());
    for n in 0..1_000 {
        let from = fastrand::usize(..999);
        let (hub, resume) = (hub.clone(), Subscription::new(channel("a")).resume(&cursors[from].into()));
        let expected = expected.clone();
        coming_back.spawn(async move {
            tokio::time::sleep(Duration::from_micros(10 * n)).await;
            let mut reader = hub.subscribe(resume).await.unwrap();
            assert_eq!(texts_of(&mut reader, 999 - from).await, expected[from + 1..]);
        });
    }
    coming_back.join_all().await;
    // If each reader read for itself, it would take five times as many.
    assert!(faults.reads() <= 1_000, "{} reads for ten pages", faults.reads());
}

/// A store that never answers a read after a cursor.
struct HangsAfterCursors;

impl Fault for HangsAfterCursors {
    async fn read(
        &self,
        inner: &MemoryStore,
        channel: &Channel,
        start: Start,
        limit: Limit,
    ) -> Result<Page, StoreError> {
        match start {
            Start::After(_) => std::future::pending().await,
            start => inner.read(channel, start, limit).await,
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_start_is_decided_by_another_read_where_the_shared_page_ends_before_it() {
    let inner = MemoryStore::default();
    let mut cursors = Vec::new();
    for n in 0..50 {
        append(&inner, [n]).await;
        cursors.push(inner.heads(&[channel("a")]).await.unwrap()[0].cursor);
    }
    let (store, faults) = FaultStore::new(inner);
    // A page may hold 100 events, and holds fewer.
    let hub = Hub::with_options(store, HubOptions::default().ring_bytes(1).page(Limit::new(100, 100)));
    let call = Duration::from_secs(1);
    faults.delay(call);
    let start = Instant::now();
    let subscribing = [0, 40].map(|from| {
        let (hub, resume) = (hub.clone(), Subscription::new(channel("a")).resume(&cursors[from].into()));
        tokio::spawn(async move { (hub.subscribe(resume).await.unwrap(), start.elapsed()) })
    });
    // Each waits for the head, then for the first page; the second reader needs another one.
    for (subscribing, calls) in subscribing.into_iter().zip([2, 3]) {
        assert_eq!(subscribing.await.unwrap().1, call * calls);
    }
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_waits_for_a_read_takes_what_another_reader_put_into_the_ring() {
    let inner = MemoryStore::default();
    append(&inner, [1, 2]).await;
    let second = inner.heads(&[channel("a")]).await.unwrap()[0].cursor;
    append(&inner, [3]).await;
    let hub = Hub::new(PatchedStore::new(inner, Arc::new(HangsAfterCursors)));
    let mut behind = Box::pin(hub.subscribe(Subscription::new(channel("a")).resume(&second.into())));
    assert!(tokio::time::timeout(Duration::from_secs(1), &mut behind).await.is_err(), "it waits for the store");
    let mut earliest = hub.subscribe(Subscription::new(channel("a")).start(Start::Earliest)).await.unwrap();
    assert_eq!(texts(&mut earliest).await, ["1", "2", "3"]);
    assert_eq!(texts(&mut behind.await.unwrap()).await, ["3"], "from the ring, which the other reader's page filled");
}

/// A store that records the limits of reads.
#[derive(Default)]
struct RecordsLimits(Mutex<Vec<Limit>>);

impl Fault for RecordsLimits {
    async fn read(
        &self,
        inner: &MemoryStore,
        channel: &Channel,
        start: Start,
        limit: Limit,
    ) -> Result<Page, StoreError> {
        self.0.lock().unwrap().push(limit);
        inner.read(channel, start, limit).await
    }
}

#[tokio::test(start_paused = true)]
async fn a_poll_reads_no_more_than_it_may_return() {
    let (inner, recorded) = (MemoryStore::default(), Arc::<RecordsLimits>::default());
    append(&inner, 0..50).await;
    let hub = Hub::new(PatchedStore::new(inner, recorded.clone()));
    for (start, limit) in [(Start::Earliest, 1), (Start::Last(7), 3), (Start::Earliest, usize::MAX)] {
        let poll = Listen::from(Subscription::new(channel("a")).start(start)).limit(limit).wait(Duration::ZERO);
        assert_eq!(hub.listen(poll).await.unwrap().entries().len(), limit.min(50));
    }
    let read: Vec<_> = recorded.0.lock().unwrap().iter().map(|limit| limit.events).collect();
    assert_eq!(read, [1, 3, 1_000]);
}

#[tokio::test(start_paused = true)]
async fn pages_of_many_channels_are_read_one_at_a_time() {
    let (hub, faults, _) = faulty();
    let names = Channels::new((0..32).map(|n| channel(&n.to_string()))).unwrap();
    for name in &names {
        hub.publish_all(name, events(0..50)).await.unwrap();
    }
    let read = Duration::from_millis(10);
    faults.delay(read);
    let start = Instant::now();
    let mut reader = hub.subscribe(Subscription::new(names).start(Start::Earliest)).await.unwrap();
    assert_eq!(start.elapsed(), read, "all starts are decided at once");
    assert_eq!(texts_of(&mut reader, 32 * 50).await.len(), 32 * 50);
    assert_eq!((faults.reads(), start.elapsed()), (64, read * 33), "then one page after another");
}

#[tokio::test(start_paused = true)]
async fn readers_that_come_back_to_the_head_read_nothing() {
    let (hub, faults, inner) = faulty();
    append(&inner, [1]).await;
    let head = inner.heads(&[channel("a")]).await.unwrap()[0].cursor;
    let mut coming = JoinSet::new();
    for _ in 0..200 {
        let (hub, resume) = (hub.clone(), Subscription::new(channel("a")).resume(&head.into()));
        coming.spawn(async move { hub.subscribe(resume).await.unwrap() });
    }
    let mut readers = coming.join_all().await;
    settle().await;
    assert_eq!(faults.reads(), 0);
    assert!(faults.heads() <= 3, "{} calls for heads", faults.heads());
    append(&inner, [2]).await;
    for reader in &mut readers {
        assert_eq!(texts(reader).await, ["2"]);
    }
}

#[tokio::test(start_paused = true)]
async fn pages_of_several_channels_are_read_in_turn() {
    let page = Limit::new(1, 1 << 20);
    let hub = Hub::with_options(MemoryStore::default(), HubOptions::default().page(page).ring_bytes(1));
    let names = channels(["a", "b"]);
    for name in &names {
        hub.publish_all(name, events(0..6)).await.unwrap();
    }
    let mut reader = hub.subscribe(Subscription::new(names).start(Start::Earliest)).await.unwrap();
    let mut order = Vec::new();
    while order.len() < 12 {
        let Delivery::Events(events) = next(&mut reader).await else { panic!() };
        order.extend(events.entries().map(|entry| entry.channel.clone()));
    }
    assert!(order.windows(2).all(|pair| pair[0] != pair[1]), "{order:?}");
}

#[tokio::test(start_paused = true)]
async fn one_page_is_held_at_a_time_and_the_next_is_read_when_it_is_delivered() {
    for events_of_page in [1, 100] {
        let (store, faults) = FaultStore::new(MemoryStore::default());
        let page = Limit::new(events_of_page, 1 << 20);
        let hub = Hub::with_options(store, HubOptions::default().page(page));
        for name in ["a", "b"] {
            // Two of them fill a delivery.
            hub.publish_all(&channel(name), (0..6).map(|_| Event::text("x".repeat(30 << 10)))).await.unwrap();
        }
        let both = Subscription::new(channels(["a", "b"])).start(Start::Earliest);
        let mut reader = hub.subscribe(both).await.unwrap();
        settle().await;
        // The position of each channel, and the first page of one.
        assert_eq!(faults.reads(), 3);
        let pages = if events_of_page == 1 { 6 } else { 3 };
        for taken in 1..pages {
            texts(&mut reader).await;
            settle().await;
            // A page of 100 events is still being delivered.
            let max = if events_of_page == 1 { taken + 1 } else { 1 };
            assert!(faults.reads() - 2 <= max, "{} pages after {taken} deliveries", faults.reads() - 2);
        }
        texts_of(&mut reader, 12 - if events_of_page == 1 { 5 } else { 4 }).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_poll_of_many_channels_gathers_from_all_of_them() {
    let (hub, faults, _) = faulty();
    faults.delay(Duration::from_millis(20));
    let names = Channels::new((0..32).map(|n| channel(&n.to_string()))).unwrap();
    for name in &names {
        publish(&hub, name.as_str(), "x").await;
    }
    for start in [Start::Earliest, Start::Beginning, Start::Last(1), Start::Time(0)] {
        let poll = Subscription::new(names.clone()).start(start);
        let seen = hub.listen(Listen::from(poll).wait(Duration::ZERO)).await.unwrap();
        assert_eq!((seen.entries().len(), seen.live), (32, true), "{start:?}");
    }
}
