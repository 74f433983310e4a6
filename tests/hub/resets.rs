//! Loss is announced, whatever happens to the log that is being read.

use std::{
    future::Future as _,
    task::{Context, Poll, Waker},
};

use tower_events::{
    Hub, HubOptions, MemoryStore, Retention, Store, StoreError, Subscription,
    store::{Append, Limit, Reason, Start},
};

use super::*;

fn small() -> MemoryStore {
    MemoryStore::new(Retention::default().events(3))
}

#[tokio::test(start_paused = true)]
async fn a_reader_behind_the_retained_events_is_reset_and_continues_with_them() {
    let hub = Hub::with_options(small(), HubOptions::default().ring_bytes(1));
    let mut subscriber = hub.subscribe(Subscription::new(channel("a"))).await.unwrap();
    for event in events(0..20) {
        hub.publish(&channel("a"), event).await.unwrap();
    }
    let page = hub.store().read(&channel("a"), Start::Earliest, Limit::default()).await.unwrap();
    let reset = reset(&mut subscriber).await;
    assert_eq!((reset.reason, reset.earliest, reset.latest), (Reason::Trimmed, page.from, page.head.cursor));
    let kept = texts_of(&mut subscriber, page.entries.len()).await;
    assert_eq!(kept.last().unwrap(), "19");
    publish(&hub, "a", "live").await;
    assert_eq!(texts(&mut subscriber).await, ["live"]);
}

#[tokio::test(start_paused = true)]
async fn a_reset_moves_the_position_only_when_it_is_delivered() {
    let hub = Hub::new(small());
    let old = hub.publish(&channel("a"), Event::text("old")).await.unwrap().cursor;
    for event in events(0..20) {
        hub.publish(&channel("a"), event).await.unwrap();
    }
    let resume = Subscription::new(channel("a")).resume(&old.into());
    let mut subscriber = hub.subscribe(resume).await.unwrap();
    assert_eq!(
        subscriber.cursors(),
        old.into(),
        "a client that disconnects now must learn of the reset when it comes back"
    );
    let reset = reset(&mut subscriber).await;
    assert_eq!(subscriber.cursors(), reset.earliest.into());
}

#[tokio::test(start_paused = true)]
async fn init_and_delete_reset_live_readers() {
    let hub = Hub::new(MemoryStore::default());
    publish(&hub, "a", "before").await;
    let mut subscriber = hub.subscribe(Subscription::new(channel("a"))).await.unwrap();
    hub.init(&channel("a"), events(["new", "history"])).await.unwrap();
    assert_eq!(reset(&mut subscriber).await.reason, Reason::EpochChanged);
    assert_eq!(texts_of(&mut subscriber, 2).await, ["new", "history"]);
    hub.delete(&channel("a")).await.unwrap();
    let gone = reset(&mut subscriber).await;
    assert_eq!(gone.earliest, gone.latest);
    publish(&hub, "a", "again").await;
    assert_eq!(texts(&mut subscriber).await, ["again"]);
}

#[tokio::test(start_paused = true)]
async fn init_opens_a_closed_channel_for_its_readers() {
    let hub = Hub::new(MemoryStore::default());
    let end = hub.close(&channel("a")).await.unwrap();
    hub.init(&channel("a"), events(["open"])).await.unwrap();
    let mut subscriber = hub.subscribe(Subscription::new(channel("a")).resume(&end.cursor.into())).await.unwrap();
    assert_eq!(reset(&mut subscriber).await.reason, Reason::EpochChanged);
    assert_eq!(texts(&mut subscriber).await, ["open"]);
    publish(&hub, "a", "and on").await;
    assert_eq!(texts(&mut subscriber).await, ["and on"]);
}

