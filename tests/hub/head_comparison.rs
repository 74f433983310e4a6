//! The comparison of heads: how many calls it takes, and how many it makes when the store fails.

use std::{
    collections::HashSet,
    future::pending,
    sync::{Arc, Mutex},
    time::Duration,
};

use tower_events::{
    HubOptions, MemoryStore, Store, StoreError, Subscription,
    store::{Append, Head},
};

use super::{
    patched_store::{Fault, Hints, PatchedStore},
    *,
};

/// A store without hints, so that only comparisons find what other processes append, and with faults in its heads.
#[derive(Default)]
struct WithoutHints {
    /// The channels of each call.
    calls: Mutex<Vec<Vec<Channel>>>,
    heads: Mutex<Heads>,
}

#[derive(Clone, Default)]
enum Heads {
    #[default]
    Answer,
    Fail,
    /// Fails with this error whenever one of these channels is in the call.
    FailWith(HashSet<Channel>, fn() -> StoreError),
    Hang,
}

fn unavailable() -> StoreError {
    StoreError::Unavailable("on purpose".into())
}

fn corrupt() -> StoreError {
    StoreError::Corrupt("on purpose".into())
}

impl WithoutHints {
    fn set(&self, heads: Heads) {
        *self.heads.lock().unwrap() = heads;
    }

    /// The number of channels of each call since this was called last.
    fn calls(&self) -> Vec<usize> {
        std::mem::take(&mut *self.calls.lock().unwrap()).iter().map(Vec::len).collect()
    }
}

impl Fault for WithoutHints {
    async fn heads(&self, inner: &MemoryStore, channels: &[Channel]) -> Result<Vec<Head>, StoreError> {
        self.calls.lock().unwrap().push(channels.to_vec());
        let heads = self.heads.lock().unwrap().clone();
        match heads {
            Heads::Fail => Err(unavailable()),
            Heads::FailWith(bad, error) if channels.iter().any(|channel| bad.contains(channel)) => Err(error()),
            Heads::Hang => pending().await,
            Heads::Answer | Heads::FailWith(..) => inner.heads(channels).await,
        }
    }

    fn changes(&self, _: Hints) -> Hints {
        Box::pin(tokio_stream::pending())
    }
}

/// A hub that follows `count` channels and has just compared their heads.
async fn following(count: usize, options: HubOptions) -> (Hub, Arc<WithoutHints>, MemoryStore, Vec<Subscriber>) {
    let (store, inner) = (Arc::<WithoutHints>::default(), MemoryStore::default());
    let hub = Hub::with_options(PatchedStore::new(inner.clone(), store.clone()), options);
    let mut readers = Vec::new();
    let names: Vec<_> = (0..count).map(|n| channel(&n.to_string())).collect();
    for names in names.chunks(Channels::MAX) {
        let names = Channels::new(names.iter().cloned()).unwrap();
        readers.push(hub.subscribe(Subscription::new(names)).await.unwrap());
    }
    tokio::time::sleep(crate::CHECK_EVERY).await;
    settle().await;
    store.calls();
    (hub, store, inner, readers)
}

async fn compare(store: &WithoutHints) -> Vec<usize> {
    tokio::time::sleep(crate::CHECK_EVERY).await;
    settle().await;
    store.calls()
}

#[tokio::test(start_paused = true)]
async fn a_call_has_at_most_a_thousand_channels() {
    let (_hub, store, _inner, _readers) = following(2_500, HubOptions::default()).await;
    assert_eq!(compare(&store).await, [1_000, 1_000, 500]);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_fails_altogether_is_called_a_few_times_and_then_three_times() {
    let (_hub, store, _inner, _readers) = following(1_000, HubOptions::default()).await;
    store.set(Heads::Fail);
    let first = compare(&store).await;
    assert!(first.len() <= 25, "{first:?}");
    for _ in 0..3 {
        assert_eq!(compare(&store).await, [1_000, 500, 500]);
    }
    store.set(Heads::Answer);
    assert_eq!(compare(&store).await, [1_000]);
}

#[tokio::test(start_paused = true)]
async fn failing_channels_cost_none_of_a_thousand_others_its_head() {
    let cases = [
        (vec![0], unavailable as fn() -> StoreError),
        (vec![999], unavailable),
        (vec![0, 250, 500, 750], unavailable),
        ((900..1_000).collect(), corrupt),
    ];
    for (bad, error) in cases {
        let (hub, store, inner, readers) = following(1_000, HubOptions::default()).await;
        tokio::time::sleep(crate::CHECK_EVERY).await;
        settle().await;
        let order = store.calls.lock().unwrap().pop().unwrap();
        for name in &order {
            inner.append(name, Append::new(events(["x"]))).await.unwrap();
        }
        let bad: HashSet<_> = bad.into_iter().map(|at| order[at].clone()).collect();
        store.set(Heads::FailWith(bad.clone(), error));
        for _ in 0..5 {
            compare(&store).await;
        }
        assert_eq!(hub.failure_backoff(), Duration::from_secs(1), "the store counts as answering");
        let mut missed: HashSet<_> = order.into_iter().collect();
        for mut reader in readers {
            while let Ok(Some(Ok(Delivery::Events(events)))) = tokio::time::timeout(Duration::ZERO, reader.next()).await
            {
                events.entries().for_each(|entry| assert!(missed.remove(&entry.channel)));
            }
        }
        assert_eq!(missed, bad);
    }
}

#[tokio::test(start_paused = true)]
async fn all_callers_of_a_store_that_hangs_get_unavailable() {
    let (hub, store, _inner, _readers) = following(1, HubOptions::default()).await;
    store.set(Heads::Hang);
    let mut asking = tokio::task::JoinSet::new();
    for n in 0..4 {
        let (hub, name) = (hub.clone(), channel(&n.to_string()).into());
        asking.spawn(async move { hub.heads(&name).await });
    }
    for answer in asking.join_all().await {
        assert!(matches!(answer, Err(StoreError::Unavailable(_))), "{answer:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_hangs_is_called_for_twice_the_read_timeout_however_many_channels_there_are() {
    let read = Duration::from_secs(10);
    let (_hub, store, _inner, _readers) = following(100, HubOptions::default().read_timeout(read)).await;
    store.set(Heads::Hang);
    let start = tokio::time::Instant::now();
    let mut calls = Vec::new();
    while start.elapsed() < read * 2 + Duration::from_secs(3) {
        tokio::time::sleep(Duration::from_secs(1)).await;
        calls.extend(store.calls());
    }
    assert_eq!(calls, [100, 50], "and no third before the next comparison");
}

#[tokio::test(start_paused = true)]
async fn the_read_timeout_may_be_infinite() {
    let (_hub, store, _inner, _readers) = following(2, HubOptions::default().read_timeout(Duration::MAX)).await;
    assert_eq!(compare(&store).await, [2]);
}
