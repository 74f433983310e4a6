//! A store that breaks its contract: it panics, or its hints end. The callers get an error, and all other readers continue.

use std::{
    future::Future as _,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use futures_core::Stream as _;
use tokio::{
    sync::Notify,
    time::{Instant, timeout},
};
use tower_events::{
    Hub, HubOptions, MemoryStore, Store, StoreError, SubscribeError, Subscription,
    store::{Expect, Head, Limit, Page, Start},
};

use super::{
    patched_store::{Fault, Hints, PatchedStore},
    *,
};

/// A store with a configurable number of panics.
#[derive(Default)]
struct Panicking {
    inner: MemoryStore,
    reads: AtomicUsize,
    heads: AtomicUsize,
    /// How many of the next streams of hints end at once, and how many panic.
    ending_hints: AtomicUsize,
    panicking_hints: AtomicUsize,
    /// Calls of `heads` wait until this many have been made, and then all of them panic; 0 if none waits.
    together: AtomicUsize,
    called: AtomicUsize,
    all_called: Notify,
}

fn is_due(left: &AtomicUsize) -> bool {
    left.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)).is_ok()
}

impl Fault for Panicking {
    async fn read(
        &self,
        inner: &MemoryStore,
        channel: &Channel,
        start: Start,
        limit: Limit,
    ) -> Result<Page, StoreError> {
        assert!(!is_due(&self.reads), "on purpose");
        inner.read(channel, start, limit).await
    }

    async fn heads(&self, inner: &MemoryStore, channels: &[Channel]) -> Result<Vec<Head>, StoreError> {
        let together = self.together.load(SeqCst);
        if together > 0 {
            if self.called.fetch_add(1, SeqCst) + 1 < together {
                self.all_called.notified().await;
            }
            self.all_called.notify_waiters();
            panic!("on purpose");
        }
        assert!(!is_due(&self.heads), "on purpose");
        inner.heads(channels).await
    }

    fn changes(&self, inner: Hints) -> Hints {
        assert!(!is_due(&self.panicking_hints), "on purpose");
        if is_due(&self.ending_hints) { Box::pin(tokio_stream::empty()) } else { inner }
    }
}

const NEVER: Duration = Duration::from_secs(100 * 24 * 60 * 60);

fn panicking(check_every: Duration) -> (Hub, Arc<Panicking>) {
    let fault = Arc::<Panicking>::default();
    let store = PatchedStore::new(fault.inner.clone(), fault.clone());
    (Hub::with_options(store, HubOptions::default().check_every(check_every)), fault)
}

