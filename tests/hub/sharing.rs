//! Many who come back at once: one read of the store serves them all, and none depends on another.

use std::time::Duration;

use tower_events::{Hub, HubOptions, MemoryStore, Store, Subscription, testing::FaultStore};

use super::*;

#[tokio::test(start_paused = true)]
async fn a_thousand_who_resume_from_one_position_cost_one_read() {
    let inner = MemoryStore::default();
    append(&inner, [1]).await;
    let from = inner.heads(&[channel("a")]).await.unwrap()[0].cursor;
    append(&inner, 2..=50).await;
    let (store, faults) = FaultStore::new(inner);
    let hub = Hub::new(store);
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
async fn whoever_comes_back_to_where_another_came_back_to_costs_no_read() {
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
async fn whoever_shares_a_read_does_not_depend_on_the_one_who_began_it() {
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
async fn whoever_joins_an_old_read_does_not_wait_on_its_word() {
    let inner = MemoryStore::default();
    let (store, faults) = FaultStore::new(inner.clone());
    let hub = Hub::with_options(store, HubOptions::default().ring_bytes(1));
    let _live = hub.subscribe(Subscription::new(channel("a"))).await.unwrap();
    settle().await;
    // Another process appends, and its client comes here before this process has heard of it.
    let hints = faults.hold_hints();
    append(&inner, [1]).await;
    let from = inner.heads(&[channel("a")]).await.unwrap()[0].cursor;
    let resume = || {
        let (hub, resume) = (hub.clone(), Subscription::new(channel("a")).resume(&from.into()));
        tokio::spawn(async move {
            let mut subscriber = hub.subscribe(resume).await.unwrap();
            tokio::time::timeout(Duration::from_secs(60), texts_of(&mut subscriber, 2)).await.expect("no silence")
        })
    };
    let answers = faults.hold_answers();
    let first = resume();
    answers.reached_by(1).await;
    // The answer says that nothing follows, and the ring has gone on by the time that the second one shares it.
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