#[tokio::test(start_paused = true)]
async fn init_if_unused_fills_a_channel_once() {
    let hub = Hub::new(MemoryStore::default());
    assert!(hub.init_if_unused(&channel("a"), events(["first"])).await.unwrap().is_some());
    assert!(hub.init_if_unused(&channel("a"), events(["second"])).await.unwrap().is_none());
    let listened = hub.listen(Subscription::new(channel("a")).start(Start::Earliest)).await.unwrap();
    assert_eq!(listened.entries().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_foreign_position_or_one_that_does_not_name_the_channel_is_unknown() {
    let hub = Hub::new(MemoryStore::default());
    publish(&hub, "a", "a1").await;
    publish(&hub, "b", "b1").await;
    let mut subscriber = hub.subscribe(resuming_after_nonsense(channel("a"))).await.unwrap();
    assert_eq!(reset(&mut subscriber).await.reason, Reason::Unknown);
    assert_eq!(texts(&mut subscriber).await, ["a1"]);

    let only_a = tower_events::Cursors::of([(&channel("a"), hub.heads(&channel("a").into()).await.unwrap()[0].cursor)]);
    let mut subscriber = hub.subscribe(Subscription::new(channels(["a", "b"])).resume(&only_a)).await.unwrap();
    let reset = reset(&mut subscriber).await;
    assert_eq!((reset.channel, reset.reason), (channel("b"), Reason::Unknown));
    assert_eq!(texts(&mut subscriber).await, ["b1"]);
    assert!(is_parked(&mut subscriber).await);
}

#[tokio::test(start_paused = true)]
async fn another_channels_cursor_is_foreign() {
    let hub = Hub::new(MemoryStore::default());
    publish(&hub, "a", "a1").await;
    publish(&hub, "b", "b1").await;
    let of_b = hub.heads(&channel("b").into()).await.unwrap()[0].cursor;
    let mut subscriber = hub.subscribe(Subscription::new(channel("a")).resume(&of_b.into())).await.unwrap();
    assert_eq!(reset(&mut subscriber).await.reason, Reason::EpochChanged);
    // In a subscription to both channels it continues on its own.
    let both = Subscription::new(channels(["a", "b"])).resume(&of_b.into());
    let mut subscriber = hub.subscribe(both).await.unwrap();
    assert_eq!(reset(&mut subscriber).await.channel, channel("a"));
    assert_eq!(texts(&mut subscriber).await, ["a1"]);
    assert!(is_parked(&mut subscriber).await);
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_waits_on_an_absent_channel_gets_its_first_event() {
    let hub = Hub::new(MemoryStore::default());
    let mut subscriber = hub.subscribe(Subscription::new(channel("a"))).await.unwrap();
    let cursors = subscriber.cursors();
    hub.store().append(&channel("a"), Append::new(events(["first"]))).await.unwrap();
    assert_eq!(texts(&mut subscriber).await, ["first"]);
    let mut back = hub.subscribe(Subscription::new(channel("a")).resume(&cursors)).await.unwrap();
    assert_eq!(texts(&mut back).await, ["first"]);
}

#[tokio::test(start_paused = true)]
async fn replacing_a_channel_outside_a_runtime_resets_its_readers_too() {
    let hub = Hub::new(MemoryStore::default());
    publish(&hub, "a", 1).await;
    let mut live = hub.subscribe(Subscription::new(channel("a"))).await.unwrap();
    std::thread::spawn({
        let hub = hub.clone();
        move || {
            // A memory store never waits.
            let a = channel("a");
            let init = std::pin::pin!(hub.init(&a, events(0..2)));
            assert!(init.poll(&mut Context::from_waker(Waker::noop())).is_ready());
        }
    })
    .join()
    .unwrap();
    assert_eq!(reset(&mut live).await.reason, Reason::EpochChanged);
    assert_eq!(texts(&mut live).await, ["0", "1"]);
}

#[test]
fn requests_fail_at_once_on_a_runtime_that_has_ended() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let handle = runtime.handle().clone();
    drop(runtime);
    let _entered = handle.enter();
    let hub = Hub::new(MemoryStore::default());
    let asked = channel("a").into();
    let mut heads = std::pin::pin!(hub.heads(&asked));
    let answer = heads.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    assert!(matches!(answer, Poll::Ready(Err(StoreError::Unavailable(_)))), "{answer:?}");
}