fn is_unavailable<T>(result: &Result<T, SubscribeError>) -> bool {
    matches!(result, Err(SubscribeError::Store(StoreError::Unavailable(_))))
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_a_read_fails_only_the_readers_that_wait_for_it() {
    let (hub, store) = panicking(NEVER);
    append(&store.inner, [1]).await;
    let start = Instant::now();
    // More than may be read at once, so that a permit that was not released would be missed.
    for _ in 0..crate::MAX_READS * 2 {
        store.reads.store(1, SeqCst);
        let earliest = || Subscription::new(channel("a")).start(Start::Earliest);
        assert!(is_unavailable(&hub.subscribe(earliest()).await));
        assert_eq!(hub.listen(earliest()).await.unwrap().entries().len(), 1);
    }
    assert_eq!((start.elapsed(), hub.stats().readers), (Duration::ZERO, 0));
}

#[tokio::test(start_paused = true)]
async fn after_a_panic_the_next_comparison_brings_the_channel_up_to_date() {
    let (hub, store) = panicking(Duration::from_secs(3));
    let mut live = hub.subscribe(Subscription::new(channel("a"))).await.unwrap();
    settle().await;
    store.inner.init(&channel("a"), events(["anew"]), Expect::Any).await.unwrap();
    store.reads.store(1, SeqCst);
    let start = Instant::now();
    timeout(Duration::from_secs(60), reset(&mut live)).await.expect("the channel is brought up to date");
    assert!(start.elapsed() <= Duration::from_secs(3));
    assert_eq!(store.reads.load(SeqCst), 0);
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_heads_fails_only_the_callers_that_wait_for_it() {
    let (hub, store) = panicking(NEVER);
    let start = Instant::now();
    for _ in 0..10 {
        store.heads.store(1, SeqCst);
        assert!(matches!(hub.heads(&channel("a").into()).await, Err(StoreError::Unavailable(_))));
        assert!(hub.heads(&channel("a").into()).await.is_ok());
    }
    // As many calls as run at once, and one request that waits for the next.
    store.together.store(4, SeqCst);
    let mut asking = tokio::task::JoinSet::new();
    for n in 0..5 {
        let hub = hub.clone();
        asking.spawn(async move { hub.heads(&channel(&n.to_string()).into()).await });
        settle().await;
    }
    let answers = timeout(Duration::from_secs(60), asking.join_all()).await.expect("all get an answer");
    assert!(answers.iter().all(Result::is_err));
    store.together.store(0, SeqCst);
    assert!(hub.heads(&channel("a").into()).await.is_ok());
    assert_eq!(start.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn hints_that_end_are_followed_again() {
    let (hub, store) = panicking(NEVER);
    store.ending_hints.store(3, SeqCst);
    let mut live = hub.subscribe(Subscription::new(channel("a"))).await.unwrap();
    settle().await;
    let start = Instant::now();
    append(&store.inner, [1]).await;
    assert_eq!(timeout(Duration::from_secs(60), texts(&mut live)).await.expect("the hints are followed again"), ["1"]);
    assert_eq!(start.elapsed(), Duration::from_secs(3), "a second after each end");
    assert_eq!(store.ending_hints.load(SeqCst), 0);
}

#[tokio::test(start_paused = true)]
async fn hints_that_panic_are_followed_again_a_second_later() {
    let (hub, store) = panicking(NEVER);
    store.panicking_hints.store(3, SeqCst);
    let mut live = hub.subscribe(Subscription::new(channel("a"))).await.unwrap();
    let start = Instant::now();
    append(&store.inner, [1]).await;
    assert_eq!(timeout(Duration::from_secs(60), texts(&mut live)).await.expect("the hints are followed again"), ["1"]);
    assert_eq!(start.elapsed(), Duration::from_secs(3));
}

#[tokio::test(start_paused = true)]
async fn no_task_is_left_after_the_last_handle_and_reader_are_dropped() {
    let (hub, _) = panicking(NEVER);
    let running = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let before = running();
    let live = hub.subscribe(Subscription::new(channel("a"))).await.unwrap();
    settle().await;
    assert!(running() > before);
    drop((hub, live));
    settle().await;
    assert_eq!(running(), before);
}

#[test]
fn a_hub_that_outlives_its_runtime_goes_on_in_the_next() {
    let (hub, store) = panicking(NEVER);
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    // Kept, so that the channel stays followed.
    let _first = runtime().block_on(hub.subscribe(Subscription::new(channel("a")))).unwrap();
    for round in 1..4 {
        runtime().block_on(async {
            let mut live = hub.subscribe(Subscription::new(channel("a"))).await.unwrap();
            settle().await;
            append(&store.inner, [round]).await;
            assert_eq!(texts(&mut live).await, [round.to_string()]);
        });
    }
}

#[tokio::test(start_paused = true)]
async fn a_follower_task_that_panicked_restarts() {
    // Each of the follower's two tasks in turn is the only one that can learn of the event.
    for (panics, check_every) in [("hints", NEVER), ("comparison", Duration::from_secs(3))] {
        let (hub, store) = panicking(check_every);
        match panics {
            "hints" => store.panicking_hints.store(1, SeqCst),
            _ => {
                store.ending_hints.store(usize::MAX, SeqCst);
                store.heads.store(1, SeqCst);
            }
        }
        let earliest = Subscription::new(channel("a")).start(Start::Earliest);
        let mut reader = hub.subscribe(earliest).await.unwrap();
        tokio::time::sleep(Duration::from_secs(8)).await;
        append(&store.inner, [1]).await;
        let received = timeout(Duration::from_secs(60), texts(&mut reader)).await;
        assert_eq!(received.unwrap_or_else(|_| panic!("the {panics} stopped")), ["1"]);
        assert_eq!((store.panicking_hints.load(SeqCst), store.heads.load(SeqCst)), (0, 0), "the panic happened");
    }
}

#[test]
fn without_a_runtime_a_subscription_fails() {
    let hub = Hub::new(MemoryStore::default());
    let mut subscribing = pin!(hub.subscribe(Subscription::new(channel("a"))));
    let polled = subscribing.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    let Poll::Ready(Err(SubscribeError::Store(error))) = polled else { panic!("{polled:?}") };
    assert!(error.is_retryable(), "{error:?}");
}

#[test]
fn a_reader_whose_runtime_ended_fails_when_it_needs_the_store() {
    let one_by_one = HubOptions::default().ring_bytes(1).page(Limit::new(1, 1000));
    let hub = Hub::with_options(MemoryStore::default(), one_by_one);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut reader = runtime.block_on(async {
        hub.publish_all(&channel("a"), events(0..9)).await.unwrap();
        let mut reader = hub.subscribe(Subscription::new(channel("a")).start(Start::Earliest)).await.unwrap();
        texts(&mut reader).await;
        reader
    });
    drop(runtime);
    let mut cx = Context::from_waker(Waker::noop());
    let error = loop {
        match Pin::new(&mut reader).poll_next(&mut cx) {
            Poll::Ready(Some(Ok(_))) => {}
            Poll::Ready(Some(Err(SubscribeError::Store(error)))) => break error,
            other => panic!("{other:?}"),
        }
    };
    assert!(error.is_retryable(), "{error:?}");
}
