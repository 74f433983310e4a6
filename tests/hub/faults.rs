//! A store that fails, and one that other processes write to: no event lost or repeated, and every loss announced.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures_core::Stream;
use tokio::time::Instant;
use tower_events::{
    AnyStore, Hub, HubOptions, MemoryStore, Store, StoreError, SubscribeError, Subscription,
    store::{Append, Change, Health, Limit, Reason, Start, Upkeep},
    testing::FaultStore,
};

use super::{
    logs::Logs,
    patched_store::{Fault, Hints, PatchedStore},
    *,
};

#[tokio::test(start_paused = true)]
async fn an_event_published_while_a_subscription_reads_the_store_is_not_missed() {
    let (hub, faults, _) = faulty();
    publish(&hub, "a", "before").await;
    let start = Instant::now();
    let answers = faults.hold_answers();
    let subscribing = tokio::spawn({
        let hub = hub.clone();
        async move { hub.subscribe(Subscription::new(channel("a"))).await.unwrap() }
    });
    answers.reached_by(1).await;
    // The answer is outdated by now: it ends before this event.
    publish(&hub, "a", "meanwhile").await;
    drop(answers);
    let mut subscriber = subscribing.await.unwrap();
    assert_eq!(texts(&mut subscriber).await, ["meanwhile"]);
    assert_eq!(start.elapsed(), Duration::ZERO, "by the register-read-wait rule, not by the comparison of heads");
}

