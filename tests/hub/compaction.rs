//! Readers that catch up through a compaction: what they share, where they resume, and what it must not cost.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use tower_events::{
    Compaction, Filter, Hub, HubOptions, Listen, MemoryStore, Retention, Store, SubscribeError, Subscription,
    store::{Limit, Reason, Start},
    testing::FaultStore,
};

use super::{logs::Logs, *};

/// Joins all texts, and counts how often it is called.
fn counted() -> (Compaction, Arc<AtomicUsize>) {
    let calls = Arc::new(AtomicUsize::new(0));
    let (count, joined) = (calls.clone(), Compaction::joined_text());
    let compaction = Compaction::new("counted", move |entries| {
        count.fetch_add(1, Relaxed);
        *entries = joined.compact(std::mem::take(entries));
    });
    (compaction, calls)
}

/// A store that keeps all of a test's events, and a hub that reads it in pages of 10.
fn small_pages() -> (MemoryStore, HubOptions) {
    let retention = Retention::default().events(100_000).bytes(64 << 20);
    (MemoryStore::new(retention), HubOptions::default().page(Limit::new(10, 256 << 10)))
}

/// The texts `from` to `to`, each with a dot.
fn dotted(numbers: std::ops::RangeInclusive<u32>) -> String {
    numbers.map(|n| format!("{n}.")).collect()
}

async fn append_dotted(store: &MemoryStore, numbers: std::ops::RangeInclusive<u32>) -> Vec<Cursor> {
    let written = Append::new(events(numbers.map(|n| format!("{n}."))));
    let appended = store.append(&channel("a"), written).await.unwrap();
    appended.entries.iter().map(|entry| entry.cursor).collect()
}

fn earliest() -> Subscription {
    Subscription::new(channel("a")).start(Start::Earliest)
}

#[tokio::test(start_paused = true)]
async fn readers_that_share_a_start_fold_once() {
    let (inner, options) = small_pages();
    let first = append_dotted(&inner, 1..=1).await[0];
    append_dotted(&inner, 2..=100).await;
    let (store, faults) = FaultStore::new(inner);
    let hub = Hub::with_options(store, options);
    for (resumes, text) in [(true, dotted(2..=100)), (false, dotted(1..=100))] {
        let (compaction, calls) = counted();
        // Their starts are read one by one; what follows is not.
        let answers = faults.hold_answers();
        let readers: Vec<_> = (0..100)
            .map(|_| {
                let (hub, compaction) = (hub.clone(), compaction.clone());
                let subscription =
                    if resumes { Subscription::new(channel("a")).resume(&first.into()) } else { earliest() };
                tokio::spawn(async move {
                    texts(&mut hub.subscribe(subscription.compaction(compaction)).await.unwrap()).await
                })
            })
            .collect();
        settle().await;
        drop(answers);
        for reader in readers {
            assert_eq!(reader.await.unwrap(), [text.as_str()]);
        }
        assert_eq!(calls.load(Relaxed), 10, "one call a page");
    }
}

