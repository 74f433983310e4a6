//! What readers receive at once, without a comparison of heads: in these tests heads are compared every hundred days.

use std::time::Duration;

use tokio::time::Instant;
use tower_events::{
    Hub, HubOptions, MemoryStore, Store, Subscription,
    store::{Append, Expect, Reason, Start},
    testing::FaultStore,
};

use super::*;

/// As [`faulty`], but heads are compared only on request.
fn uncompared() -> (Hub, Faults, MemoryStore) {
    let inner = MemoryStore::default();
    let (store, faults) = FaultStore::new(inner.clone());
    let options = HubOptions::default().check_every(Duration::from_secs(100 * 24 * 60 * 60));
    (Hub::with_options(store, options), faults, inner)
}

async fn live(hub: &Hub) -> Subscriber {
    let subscriber = hub.subscribe(Subscription::new(channel("a"))).await.unwrap();
    // By then the follower has compared heads once, when the hints began.
    tokio::time::sleep(Duration::from_secs(1)).await;
    subscriber
}

#[tokio::test(start_paused = true)]
async fn changes_by_this_process_need_no_hints() {
    let (hub, faults, _) = uncompared();
    let mut subscriber = live(&hub).await;
    faults.lose_hints(usize::MAX);
    let start = Instant::now();
    assert!(hub.init_if_unused(&channel("a"), events(["first"])).await.unwrap().is_some());
    assert_eq!(reset(&mut subscriber).await.reason, Reason::EpochChanged);
    assert_eq!(texts(&mut subscriber).await, ["first"]);
    publish(&hub, "a", "second").await;
    assert_eq!(texts(&mut subscriber).await, ["second"]);
    hub.init(&channel("a"), events(["anew"])).await.unwrap();
    assert_eq!(reset(&mut subscriber).await.reason, Reason::EpochChanged);
    assert_eq!(texts(&mut subscriber).await, ["anew"]);
    hub.delete(&channel("a")).await.unwrap();
    reset(&mut subscriber).await;
    hub.append(&channel("a"), Append::new(events(["last"])).closing()).await.unwrap();
    assert_eq!(texts(&mut subscriber).await, ["last"]);
    assert!(matches!(next(&mut subscriber).await, Delivery::Closed(_)));
    assert_eq!(start.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn appends_by_this_process_are_not_read_from_the_store() {
    let (hub, faults, _) = uncompared();
    let mut subscriber = live(&hub).await;
    faults.lose_hints(usize::MAX);
    let reads = faults.reads();
    publish(&hub, "a", 1).await;
    assert_eq!(texts(&mut subscriber).await, ["1"]);
    assert_eq!(faults.reads(), reads);
}

#[tokio::test(start_paused = true)]
async fn changes_by_another_process_arrive_by_hints() {
    let (hub, _, inner) = uncompared();
    let mut subscriber = live(&hub).await;
    let start = Instant::now();
    append(&inner, [1]).await;
    assert_eq!(texts(&mut subscriber).await, ["1"]);
    inner.init(&channel("a"), events(["anew"]), Expect::Any).await.unwrap();
    assert_eq!(reset(&mut subscriber).await.reason, Reason::EpochChanged);
    assert_eq!(texts(&mut subscriber).await, ["anew"]);
    inner.delete(&channel("a")).await.unwrap();
    reset(&mut subscriber).await;
    append(&inner, [2]).await;
    assert_eq!(texts(&mut subscriber).await, ["2"]);
    inner.append(&channel("a"), Append::new([]).closing()).await.unwrap();
    assert!(matches!(next(&mut subscriber).await, Delivery::Closed(_)));
    assert_eq!(start.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_gap_in_the_hints_makes_the_hub_compare_heads_early() {
    let (hub, faults, inner) = uncompared();
    let mut subscriber = live(&hub).await;
    for round in 0..2 {
        faults.lose_hints(usize::MAX);
        append(&inner, [round]).await;
        faults.lose_hints(0);
        let start = Instant::now();
        faults.resync();
        assert_eq!(texts(&mut subscriber).await, [round.to_string()]);
        assert!(start.elapsed() <= Duration::from_millis(100), "{:?}", start.elapsed());
    }
    let heads = faults.heads();
    for _ in 0..1_000 {
        faults.resync();
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let heads = faults.heads() - heads;
    assert!((5..=11).contains(&heads), "{heads} comparisons in a second of gaps");
}

#[tokio::test(start_paused = true)]
async fn events_that_come_while_a_channel_is_brought_up_to_date_are_not_missed() {
    for count in [1, 2] {
        let (hub, faults, inner) = uncompared();
        let mut subscriber = live(&hub).await;
        let start = Instant::now();
        let answers = faults.hold_answers();
        // The hint of the first event is lost, so that the second one makes the hub read the channel.
        faults.lose_hints(1);
        append(&inner, [1]).await;
        append(&inner, [2]).await;
        answers.reached_by(1).await;
        let expected: Vec<_> = (1..=2 + count).map(|n| n.to_string()).collect();
        for n in 0..count {
            append(&inner, [3 + n]).await;
            settle().await;
        }
        drop(answers);
        assert_eq!(texts_of(&mut subscriber, expected.len()).await, expected);
        assert_eq!(start.elapsed(), Duration::ZERO);
    }
}

#[tokio::test(start_paused = true)]
async fn a_head_that_one_request_returns_brings_other_readers_up_to_date() {
    let (hub, faults, inner) = uncompared();
    let mut subscriber = live(&hub).await;
    faults.lose_hints(usize::MAX);
    let start = Instant::now();
    append(&inner, [1]).await;
    hub.heads(&channel("a").into()).await.unwrap();
    assert_eq!(texts(&mut subscriber).await, ["1"]);
    append(&inner, [2]).await;
    drop(hub.subscribe(Subscription::new(channel("a")).start(Start::Earliest)).await.unwrap());
    assert_eq!(texts(&mut subscriber).await, ["2"]);
    assert_eq!(start.elapsed(), Duration::ZERO);
}
