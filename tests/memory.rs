//! What the memory store promises beyond the contract.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::{
    future::poll_fn,
    sync::Arc,
    task::{Context, Wake, Waker},
};

use futures_core::Stream;
use tower_events::{
    Channel, Event, MemoryStore, Retention, Store, StoreError,
    store::{Append, Change, Expect, Limit, Outcome, Reason, Start, Unit},
};

fn channel() -> Channel {
    Channel::new("a").unwrap()
}

#[tokio::test]
async fn what_is_too_large_changes_nothing() {
    let store = MemoryStore::default().largest_append(1_000);
    let events = vec![Event::text("x".repeat(400)); 3];
    let too_large = |error| matches!(error, Err(StoreError::TooLarge { size: 1395, most: 1000, unit: Unit::Bytes }));
    assert!(too_large(store.append(&channel(), Append::new(events.clone())).await.map(drop)));
    assert!(too_large(store.init(&channel(), events, Expect::Any).await.map(drop)));
    let fitting = Append::new(vec![Event::text("x".repeat(400)); 2]).expecting(Expect::NeverUsed);
    assert_eq!(store.append(&channel(), fitting).await.unwrap().head.cursor.seq, 2);
}

#[tokio::test]
async fn the_newest_entry_stays_however_large() {
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

/// A watcher's task may do anything when it is woken: here it uses the store, and drops streams of it.
#[tokio::test]
async fn waking_a_watcher_holds_no_lock() {
    struct Reenters(MemoryStore);
    impl Wake for Reenters {
        fn wake(self: Arc<Self>) {
            drop(self.0.changes());
        }
    }
    let store = MemoryStore::default();
    let mut watch = Box::pin(store.changes());
    let waker = Waker::from(Arc::new(Reenters(store.clone())));
    let mut cx = Context::from_waker(&waker);
    assert!(watch.as_mut().poll_next(&mut cx).is_ready());
    assert!(watch.as_mut().poll_next(&mut cx).is_pending());
    store.append(&channel(), Append::new([Event::text("x")])).await.unwrap();
    let change = poll_fn(|cx| watch.as_mut().poll_next(cx)).await;
    assert!(matches!(change, Some(Change::Entries(_))));
}

#[tokio::test]
async fn an_append_that_was_never_polled_did_nothing() {
    let store = MemoryStore::default();
    drop(store.append(&channel(), Append::new([Event::text("x")])));
    let page = store.read(&channel(), Start::Earliest, Limit::default()).await.unwrap();
    assert_eq!(page.entries, []);
}