#[tokio::test(start_paused = true)]
async fn a_reader_resumes_exactly_from_every_position() {
    let (store, options) = small_pages();
    let positions = append_dotted(&store, 1..=300).await;
    let hub = Hub::with_options(store, options);
    let compacted = |subscription: Subscription| subscription.compaction(Compaction::joined_text_up_to(20));
    let mut subscriber = hub.subscribe(compacted(earliest())).await.unwrap();
    let mut merged = Vec::new();
    while merged.last() != positions.last() {
        let Delivery::Events(events) = next(&mut subscriber).await else { panic!() };
        merged.extend(events.entries().map(|entry| entry.cursor));
    }
    assert!((40..100).contains(&merged.len()), "{}", merged.len());
    for (n, position) in positions.iter().enumerate().filter(|(_, position)| merged.contains(position)) {
        let resume = compacted(Subscription::new(channel("a")).resume(&(*position).into()));
        let rest = hub.listen(Listen::from(resume).wait(Duration::ZERO).limit(1_000)).await.unwrap();
        assert!(rest.resets.is_empty() && rest.live);
        let text: String = rest.entries().iter().filter_map(|entry| entry.data.as_text()).collect();
        assert_eq!(text, dotted(n as u32 + 2..=300), "after {n}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_published_while_a_reader_keeps_up_is_never_merged() {
    let (store, options) = small_pages();
    append_dotted(&store, 1..=30).await;
    let hub = Hub::with_options(store, options);
    let mut subscriber = hub.subscribe(earliest().compaction(Compaction::joined_text())).await.unwrap();
    assert_eq!(texts(&mut subscriber).await, [dotted(1..=30)]);
    hub.publish_all(&channel("a"), events(["31.", "32.", "33."])).await.unwrap();
    assert_eq!(texts(&mut subscriber).await, ["31.", "32.", "33."]);
}

/// Starts a reader of 30 entries after the first whose every call takes 10 ms: the head, then three pages.
async fn slow_fold() -> (Faults, MemoryStore, tokio::task::JoinHandle<Vec<String>>) {
    let (inner, options) = small_pages();
    let first = append_dotted(&inner, 0..=0).await[0];
    append_dotted(&inner, 1..=30).await;
    let (store, faults) = FaultStore::new(inner.clone());
    let hub = Hub::with_options(store, options.ring_bytes(1));
    faults.delay(Duration::from_millis(10));
    let resume = Subscription::new(channel("a")).resume(&first.into()).compaction(Compaction::joined_text());
    let reader = tokio::spawn(async move { texts_of(&mut hub.subscribe(resume).await.unwrap(), 2).await });
    tokio::time::sleep(Duration::from_millis(25)).await;
    (faults, inner, reader)
}

#[tokio::test(start_paused = true)]
async fn a_fold_ends_at_the_head_of_the_time_when_it_began() {
    let (_faults, store, reader) = slow_fold().await;
    append_dotted(&store, 31..=60).await;
    assert_eq!(reader.await.unwrap(), [dotted(1..=30), dotted(31..=60)], "it has fallen behind again");
}

#[tokio::test(start_paused = true)]
async fn a_read_that_fails_in_the_middle_costs_no_event() {
    let (faults, _store, reader) = slow_fold().await;
    faults.fail_next_reads(1);
    let texts = reader.await.unwrap();
    assert_eq!(texts.concat(), dotted(1..=30));
    assert!(texts[0] != dotted(1..=30), "what was read before is delivered first");
}

#[tokio::test(start_paused = true)]
async fn a_function_that_breaks_its_rules_costs_no_event_and_is_logged_once() {
    let logs = Logs::of_this_thread();
    let (store, options) = small_pages();
    append_dotted(&store, 1..=25).await;
    let hub = Hub::with_options(store, options);
    let expected: Vec<_> = (1..=25).map(|n| format!("{n}.")).collect();
    let reversed = Compaction::new("reversed", |entries| entries.reverse());
    let panics = Compaction::new("panics", |_| panic!("a test"));
    for compaction in [reversed, panics] {
        let mut subscriber = hub.subscribe(earliest().compaction(compaction.clone())).await.unwrap();
        assert_eq!(texts_of(&mut subscriber, 25).await, expected);
        assert_eq!(logs.text().matches(compaction.id()).count(), 1, "{}", logs.text());
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_filter_hides_is_in_no_merged_event_and_shared_with_nobody() {
    let (store, options) = small_pages();
    append_dotted(&store, 1..=40).await;
    let hub = Hub::with_options(store, options);
    let _others = hub.subscribe(Subscription::new(channel("a"))).await.unwrap();
    let divisible = |by: u64| {
        Filter::new(format!("by {by}"), move |entry| {
            // A merged text is not a number: the filter must have seen each part alone.
            entry
                .data
                .as_text()
                .and_then(|text| text.trim_end_matches('.').parse::<u64>().ok())
                .is_some_and(|n| n % by == 0)
        })
    };
    let compacted = earliest().compaction(Compaction::joined_text());
    for (by, expected) in [(10, "10.20.30.40."), (15, "15.30.")] {
        let mut subscriber = hub.subscribe(compacted.clone().filter(divisible(by))).await.unwrap();
        assert_eq!(texts(&mut subscriber).await, [expected]);
    }
    assert_eq!(texts(&mut hub.subscribe(compacted.clone()).await.unwrap()).await, [dotted(1..=40)]);
    let nothing = compacted.filter(divisible(41));
    let listened = hub.listen(Listen::from(nothing).wait(Duration::ZERO)).await.unwrap();
    assert!(listened.entries().is_empty() && listened.live);
    let resume = Subscription::new(channel("a")).filter(divisible(41)).resume(&listened.cursors);
    let after = hub.listen(Listen::from(resume).wait(Duration::ZERO)).await.unwrap();
    assert_eq!((after.cursors, after.resets), (listened.cursors, vec![]), "its position is the head");
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_leaves_a_folded_page_untouched_loses_it_and_resumes_where_it_was() {
    let (store, options) = small_pages();
    let hub = Hub::with_options(store.clone(), options);
    // More than one run, so that the reader still holds the page after the first.
    let written = Append::new(events((0..20).map(|n| format!("{n}{}", "x".repeat(10_000)))));
    store.append(&channel("a"), written).await.unwrap();
    let compacted = |subscription: Subscription| subscription.compaction(Compaction::joined_text_up_to(20_000));
    let mut subscriber = hub.subscribe(compacted(earliest())).await.unwrap();
    let first = texts(&mut subscriber).await.len();
    tokio::time::sleep(Duration::from_secs(301)).await;
    let failed = tokio::time::timeout(Duration::from_secs(1), subscriber.next()).await.unwrap().unwrap();
    assert!(matches!(failed, Err(SubscribeError::Stalled)), "{failed:?}");
    let resume = compacted(Subscription::new(channel("a")).resume(&subscriber.cursors()));
    let rest = texts_of(&mut hub.subscribe(resume).await.unwrap(), 20 - first).await;
    assert!(rest[0].starts_with(&format!("{first}x")), "{}", &rest[0][..5]);
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_is_too_far_behind_is_reset_to_the_head() {
    let (store, options) = small_pages();
    let positions = append_dotted(&store, 1..=100).await;
    let head = positions[99];
    let hub = Hub::with_options(store, options.ring_bytes(1));
    let bounded = || Subscription::new(channel("a")).max_behind(50);
    let resume = |at: usize| bounded().resume(&positions[at].into());
    let table = [
        ("exactly as far as allowed", resume(49), None),
        ("one more", resume(48), Some(Reason::Behind)),
        ("from the beginning", bounded().start(Start::Earliest), Some(Reason::Behind)),
        ("the last few", bounded().start(Start::Last(50)), None),
        ("after a time", bounded().start(Start::Time(1)), Some(Reason::Behind)),
        ("with nonsense", resuming_after_nonsense(channel("a")).max_behind(50), Some(Reason::Behind)),
        ("without a bound", Subscription::new(channel("a")).resume(&positions[0].into()), None),
    ];
    for (what, subscription, expected) in table {
        let mut subscriber = hub.subscribe(subscription).await.unwrap();
        match (next(&mut subscriber).await, expected) {
            (Delivery::Events(_), None) => {}
            (Delivery::Reset(reset), Some(reason)) => {
                assert_eq!((reset.reason, reset.earliest, reset.latest), (reason, head, head), "{what}");
                assert!(is_parked(&mut subscriber).await, "{what}");
                assert!(subscriber.is_live(), "{what}");
                assert_eq!(subscriber.cursors(), head.into(), "{what}");
            }
            (other, _) => panic!("{what}: {other:?}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_falls_too_far_behind_the_ring_is_reset_and_goes_on() {
    let (store, options) = small_pages();
    let hub = Hub::with_options(store, options.ring_bytes(1));
    let mut subscriber = hub.subscribe(Subscription::new(channel("a")).max_behind(50)).await.unwrap();
    for n in 1..=50 {
        publish(&hub, "a", n).await;
    }
    assert_eq!(texts_of(&mut subscriber, 50).await[49], "50", "not too far");
    for n in 51..=101 {
        publish(&hub, "a", n).await;
    }
    assert_eq!(reset(&mut subscriber).await.reason, Reason::Behind);
    publish(&hub, "a", "next").await;
    assert_eq!(texts(&mut subscriber).await, ["next"]);
}

#[tokio::test(start_paused = true)]
async fn only_the_channel_that_is_too_far_behind_is_reset() {
    let (store, options) = small_pages();
    append_dotted(&store, 1..=100).await;
    store.append(&channel("b"), Append::new(events(["b"]))).await.unwrap();
    let hub = Hub::with_options(store, options);
    let both = Subscription::new(channels(["a", "b"])).start(Start::Earliest).max_behind(50);
    let listened = hub.listen(Listen::from(both).wait(Duration::ZERO)).await.unwrap();
    let resets: Vec<_> = listened.resets.iter().map(|reset| (reset.channel.as_str(), reset.reason)).collect();
    assert_eq!(resets, [("a", Reason::Behind)]);
    let texts: Vec<_> = listened.entries().iter().filter_map(|entry| entry.data.as_text()).collect();
    assert_eq!(texts, ["b"]);
}
