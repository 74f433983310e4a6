//! What the memory store guarantees beyond the contract.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::{
    future::poll_fn,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Wake, Waker},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use futures_core::Stream;
use tower_events::{
    Channel, Event, MemoryStore, Retention, Store, StoreError,
    store::{AnyStore, Append, Change, Clock, Expect, Health, Limit, Outcome, Reason, Start, Unit, Upkeep},
};

fn channel() -> Channel {
    Channel::new("a").unwrap()
}

/// A store and the time of its clock, which starts at 0.
fn with_manual_clock(retention: Retention) -> (MemoryStore, Arc<AtomicU64>) {
    let now = Arc::new(AtomicU64::new(0));
    let clock = now.clone();
    (MemoryStore::new(retention).clock(Clock::new(move || clock.load(Relaxed))), now)
}

const MOMENT: Duration = Duration::from_millis(100);

async fn append(store: &MemoryStore, text: &str) {
    store.append(&channel(), Append::new([Event::text(text)])).await.unwrap();
}

/// The retained texts.
async fn texts(store: &MemoryStore) -> Vec<String> {
    let page = store.read(&channel(), Start::Earliest, Limit::default()).await.unwrap();
    page.entries.iter().map(|entry| entry.data.as_text().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn an_append_that_is_too_large_changes_nothing() {
    let store = MemoryStore::default().max_append_bytes(1_000);
    let events = vec![Event::text("x".repeat(400)); 3];
    let too_large = |error| matches!(error, Err(StoreError::TooLarge { size: 1395, max: 1000, unit: Unit::Bytes }));
    assert!(too_large(store.append(&channel(), Append::new(events.clone())).await.map(drop)));
    assert!(too_large(store.init(&channel(), events, Expect::Any).await.map(drop)));
    let fitting = Append::new(vec![Event::text("x".repeat(400)); 2]).expecting(Expect::NeverUsed);
    assert_eq!(store.append(&channel(), fitting).await.unwrap().head.cursor.seq, 2);
}

#[tokio::test]
async fn the_newest_entry_is_kept_however_large_it_is() {
    let store = MemoryStore::new(Retention::default().bytes(100));
    for text in ["a", "b"] {
        store.init(&channel(), vec![Event::text(text.repeat(1000))], Expect::Any).await.unwrap();
        assert_eq!(store.read(&channel(), Start::Earliest, Limit::default()).await.unwrap().entries.len(), 1);
    }
}

#[tokio::test]
async fn another_store_is_another_place() {
    let (one, two) = (MemoryStore::default(), MemoryStore::default());
    for store in [&one, &two] {
        store.append(&channel(), Append::new([Event::text("x")])).await.unwrap();
    }
    let cursor = one.read(&channel(), Start::Latest, Limit::POSITION).await.unwrap().next;
    let page = two.read(&channel(), Start::After(cursor), Limit::default()).await.unwrap();
    assert_eq!(page.outcome, Outcome::Reset(Reason::EpochChanged));
}

/// A waker may do anything: this one uses the store, and drops one of its streams.
#[tokio::test]
async fn no_lock_is_held_while_a_watcher_is_woken() {
    struct ReentrantWaker(MemoryStore);
    impl Wake for ReentrantWaker {
        fn wake(self: Arc<Self>) {
            drop(self.0.changes());
        }
    }
    let store = MemoryStore::default();
    let mut watch = Box::pin(store.changes());
    let waker = Waker::from(Arc::new(ReentrantWaker(store.clone())));
    let mut cx = Context::from_waker(&waker);
    assert!(watch.as_mut().poll_next(&mut cx).is_ready());
    assert!(watch.as_mut().poll_next(&mut cx).is_pending());
    store.append(&channel(), Append::new([Event::text("x")])).await.unwrap();
    let change = poll_fn(|cx| watch.as_mut().poll_next(cx)).await;
    assert!(matches!(change, Some(Change::Entries(_))));
}

#[test]
fn the_system_clock_returns_unix_milliseconds() {
    let unix = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64;
    let (before, seen, after) = (unix(), Clock::default().now(), unix());
    assert!((before..=after).contains(&seen), "{before}, {seen}, {after}");
}

#[tokio::test]
async fn an_append_that_is_never_polled_does_nothing() {
    let store = MemoryStore::default();
    drop(store.append(&channel(), Append::new([Event::text("x")])));
    let page = store.read(&channel(), Start::Earliest, Limit::default()).await.unwrap();
    assert_eq!(page.entries, []);
}

/// Also when the janitor has just run and found nothing to do.
#[tokio::test]
async fn an_entry_is_dropped_when_it_is_older_than_the_maximum_age() {
    let (store, now) = with_manual_clock(Retention::default().age(MOMENT));
    append(&store, "x").await;
    now.store(100, Relaxed);
    assert_eq!(texts(&store).await, ["x"]);
    now.store(101, Relaxed);
    assert!(texts(&store).await.is_empty());
}

#[tokio::test]
async fn a_key_is_known_for_the_key_window() {
    let (store, now) = with_manual_clock(Retention::default().key_window(MOMENT));
    let mut duplicates = Vec::new();
    for at in [0, 100, 101] {
        now.store(at, Relaxed);
        let appended = store.append(&channel(), Append::new([Event::text("x").keyed("k").unwrap()])).await.unwrap();
        duplicates.push(appended.receipts[0].duplicate);
    }
    assert_eq!(duplicates, [false, true, false]);
}

#[tokio::test]
async fn a_record_is_forgotten_when_it_has_been_empty_for_forget_after() {
    for operation in ["list", "heads", "init", "append"] {
        let (store, now) = with_manual_clock(Retention::default().forget_after(MOMENT));
        store.append(&channel(), Append::new([]).closing()).await.unwrap();
        for (at, is_there) in [(100, true), (101, false)] {
            now.store(at, Relaxed);
            let seen = match operation {
                "list" => !store.channels("", None, 10).await.unwrap().is_empty(),
                "heads" => store.heads(&[channel()]).await.unwrap()[0].closed,
                "init" => store.init(&channel(), Vec::new(), Expect::NeverUsed).await.is_err(),
                _ => store.append(&channel(), Append::new([Event::text("x")])).await.is_err(),
            };
            assert_eq!(seen, is_there, "{operation} at {at}");
        }
    }
}

#[tokio::test]
async fn retention_in_bytes_is_exact() {
    let size = Event::text("x").data().len() as u64 + 1 + 64;
    for (bytes, kept) in [(4 * size, 4), (4 * size - 1, 3)] {
        let store = MemoryStore::new(Retention::default().bytes(bytes));
        for _ in 0..9 {
            append(&store, "x").await;
        }
        assert_eq!(texts(&store).await.len(), kept);
    }
}

#[tokio::test]
async fn a_page_contains_exactly_what_fits() {
    let store = MemoryStore::default();
    for _ in 0..3 {
        append(&store, "x").await;
    }
    let all = store.read(&channel(), Start::Earliest, Limit::default()).await.unwrap();
    let two = all.entries.iter().take(2).map(|entry| entry.size()).sum();
    for (bytes, fit) in [(two, 2), (two - 1, 1)] {
        let page = store.read(&channel(), Start::Earliest, Limit::default().bytes(bytes)).await.unwrap();
        assert_eq!(page.entries.len(), fit);
    }
}

#[tokio::test]
async fn a_read_from_a_time_ends_at_the_head_when_nothing_newer_follows() {
    let store = MemoryStore::default();
    let events = [20, 10].map(|time| Event::text("x").at(time).unwrap());
    let head = store.append(&channel(), Append::new(events)).await.unwrap().head;
    let page = store.read(&channel(), Start::Time(10), Limit::default()).await.unwrap();
    assert_eq!((page.entries.len(), page.next), (1, head.cursor));
}

#[tokio::test]
async fn an_init_starts_a_new_log() {
    let store = MemoryStore::default();
    append(&store, "x").await;
    store.init(&channel(), vec![Event::text("y")], Expect::Any).await.unwrap();
    let page = store.read(&channel(), Start::Earliest, Limit::default()).await.unwrap();
    assert_eq!(page.entries[0].prev_tag, 0);
}

#[tokio::test]
async fn channels_are_listed_in_pages_of_a_thousand() {
    let store = MemoryStore::default();
    for n in 0..2_100 {
        let channel = Channel::new(format!("{n:04}")).unwrap();
        store.init(&channel, Vec::new(), Expect::Any).await.unwrap();
    }
    let (mut pages, mut after) = (Vec::new(), None);
    loop {
        let page = store.channels("", after.as_ref(), usize::MAX).await.unwrap();
        let Some((last, _)) = page.last() else { break };
        pages.push(page.len());
        after = Some(last.clone());
    }
    assert_eq!(pages, [1_000, 1_000, 100]);
}

#[tokio::test]
async fn a_list_continues_after_a_channel_whose_name_equals_the_prefix() {
    let store = MemoryStore::default();
    for name in ["a", "ab"] {
        store.init(&Channel::new(name).unwrap(), Vec::new(), Expect::Any).await.unwrap();
    }
    let listed = store.channels("a", Some(&channel()), 10).await.unwrap();
    assert_eq!(listed.iter().map(|(channel, _)| channel.as_str()).collect::<Vec<_>>(), ["ab"]);
}

#[tokio::test]
async fn the_size_of_an_entry_is_its_data_its_names_and_64_bytes() {
    let sizes = [(Event::text("text"), 69), (Event::text("").named("name").unwrap(), 69), (Event::text("été"), 70)];
    for (event, size) in sizes {
        let store = MemoryStore::default();
        for (most, fits) in [(size - 1, false), (size, true)] {
            let append = store.clone().max_append_bytes(most).append(&channel(), Append::new([event.clone()])).await;
            assert_eq!(append.is_ok_and(|done| done.entries[0].size() as u64 == size), fits, "{event:?}");
        }
    }
}

#[tokio::test]
async fn an_entry_knows_the_position_before_it() {
    let store = MemoryStore::default();
    let entries = store.append(&channel(), Append::new(vec![Event::text("x"); 3])).await.unwrap().entries;
    assert_eq!([entries[1].prev(), entries[2].prev()], [entries[0].cursor, entries[1].cursor]);
    assert_eq!((entries[0].prev().seq, entries[0].prev().tag), (0, 0));
}

#[tokio::test]
async fn a_page_has_100_events_and_a_mebibyte_by_default() {
    for (bytes, fit) in [(1, 100), ((1 << 18) - 65, 4), ((1 << 18) - 64, 3)] {
        let store = MemoryStore::default();
        for _ in 0..150 {
            append(&store, &"x".repeat(bytes)).await;
        }
        assert_eq!(texts(&store).await.len(), fit, "texts of {bytes}");
    }
}

#[tokio::test]
async fn a_store_keeps_a_thousand_events_and_8_mebibytes_by_default() {
    for (bytes, kept) in [(1, 1_000), ((1 << 20) - 65, 8), ((1 << 20) - 64, 7)] {
        let store = MemoryStore::default();
        for _ in 0..if kept == 1_000 { 1_100 } else { 10 } {
            append(&store, &"x".repeat(bytes)).await;
        }
        let all = Limit::new(2_000, 1 << 30);
        assert_eq!(store.read(&channel(), Start::Earliest, all).await.unwrap().entries.len(), kept);
    }
}

#[tokio::test]
async fn a_store_keeps_events_an_hour_keys_10_minutes_and_records_24_hours_by_default() {
    const MINUTE: u64 = 60_000;
    let (store, now) = with_manual_clock(Retention::default());
    let keyed = || Append::new([Event::text("x").keyed("k").unwrap()]);
    store.append(&channel(), keyed().closing()).await.unwrap();
    now.store(10 * MINUTE, Relaxed);
    assert!(store.append(&channel(), keyed()).await.unwrap().receipts[0].duplicate);
    now.store(10 * MINUTE + 1, Relaxed);
    assert!(matches!(store.append(&channel(), keyed()).await, Err(StoreError::Closed { .. })));
    now.store(60 * MINUTE, Relaxed);
    assert_eq!(texts(&store).await.len(), 1);
    now.store(60 * MINUTE + 1, Relaxed);
    assert_eq!(texts(&store).await.len(), 0);
    for (after, is_there) in [(24 * 60 * MINUTE, true), (24 * 60 * MINUTE + 1, false)] {
        now.store(60 * MINUTE + 1 + after, Relaxed);
        assert_eq!(store.heads(&[channel()]).await.unwrap()[0].closed, is_there);
    }
}

#[tokio::test]
async fn retention_and_health_are_forwarded_through_an_arc_and_type_erasure() {
    let erased = AnyStore::new(Arc::new(MemoryStore::new(Retention::default().events(7))));
    assert_eq!((erased.retention().events, erased.health()), (7, Health::Ready));
    assert_eq!(erased.upkeep(), Upkeep::default());
}

#[tokio::test]
async fn the_default_size_limits_are_as_documented() {
    const MIB: usize = 1 << 20;
    let store = MemoryStore::default();
    let event = |bytes: usize| vec![Event::text("x".repeat(bytes))];
    let largest = 16 * MIB - 65;
    let too_large = store.init(&channel(), event(largest + 1), Expect::Any).await;
    assert!(matches!(too_large, Err(StoreError::TooLarge { .. })), "{too_large:?}");
    store.init(&channel(), event(largest), Expect::Any).await.unwrap();
    store.delete(&channel()).await.unwrap();
    // The channels share one datum.
    let event = event(10 * MIB);
    let mut full = 0;
    while store.init(&Channel::new(format!("{full}")).unwrap(), event.clone(), Expect::Any).await.is_ok() {
        full += 1;
    }
    assert_eq!(full, 51, "of 512 MiB");
}