#[tokio::test(start_paused = true)]
async fn an_event_of_another_process_while_a_subscription_reads_is_not_missed() {
    let (hub, faults, inner) = faulty();
    // A first reader starts the follower, so that hints flow.
    let _first = hub.subscribe(Subscription::new(channel("other"))).await.unwrap();
    settle().await;
    let start = Instant::now();
    let answers = faults.hold_answers();
    let subscribing = tokio::spawn({
        let hub = hub.clone();
        async move { hub.subscribe(Subscription::new(channel("a"))).await.unwrap() }
    });
    answers.reached_by(1).await;
    append(&inner, ["meanwhile"]).await;
    settle().await;
    drop(answers);
    let mut subscriber = subscribing.await.unwrap();
    assert_eq!(texts(&mut subscriber).await, ["meanwhile"]);
    assert_eq!(start.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn lost_hints_only_delay_events_by_seconds() {
    let (hub, faults, inner) = faulty();
    let mut subscriber = hub.subscribe(Subscription::new(channel("a"))).await.unwrap();
    settle().await;
    faults.lose_hints(usize::MAX);
    let start = Instant::now();
    append(&inner, [1, 2]).await;
    assert_eq!(texts(&mut subscriber).await, ["1", "2"]);
    assert!(start.elapsed() <= crate::CHECK_EVERY);
    inner.append(&channel("a"), Append::new([]).closing()).await.unwrap();
    assert!(matches!(next(&mut subscriber).await, Delivery::Closed(_)), "a close whose hint was lost is found too");
}

#[tokio::test(start_paused = true)]
async fn an_append_of_this_process_delivers_what_lost_hints_told_of() {
    let (hub, faults, inner) = faulty();
    let mut subscriber = hub.subscribe(Subscription::new(channel("a"))).await.unwrap();
    settle().await;
    faults.lose_hints(usize::MAX);
    let start = Instant::now();
    append(&inner, ["of another process"]).await;
    publish(&hub, "a", "of this one").await;
    assert_eq!(texts_of(&mut subscriber, 2).await, ["of another process", "of this one"]);
    assert_eq!(start.elapsed(), Duration::ZERO, "before the next comparison of heads");
}

#[tokio::test(start_paused = true)]
async fn repeated_and_reordered_hints_change_nothing() {
    let (hub, faults, inner) = faulty();
    let mut subscriber = hub.subscribe(Subscription::new(channel("a"))).await.unwrap();
    settle().await;
    let mut expected = Vec::new();
    for round in 0..20 {
        faults.duplicate_hints(1 + round % 2);
        faults.reorder_hints(round % 3);
        append(&inner, [round * 2]).await;
        append(&inner, [round * 2 + 1]).await;
        expected.extend([(round * 2).to_string(), (round * 2 + 1).to_string()]);
    }
    assert_eq!(texts_of(&mut subscriber, expected.len()).await, expected);
    assert!(is_parked(&mut subscriber).await);
}

#[tokio::test(start_paused = true)]
async fn a_client_from_a_node_that_is_ahead_is_parked_at_its_position() {
    let (hub, faults, inner) = faulty();
    append(&inner, [1]).await;
    let mut here = hub.subscribe(Subscription::new(channel("a"))).await.unwrap();
    settle().await;
    let hints = faults.hold_hints();
    append(&inner, [2, 3]).await;
    let ahead = inner.heads(&[channel("a")]).await.unwrap()[0].cursor;
    let mut guest = hub.subscribe(Subscription::new(channel("a")).resume(&ahead.into())).await.unwrap();
    // Its position tells the hub that the ring misses something, which is read.
    settle().await;
    let asked = (faults.heads(), faults.reads());
    assert!(tokio::time::timeout(Duration::ZERO, guest.next()).await.is_err(), "neither a reset nor a repeated event");
    assert!(is_parked(&mut guest).await && guest.is_live());
    assert_eq!((faults.heads(), faults.reads()), asked, "it waits without calling the store");
    drop(hints);
    append(&inner, [4]).await;
    assert_eq!(texts(&mut guest).await, ["4"]);
    assert_eq!(texts_of(&mut here, 3).await, ["2", "3", "4"]);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_is_ahead_waits_without_further_calls() {
    let (hub, faults, inner) = faulty();
    append(&inner, [1]).await;
    let _here = hub.subscribe(Subscription::new(channel("a"))).await.unwrap();
    settle().await;
    // The node gets no hints, and the reads that would bring it up to date hang.
    let held = (faults.hold_hints(), faults.hold_reads());
    append(&inner, [2]).await;
    let ahead = inner.heads(&[channel("a")]).await.unwrap()[0].cursor;
    let subscribing = hub.subscribe(Subscription::new(channel("a")).resume(&ahead.into()));
    let mut guest = tokio::time::timeout(Duration::from_secs(1), subscribing)
        .await
        .expect("a request for the head decides the start")
        .unwrap();
    assert!(guest.is_live());
    let waiting = tokio::spawn(async move { texts(&mut guest).await });
    settle().await;
    let asked = faults.heads();
    settle().await;
    assert_eq!(faults.heads(), asked);
    append(&inner, [3]).await;
    drop(held);
    assert_eq!(waiting.await.unwrap(), ["3"]);
}

#[tokio::test(start_paused = true)]
async fn a_lost_tail_resets_only_the_readers_that_had_it() {
    for regrown in [0, 1, 2, 3] {
        let (hub, _, inner) = faulty();
        append(&inner, [1, 2]).await;
        let second = inner.heads(&[channel("a")]).await.unwrap()[0].cursor;
        append(&inner, [3, 4]).await;
        let mut live = hub.subscribe(Subscription::new(channel("a"))).await.unwrap();
        settle().await;
        inner.lose_tail(&channel("a"), 2);
        if regrown > 0 {
            append(&inner, (0..regrown).map(|n| format!("other {n}"))).await;
        }
        let reason = if regrown < 2 { Reason::Ahead } else { Reason::EpochChanged };
        assert_eq!(reset(&mut live).await.reason, reason, "{regrown}");
        assert_eq!(texts_of(&mut live, 2 + regrown).await[..2], ["1", "2"]);
        let mut behind = hub.subscribe(Subscription::new(channel("a")).resume(&second.into())).await.unwrap();
        if regrown > 0 {
            assert_eq!(texts_of(&mut behind, regrown).await[0], "other 0");
        }
        assert!(is_parked(&mut behind).await);
    }
}

#[tokio::test(start_paused = true)]
async fn a_failed_read_ends_the_subscriber_and_its_cursors_resume() {
    let inner = MemoryStore::default();
    let (store, faults) = FaultStore::new(inner);
    let hub = Hub::with_options(store, HubOptions::default().ring_bytes(1));
    let mut subscriber = hub.subscribe(Subscription::new(channel("a"))).await.unwrap();
    publish(&hub, "a", 1).await;
    assert_eq!(texts(&mut subscriber).await, ["1"]);
    hub.publish_all(&channel("a"), events(2..50)).await.unwrap();
    faults.fail_next_reads(1);
    assert!(matches!(subscriber.next().await, Some(Err(SubscribeError::Store(StoreError::Unavailable(_))))));
    assert!(subscriber.next().await.is_none());
    let resume = Subscription::new(channel("a")).resume(&subscriber.cursors());
    let mut subscriber = hub.subscribe(resume).await.unwrap();
    assert_eq!(texts_of(&mut subscriber, 48).await[0], "2");
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_down_refuses_new_readers_and_keeps_those_that_keep_up() {
    let (hub, faults, inner) = faulty();
    let mut live = hub.subscribe(Subscription::new(channel("a"))).await.unwrap();
    settle().await;
    faults.fail_next_reads(usize::MAX);
    faults.fail_next_heads(usize::MAX);
    faults.fail_next_appends(usize::MAX);
    let refused = hub.subscribe(Subscription::new(channel("a"))).await;
    assert!(matches!(refused, Err(SubscribeError::Store(StoreError::Unavailable(_)))));
    assert!(hub.publish(&channel("a"), Event::text("no")).await.is_err());
    assert!(tokio::time::timeout(Duration::from_secs(60), live.next()).await.is_err(), "no failure, only no events");
    append(&inner, ["meanwhile"]).await;
    faults.fail_next_reads(0);
    faults.fail_next_heads(0);
    faults.fail_next_appends(0);
    publish(&hub, "a", "back").await;
    assert_eq!(texts_of(&mut live, 2).await, ["meanwhile", "back"]);
}

#[tokio::test(start_paused = true)]
async fn an_outage_is_logged_when_it_begins_and_when_it_ends() {
    let (hub, faults, _) = faulty();
    let logs = Logs::of_this_thread();
    let logged = |text: &str| logs.text().matches(text).count();
    faults.fail_next_appends(3);
    for _ in 0..3 {
        assert!(hub.publish(&channel("a"), Event::text("no")).await.is_err());
    }
    assert_eq!((logged("calls=\"appends\""), logged("the event store fails;")), (1, 1));
    publish(&hub, "a", "back").await;
    publish(&hub, "a", "again").await;
    assert_eq!((logged("failures=3"), logged("the event store answers again")), (1, 1));

    let _live = hub.subscribe(Subscription::new(channel("a"))).await.unwrap();
    faults.fail_next_heads(3);
    tokio::time::sleep(crate::CHECK_EVERY * 5).await;
    assert_eq!((logged("calls=\"reads\""), logged("the event store answers again")), (2, 2), "{}", logs.text());
}

#[tokio::test(start_paused = true)]
async fn an_outage_of_all_calls_is_one_line_when_it_begins_and_one_a_minute_and_one_when_it_ends() {
    let (hub, faults, _) = faulty();
    let _live = hub.subscribe(Subscription::new(channel("a"))).await.unwrap();
    let logs = Logs::of_this_thread();
    faults.fail_next_appends(usize::MAX);
    faults.fail_next_reads(usize::MAX);
    faults.fail_next_heads(usize::MAX);
    for _ in 0..605 {
        assert!(hub.publish(&channel("a"), Event::text("no")).await.is_err());
        assert!(hub.subscribe(Subscription::new(channel("b")).start(Start::Earliest)).await.is_err());
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let lines = logs.seen();
    assert_eq!(lines.len(), 1 + 10, "{lines:#?}");
    assert!(lines.last().unwrap().contains("calls=\"appends, reads\""), "{lines:#?}");
    faults.fail_next_reads(0);
    faults.fail_next_heads(0);
    tokio::time::sleep(crate::CHECK_EVERY * 2).await;
    assert_eq!(logs.seen().len(), 11, "appends still fail");
    faults.fail_next_appends(0);
    publish(&hub, "a", "back").await;
    publish(&hub, "a", "again").await;
    let lines = logs.seen();
    assert_eq!(lines.len(), 12);
    assert!(lines[11].contains("answers again") && lines[11].contains("calls=\"reads, appends\""), "{lines:#?}");
}

#[tokio::test(start_paused = true)]
async fn an_append_that_is_refused_for_what_it_asks_is_no_outage() {
    let hub = Hub::new(MemoryStore::default());
    hub.close(&channel("a")).await.unwrap();
    let logs = Logs::of_this_thread();
    assert!(matches!(hub.publish(&channel("a"), Event::text("no")).await, Err(StoreError::Closed { .. })));
    assert_eq!(logs.text(), "");
}

#[tokio::test(start_paused = true)]
async fn the_backoff_is_as_long_as_the_store_has_been_failing() {
    let (hub, faults, _) = faulty();
    let _live = hub.subscribe(Subscription::new(channel("a"))).await.unwrap();
    settle().await;
    assert_eq!(hub.failure_backoff(), Duration::from_secs(1));
    faults.fail_next_heads(usize::MAX);
    let check = crate::CHECK_EVERY;
    tokio::time::sleep(check * 5).await;
    let backoff = hub.failure_backoff();
    assert!(backoff > check * 3 && backoff <= check * 5, "{backoff:?}");
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(hub.failure_backoff(), Duration::from_secs(30));
    faults.fail_next_heads(0);
    tokio::time::sleep(check * 2).await;
    assert_eq!(hub.failure_backoff(), Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn a_store_that_hangs_is_treated_as_one_that_fails() {
    let (hub, faults, _) = faulty();
    let reads = faults.hold_reads();
    let start = Instant::now();
    let earliest = || Subscription::new(channel("a")).start(Start::Earliest);
    let refused = hub.subscribe(earliest()).await;
    assert!(matches!(refused, Err(SubscribeError::Store(StoreError::Unavailable(_)))));
    assert_eq!(start.elapsed(), crate::READ_TIMEOUT);
    assert!(hub.subscribe(Subscription::new(channel("a"))).await.is_ok(), "the head comes from another call");
    drop(reads);
    assert!(hub.subscribe(earliest()).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn requests_for_heads_time_out_too() {
    let (hub, faults, _) = faulty();
    let _heads = faults.hold_heads();
    let start = Instant::now();
    assert!(matches!(hub.heads(&channel("a").into()).await, Err(StoreError::Unavailable(_))));
    assert_eq!(start.elapsed(), crate::READ_TIMEOUT);
}

/// Hints that never end, and are always ready.
struct EndlessHints;

impl Stream for EndlessHints {
    type Item = Change;

    fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Change>> {
        Poll::Ready(Some(Change::Resync))
    }
}

impl Fault for EndlessHints {
    fn changes(&self, _: Hints) -> Hints {
        Box::pin(Self)
    }
}

#[tokio::test]
async fn hints_that_are_always_ready_do_not_starve_other_tasks() {
    let store = MemoryStore::default();
    let hub = Hub::new(PatchedStore::new(store.clone(), Arc::new(EndlessHints)));
    let mut subscriber = hub.subscribe(Subscription::new(channel("a"))).await.unwrap();
    append(&store, ["found after a Resync only"]).await;
    assert_eq!(texts(&mut subscriber).await, ["found after a Resync only"]);
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_is_behind_only_delays_events_by_seconds() {
    let (store, faults) = FaultStore::new(MemoryStore::default());
    let hub = Hub::with_options(store, HubOptions::default().ring_bytes(1));
    let _live = hub.subscribe(Subscription::new(channel("a"))).await.unwrap();
    let first = hub.publish(&channel("a"), Event::text("1")).await.unwrap();
    for text in [2, 3] {
        publish(&hub, "a", text).await;
    }
    // The position to resume from is no longer in the ring, and the store answers that nothing follows it.
    faults.cut_next_reads(2);
    let start = Instant::now();
    let resume = Subscription::new(channel("a")).resume(&first.cursor.into());
    let mut subscriber = hub.subscribe(resume).await.unwrap();
    let late = tokio::time::timeout(Duration::from_secs(60), texts_of(&mut subscriber, 2)).await;
    assert_eq!(late.expect("the reader is not left waiting"), ["2", "3"]);
    assert!(start.elapsed() <= crate::CHECK_EVERY * 2);
}

#[tokio::test(start_paused = true)]
async fn a_reader_with_many_pages_reads_them_one_after_another() {
    let inner = MemoryStore::default();
    append(&inner, 0..475).await;
    append(&inner, 475..950).await;
    let hub = Hub::with_options(inner, HubOptions::default().page(Limit::new(7, 1 << 20)));
    let mut subscriber = hub.subscribe(Subscription::new(channel("a")).start(Start::Earliest)).await.unwrap();
    assert_eq!(texts_of(&mut subscriber, 950).await, (0..950).map(|n| n.to_string()).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn the_follower_ends_with_its_readers_and_starts_again() {
    let (hub, faults, _) = faulty();
    for _ in 0..3 {
        let subscriber = hub.subscribe(Subscription::new(channel("a"))).await.unwrap();
        settle().await;
        assert_eq!(faults.watchers(), 1);
        drop(subscriber);
        tokio::time::sleep(crate::LINGER + crate::CHECK_EVERY * 2).await;
        settle().await;
        assert_eq!(faults.watchers(), 0);
    }
    let erased: &AnyStore = hub.store();
    assert_eq!(erased.heads(&[]).await.unwrap(), []);
}

#[tokio::test]
async fn the_stats_show_the_health_of_the_store() {
    let (store, faults) = FaultStore::new(MemoryStore::default());
    let hub = Hub::new(std::sync::Arc::new(store));
    assert_eq!(hub.stats().store, Health::Ready);
    for health in [Health::Unavailable, Health::Degraded] {
        faults.report(Some(health));
        assert_eq!((hub.stats().store, hub.store().health()), (health, health));
    }
    faults.report(None);
    assert_eq!(hub.stats().store, Health::Ready);
}

#[tokio::test]
async fn the_stats_show_the_upkeep_of_the_store() {
    struct Behind;
    impl Fault for Behind {
        fn upkeep(&self) -> Upkeep {
            Upkeep::new(Duration::from_secs(5), 3)
        }
    }
    let (store, _faults) = FaultStore::new(PatchedStore::new(MemoryStore::default(), Arc::new(Behind)));
    let hub = Hub::new(Arc::new(store));
    assert_eq!(hub.erase().stats().upkeep, Upkeep::new(Duration::from_secs(5), 3));
}
