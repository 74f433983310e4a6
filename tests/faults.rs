//! The fault store injects exactly the faults that its handle asks for.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::{future::poll_fn, pin::Pin, time::Duration};

use futures_core::Stream;
use tokio::time::Instant;
use tower_events::{
    Channel, Event, MemoryStore, Store, StoreError,
    store::{Append, Change, Limit, Page, Start},
    testing::{FaultStore, Faults, Hold},
};

type Faulty = FaultStore<MemoryStore>;

fn faulty() -> (Faulty, Faults, Channel) {
    let (store, faults) = FaultStore::new(MemoryStore::default());
    (store, faults, Channel::new("a").unwrap())
}

async fn append(store: &Faulty, channel: &Channel, text: &str) -> Result<(), StoreError> {
    store.append(channel, Append::new([Event::text(text)])).await.map(drop)
}

async fn read(store: &Faulty, channel: &Channel) -> Result<Page, StoreError> {
    store.read(channel, Start::Earliest, Limit::default()).await
}

async fn count(store: &Faulty, channel: &Channel) -> usize {
    read(store, channel).await.unwrap().entries.len()
}

#[tokio::test]
async fn as_many_calls_fail_as_were_requested() {
    let (store, faults, a) = faulty();
    faults.fail_next_reads(2);
    faults.fail_next_heads(1);
    faults.fail_next_appends(1);
    for _ in 0..2 {
        assert!(matches!(read(&store, &a).await, Err(StoreError::Unavailable(_))));
    }
    assert!(matches!(store.heads(&[]).await, Err(StoreError::Unavailable(_))));
    assert!(matches!(append(&store, &a, "x").await, Err(StoreError::Unavailable(_))));
    assert!(store.heads(&[]).await.is_ok());
    assert_eq!(count(&store, &a).await, 0);
    append(&store, &a, "x").await.unwrap();
    assert_eq!((faults.reads(), faults.heads(), faults.appends()), (3, 2, 2));
}

#[tokio::test]
async fn resumes_end_early_as_requested() {
    let (store, faults, a) = faulty();
    append(&store, &a, "x").await.unwrap();
    let from = read(&store, &a).await.unwrap().from;
    append(&store, &a, "y").await.unwrap();
    faults.cut_next_reads(1);
    assert_eq!(count(&store, &a).await, 2, "a read from a start is not a resume");
    let resume = || store.read(&a, Start::After(from), Limit::default());
    let cut = resume().await.unwrap();
    assert_eq!((cut.entries.len(), cut.next, cut.head.cursor), (0, from, from));
    assert_eq!(resume().await.unwrap().entries.len(), 2);
}

#[tokio::test]
async fn an_append_with_unknown_outcome_happened_or_not_as_requested() {
    let (store, faults, a) = faulty();
    faults.lose_next_appends(1);
    assert!(matches!(append(&store, &a, "x").await, Err(StoreError::Unknown(_))));
    assert_eq!(count(&store, &a).await, 0);
    faults.lose_next_answers(1);
    assert!(matches!(append(&store, &a, "x").await, Err(StoreError::Unknown(_))));
    assert_eq!(count(&store, &a).await, 1);
}

#[tokio::test(start_paused = true)]
async fn calls_take_as_long_as_requested() {
    let (store, faults, a) = faulty();
    faults.delay(Duration::from_secs(3));
    let before = Instant::now();
    append(&store, &a, "x").await.unwrap();
    assert_eq!(before.elapsed(), Duration::from_secs(3));
    faults.delay(Duration::ZERO);
    append(&store, &a, "x").await.unwrap();
    assert_eq!(before.elapsed(), Duration::from_secs(3));
}

#[tokio::test]
async fn held_reads_see_appends_made_meanwhile_and_held_answers_do_not() {
    let (store, faults, a) = faulty();
    for (hold, seen) in [(Faults::hold_reads as fn(&Faults) -> Hold, 1), (Faults::hold_answers, 1)] {
        let hold = hold(&faults);
        let reading = tokio::spawn({
            let (store, a) = (store.clone(), a.clone());
            async move { count(&store, &a).await }
        });
        hold.reached_by(1).await;
        append(&store, &a, "x").await.unwrap();
        drop(hold);
        assert_eq!(reading.await.unwrap(), seen);
    }
    assert_eq!(count(&store, &a).await, 2);
}

#[tokio::test]
async fn a_held_call_that_is_dropped_never_runs() {
    let (store, faults, a) = faulty();
    let hold = faults.hold_appends();
    let appending = tokio::spawn({
        let (store, a) = (store.clone(), a.clone());
        async move { append(&store, &a, "x").await }
    });
    hold.reached_by(1).await;
    appending.abort();
    _ = appending.await;
    drop(hold);
    assert_eq!(count(&store, &a).await, 0);
}

/// The hints that are ready, as texts; `!` for a resync.
async fn hints(stream: &mut Pin<Box<impl Stream<Item = Change>>>) -> Vec<String> {
    let mut seen = Vec::new();
    while let Some(change) = poll_fn(|cx| match stream.as_mut().poll_next(cx) {
        std::task::Poll::Ready(change) => std::task::Poll::Ready(change),
        std::task::Poll::Pending => std::task::Poll::Ready(None),
    })
    .await
    {
        match change {
            Change::Resync => seen.push("!".to_owned()),
            Change::Entries(entries) => seen.extend(entries.iter().map(|entry| entry.data.as_shown().to_owned())),
            Change::Head(..) => seen.push("head".to_owned()),
        }
    }
    seen
}

#[tokio::test]
async fn hints_are_lost_duplicated_reordered_and_held_as_requested() {
    let (store, faults, a) = faulty();
    let mut watch = Box::pin(store.changes());
    assert_eq!(hints(&mut watch).await, ["!"]);
    assert_eq!(faults.watchers(), 1);

    faults.lose_hints(1);
    for text in ["lost", "1"] {
        append(&store, &a, text).await.unwrap();
    }
    assert_eq!(hints(&mut watch).await, ["1"]);
    faults.duplicate_hints(1);
    for text in ["2", "3"] {
        append(&store, &a, text).await.unwrap();
    }
    assert_eq!(hints(&mut watch).await, ["2", "2", "3"]);
    faults.reorder_hints(1);
    for text in ["4", "5", "6"] {
        append(&store, &a, text).await.unwrap();
    }
    assert_eq!(hints(&mut watch).await, ["5", "4", "6"]);
    faults.resync();
    assert_eq!(hints(&mut watch).await, ["!"]);

    let hold = faults.hold_hints();
    append(&store, &a, "7").await.unwrap();
    assert_eq!(hints(&mut watch).await, Vec::<String>::new());
    drop(hold);
    assert_eq!(hints(&mut watch).await, ["7"]);
    drop(watch);
    assert_eq!(faults.watchers(), 0);
}

#[tokio::test]
async fn a_waiting_watcher_is_woken_when_held_hints_are_released() {
    let (store, faults, a) = faulty();
    let mut watch = Box::pin(store.changes());
    hints(&mut watch).await;
    for wake in [|_: &Faults| {}, Faults::resync] {
        let hold = faults.hold_hints();
        append(&store, &a, "x").await.unwrap();
        let waiting = tokio::spawn(async move {
            let change = poll_fn(|cx| watch.as_mut().poll_next(cx)).await;
            (watch, change)
        });
        tokio::task::yield_now().await;
        wake(&faults);
        assert!(!waiting.is_finished());
        drop(hold);
        let change;
        (watch, change) = waiting.await.unwrap();
        assert!(change.is_some());
    }
}
