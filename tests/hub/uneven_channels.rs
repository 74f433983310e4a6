//! Channels of one subscription that the store answers at different times, or not at all.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::time::sleep;
use tower_events::{
    Cursors, Hub, Listen, MemoryStore, Store, StoreError, Subscription,
    store::{Head, Limit, Page, Start},
    testing::FaultStore,
};

use super::{
    patched_store::{Fault, PatchedStore},
    *,
};

/// A store that treats channels as their names say.
struct AsNamed;

impl AsNamed {
    async fn answer(channels: &[Channel]) -> Result<(), StoreError> {
        let named = |name| channels.iter().any(|channel| channel.as_str() == name);
        if named("corrupt") {
            return Err(StoreError::Corrupt("a fault on purpose".into()));
        }
        if named("slow") || named("slow to fail") {
            sleep(Duration::from_secs(1)).await;
        }
        if named("slow to fail") { Err(StoreError::Unavailable("a fault on purpose".into())) } else { Ok(()) }
    }
}

impl Fault for AsNamed {
    async fn read(
        &self,
        inner: &MemoryStore,
        channel: &Channel,
        start: Start,
        limit: Limit,
    ) -> Result<Page, StoreError> {
        Self::answer(std::slice::from_ref(channel)).await?;
        inner.read(channel, start, limit).await
    }

    async fn heads(&self, inner: &MemoryStore, channels: &[Channel]) -> Result<Vec<Head>, StoreError> {
        Self::answer(channels).await?;
        inner.heads(channels).await
    }
}

fn as_named() -> (Hub, MemoryStore) {
    let inner = MemoryStore::default();
    (Hub::new(PatchedStore::new(inner.clone(), Arc::new(AsNamed))), inner)
}

#[tokio::test(start_paused = true)]
async fn a_corrupt_channel_does_not_refuse_a_subscription_before_the_others_have_answered() {
    let (hub, _) = as_named();
    publish(&hub, "slow", 1).await;
    let both = Subscription::new(channels(["corrupt", "slow"])).start(Start::Earliest);
    let mut subscriber = hub.subscribe(both).await.unwrap();
    let Delivery::Failed(failed) = next(&mut subscriber).await else { panic!("a failure is expected") };
    assert_eq!(failed.channel, channel("corrupt"));
    assert_eq!(texts(&mut subscriber).await, ["1"]);
}

#[tokio::test(start_paused = true)]
async fn a_full_answer_names_a_position_in_every_channel() {
    let (hub, _) = as_named();
    let names = channels(["a", "slow"]);
    for name in &names {
        publish(&hub, name.as_str(), 1).await;
    }
    let poll = Subscription::new(names.clone()).start(Start::Earliest);
    let first = hub.listen(Listen::from(poll).limit(1)).await.unwrap();
    assert_eq!(first.entries().len(), 1);
    assert!(names.iter().all(|name| first.cursors.position(name).is_some()), "{:?}", first.cursors);
    let second = hub.listen(Subscription::new(names).resume(&first.cursors)).await.unwrap();
    assert_eq!((second.entries().len(), second.resets.len()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn events_come_before_a_failure_although_a_corrupt_channel_has_no_position() {
    let (hub, inner) = as_named();
    let _live = hub.subscribe(Subscription::new(channel("a"))).await.unwrap();
    let known = [channel("a"), channel("slow to fail")];
    let heads = inner.heads(&known).await.unwrap();
    let cursors = Cursors::of(known.iter().zip(heads.iter().map(|head| head.cursor)));
    publish(&hub, "a", 1).await;
    let poll = Subscription::new(channels(["a", "corrupt", "slow to fail"])).resume(&cursors);
    let listened = hub.listen(poll).await.unwrap();
    assert_eq!((listened.entries().len(), listened.failed.len()), (1, 1));
    assert_eq!(listened.failed[0].channel, channel("corrupt"));
}

/// A store that cannot read the heads of whichever channel comes first among four.
#[derive(Default)]
struct FirstUnreadable(Mutex<Option<Channel>>);

impl Fault for FirstUnreadable {
    async fn heads(&self, inner: &MemoryStore, channels: &[Channel]) -> Result<Vec<Head>, StoreError> {
        if let [first, _, _, _] = channels {
            self.0.lock().unwrap().get_or_insert_with(|| first.clone());
        }
        if self.0.lock().unwrap().as_ref().is_some_and(|unreadable| channels.contains(unreadable)) {
            return Err(StoreError::Unavailable("a fault on purpose".into()));
        }
        inner.heads(channels).await
    }
}

#[tokio::test(start_paused = true)]
async fn after_an_outage_one_unreadable_channel_does_not_delay_the_comparison_of_the_one_next_to_it() {
    let inner = MemoryStore::default();
    let (store, faults) = FaultStore::new(PatchedStore::new(inner.clone(), Arc::<FirstUnreadable>::default()));
    let hub = Hub::new(store);
    let names = channels(["a", "b", "c", "d"]);
    let mut readers = Vec::new();
    for name in &names {
        readers.push(hub.subscribe(Subscription::new(name)).await.unwrap());
    }
    settle().await;
    faults.lose_hints(usize::MAX);
    faults.fail_next_heads(usize::MAX);
    sleep(crate::CHECK_EVERY * 3 / 2).await;
    faults.fail_next_heads(0);
    for name in &names {
        inner.append(name, Append::new(events([1]))).await.unwrap();
    }
    sleep(crate::CHECK_EVERY).await;
    let mut waiting = 0;
    for reader in &mut readers {
        waiting += usize::from(is_parked(reader).await);
    }
    assert_eq!(waiting, 1, "the readers of the unreadable channel only");
}
