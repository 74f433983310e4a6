//! A store that breaks its contract: it panics, or its hints end. Those who asked are answered, and all others go on.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

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

/// Panics as often as it is told to.
#[derive(Default)]
struct Unsound {
    inner: MemoryStore,
    reads: AtomicUsize,
    heads: AtomicUsize,
    /// The next changes that end at once, or panic.
    ending: AtomicUsize,
    panicking: AtomicUsize,
    /// How many heads have to be asked for until all of them panic.
    together: AtomicUsize,
    asked: AtomicUsize,
    all_asked: Notify,
}

fn due(left: &AtomicUsize) -> bool {
    left.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)).is_ok()
}

impl Fault for Unsound {
    async fn read(
        &self,
        inner: &MemoryStore,
        channel: &Channel,
        start: Start,
        limit: Limit,
    ) -> Result<Page, StoreError> {
        assert!(!due(&self.reads), "on purpose");
        inner.read(channel, start, limit).await
    }

    async fn heads(&self, inner: &MemoryStore, channels: &[Channel]) -> Result<Vec<Head>, StoreError> {
        let together = self.together.load(SeqCst);
        if together > 0 {
            if self.asked.fetch_add(1, SeqCst) + 1 < together {
                self.all_asked.notified().await;
            }
            self.all_asked.notify_waiters();
            panic!("on purpose");
        }
        assert!(!due(&self.heads), "on purpose");
        inner.heads(channels).await
    }

    fn changes(&self, inner: Hints) -> Hints {
        assert!(!due(&self.panicking), "on purpose");
        if due(&self.ending) { Box::pin(tokio_stream::empty()) } else { inner }
    }
}

const NEVER: Duration = Duration::from_secs(100 * 24 * 60 * 60);

fn unsound(check_every: Duration) -> (Hub, Arc<Unsound>) {
    let unsound = Arc::<Unsound>::default();
    let store = PatchedStore::new(unsound.inner.clone(), unsound.clone());
    (Hub::with_options(store, HubOptions::default().check_every(check_every)), unsound)
}

fn is_unavailable<T>(result: &Result<T, SubscribeError>) -> bool {
    matches!(result, Err(SubscribeError::Store(StoreError::Unavailable(_))))
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_a_read_fails_those_who_wait_for_it_and_nobody_else() {
    let (hub, store) = unsound(NEVER);
    append(&store.inner, [1]).await;
    let start = Instant::now();
    // More than are read at once, so that a right to read that was not given back is missed.
    for _ in 0..hub.options().reads * 2 {
        store.reads.store(1, SeqCst);
        let earliest = || Subscription::new(channel("a")).start(Start::Earliest);
        assert!(is_unavailable(&hub.subscribe(earliest()).await));
        assert_eq!(hub.listen(earliest()).await.unwrap().entries().len(), 1);
    }
    assert_eq!((start.elapsed(), hub.stats().readers), (Duration::ZERO, 0));
}

#[tokio::test(start_paused = true)]
async fn a_panic_while_a_channel_is_brought_on_leaves_it_to_the_next_comparison() {
    let (hub, store) = unsound(Duration::from_secs(3));
    let mut live = hub.subscribe(Subscription::new(channel("a"))).await.unwrap();
    settle().await;
    store.inner.init(&channel("a"), events(["anew"]), Expect::Any).await.unwrap();
    store.reads.store(1, SeqCst);
    let start = Instant::now();
    timeout(Duration::from_secs(60), reset(&mut live)).await.expect("it is brought on");
    assert!(start.elapsed() <= Duration::from_secs(3));
    assert_eq!(store.reads.load(SeqCst), 0);
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_heads_fails_those_who_asked_and_nobody_else() {
    let (hub, store) = unsound(NEVER);
    let start = Instant::now();
    for _ in 0..10 {
        store.heads.store(1, SeqCst);
        assert!(matches!(hub.heads(&channel("a").into()).await, Err(StoreError::Unavailable(_))));
        assert!(hub.heads(&channel("a").into()).await.is_ok());
    }
    // As many as call at once, and one that waits for one of them.
    store.together.store(4, SeqCst);
    let mut asking = tokio::task::JoinSet::new();
    for n in 0..5 {
        let hub = hub.clone();
        asking.spawn(async move { hub.heads(&channel(&n.to_string()).into()).await });
        settle().await;
    }
    let answers = timeout(Duration::from_secs(60), asking.join_all()).await.expect("all are answered");
    assert!(answers.iter().all(Result::is_err));
    store.together.store(0, SeqCst);
    assert!(hub.heads(&channel("a").into()).await.is_ok());
    assert_eq!(start.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn hints_that_end_are_watched_anew() {
    let (hub, store) = unsound(NEVER);
    store.ending.store(3, SeqCst);
    let mut live = hub.subscribe(Subscription::new(channel("a"))).await.unwrap();
    settle().await;
    let start = Instant::now();
    append(&store.inner, [1]).await;
    assert_eq!(timeout(Duration::from_secs(60), texts(&mut live)).await.expect("the hints go on"), ["1"]);
    assert_eq!(start.elapsed(), Duration::from_secs(3), "a second after each end");
    assert_eq!(store.ending.load(SeqCst), 0);
}

#[tokio::test(start_paused = true)]
async fn hints_that_panic_are_watched_anew_a_second_later_each_time() {
    let (hub, store) = unsound(NEVER);
    store.panicking.store(3, SeqCst);
    let mut live = hub.subscribe(Subscription::new(channel("a"))).await.unwrap();
    let start = Instant::now();
    append(&store.inner, [1]).await;
    assert_eq!(timeout(Duration::from_secs(60), texts(&mut live)).await.expect("the hints go on"), ["1"]);
    assert_eq!(start.elapsed(), Duration::from_secs(3));
}

#[tokio::test(start_paused = true)]
async fn nothing_runs_on_once_the_last_handle_and_reader_of_a_hub_have_gone() {
    let (hub, _) = unsound(NEVER);
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
    let (hub, store) = unsound(NEVER);
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    // It stays, so that the channel is followed all the time.
    let _first = runtime().block_on(hub.subscribe(Subscription::new(channel("a")))).unwrap();
    runtime().block_on(async {
        let mut live = hub.subscribe(Subscription::new(channel("a"))).await.unwrap();
        settle().await;
        append(&store.inner, [1]).await;
        assert_eq!(texts(&mut live).await, ["1"]);
    });
}

#[tokio::test(start_paused = true)]
async fn what_panicked_in_the_follower_starts_again_by_itself() {
    // Of its two tasks each in turn is the only one that can tell.
    for (panics, check_every) in [("hints", NEVER), ("comparison", Duration::from_secs(3))] {
        let (hub, store) = unsound(check_every);
        match panics {
            "hints" => store.panicking.store(1, SeqCst),
            _ => {
                store.ending.store(usize::MAX, SeqCst);
                store.heads.store(1, SeqCst);
            }
        }
        let earliest = Subscription::new(channel("a")).start(Start::Earliest);
        let mut reader = hub.subscribe(earliest).await.unwrap();
        tokio::time::sleep(Duration::from_secs(8)).await;
        append(&store.inner, [1]).await;
        let told = timeout(Duration::from_secs(60), texts(&mut reader)).await;
        assert_eq!(told.unwrap_or_else(|_| panic!("no {panics} any more")), ["1"]);
        assert_eq!((store.panicking.load(SeqCst), store.heads.load(SeqCst)), (0, 0), "nothing panicked");
    }
}
