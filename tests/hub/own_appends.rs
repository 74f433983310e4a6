//! An event that is appended here reaches the ring twice, as the answer of the append and as a hint of the store. It counts once.

use std::{
    future::Future,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Wake},
};

use tokio::sync::Notify;
use tower_events::{MemoryStore, Store, StoreError, store::Appended};

use super::{
    patched_store::{Fault, PatchedStore},
    *,
};

#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[tokio::test(start_paused = true)]
async fn the_hint_of_an_append_of_this_process_wakes_no_reader_again() {
    let channel = channel("a");
    let hub = Hub::new(MemoryStore::default());
    let mut reader = hub.subscribe(Subscription::new(&channel)).await.unwrap();
    settle().await;
    publish(&hub, "a", 1).await;
    assert_eq!(texts(&mut reader).await, ["1"]);

    let wakes = Arc::<Wakes>::default();
    let mut waiting = pin!(reader.next());
    assert!(waiting.as_mut().poll(&mut Context::from_waker(&wakes.clone().into())).is_pending());
    // Only now is the hint taken.
    settle().await;
    assert_eq!(wakes.0.load(Ordering::Relaxed), 0);
    publish(&hub, "a", 2).await;
    assert_eq!(wakes.0.load(Ordering::Relaxed), 1);
}

/// Appends at once, and answers the first append only when it is told to.
#[derive(Default)]
struct AnswersTheFirstLate {
    appends: AtomicUsize,
    answer: Notify,
}

impl Fault for AnswersTheFirstLate {
    async fn append(&self, inner: &MemoryStore, channel: &Channel, append: Append) -> Result<Appended, StoreError> {
        let appended = inner.append(channel, append).await;
        if self.appends.fetch_add(1, Ordering::Relaxed) == 0 {
            self.answer.notified().await;
        }
        appended
    }
}

#[tokio::test(start_paused = true)]
async fn appends_that_are_answered_out_of_order_cost_no_read() {
    let channel = channel("a");
    let fault = Arc::<AnswersTheFirstLate>::default();
    let hub = Hub::new(PatchedStore::new(MemoryStore::default(), fault.clone()));
    let mut reader = hub.subscribe(Subscription::new(&channel)).await.unwrap();
    settle().await;
    tokio::join!(publish(&hub, "a", 1), publish(&hub, "a", 2), async {
        settle().await;
        fault.answer.notify_one();
    });
    assert_eq!(texts(&mut reader).await, ["1", "2"]);
    assert_eq!(hub.stats().totals.advancing_reads.count(), 0);
}
