//! One follower per hub: it listens to the store's hints and, because hints may be lost, compares heads every few seconds.

use std::{
    pin::pin,
    sync::{Arc, Weak},
    time::Duration,
};

use futures_core::Stream as _;
use tokio::{
    runtime::Handle,
    sync::Notify,
    task::{JoinHandle, JoinSet, consume_budget},
    time::{Instant, sleep, sleep_until, timeout},
};

use super::shared::Shared;
use crate::store::{AnyStore, Change, Store};

/// The follower's tasks; dropping it ends them.
#[derive(Debug)]
pub(super) struct Follower {
    hints: JoinHandle<()>,
    heads: JoinHandle<()>,
}

impl Follower {
    pub(super) fn start(shared: &Arc<Shared>, runtime: &Handle) -> Self {
        // The tasks hold the hub weakly: a hub whose last handle and reader are gone takes its follower with it.
        let (hub, store) = (Arc::downgrade(shared), shared.store.clone());
        let hints = runtime.spawn(again_after_panics(move || follow_hints(hub.clone(), store.clone())));
        let (hub, recheck, every) = (Arc::downgrade(shared), shared.recheck.clone(), shared.options.check_every);
        let heads = runtime.spawn(again_after_panics(move || compare_heads(hub.clone(), recheck.clone(), every)));
        Self { hints, heads }
    }

    /// Whether the runtime that it was started on is gone: nothing else ends its tasks while it is there.
    pub(super) fn is_finished(&self) -> bool {
        self.heads.is_finished()
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.hints.abort();
        self.heads.abort();
    }
}

/// Runs a task, and runs it again after a pause if the store panics in it: nothing else would compare heads from then on.
async fn again_after_panics<F: Future<Output = ()> + Send + 'static>(task: impl Fn() -> F) {
    loop {
        // Dropped with this task, which ends the one in it.
        let mut running = JoinSet::new();
        running.spawn(task());
        match running.join_next().await {
            Some(Err(error)) if error.is_panic() => tracing::error!("the store panicked; watching it anew"),
            _ => return,
        }
        sleep(PAUSE_AFTER_FAULT).await;
    }
}

async fn follow_hints(shared: Weak<Shared>, store: AnyStore) {
    loop {
        let mut changes = pin!(store.changes());
        while let Some(change) = std::future::poll_fn(|cx| changes.as_mut().poll_next(cx)).await {
            match shared.upgrade() {
                Some(shared) => take(&shared, change),
                None => return,
            }
            // Hints that are always there must not keep the others of this thread from running.
            consume_budget().await;
        }
        // The contract says that changes never end.
        tracing::warn!("the store's changes ended; watching them anew");
        sleep(PAUSE_AFTER_FAULT).await;
    }
}

fn take(shared: &Arc<Shared>, change: Change) {
    match change {
        Change::Resync => shared.recheck.notify_one(),
        Change::Head(channel, head) => {
            if let Some(topic) = shared.topic(&channel) {
                shared.advance_if(topic.hint_head(head), &topic);
            }
        }
        Change::Entries(entries) => {
            if let Some(topic) = entries.first().and_then(|entry| shared.topic(&entry.channel)) {
                shared.advance_if(topic.feed(&entries, None), &topic);
            }
        }
    }
}

async fn compare_heads(shared: Weak<Shared>, recheck: Arc<Notify>, every: Duration) {
    let mut last = None;
    loop {
        // Whichever comes first: the time, or a gap in the hints. A storm of gaps costs no more than its pauses allow.
        if timeout(every, recheck.notified()).await.is_ok() {
            sleep_until(last.map_or_else(Instant::now, |last: Instant| last + MIN_PAUSE.min(every))).await;
        }
        let Some(shared) = shared.upgrade() else { return };
        if !shared.sweep() {
            return;
        }
        last = Some(Instant::now());
        compare(&shared).await;
    }
}

async fn compare(shared: &Arc<Shared>) {
    let topics = shared.all_topics();
    let channels: Vec<_> = topics.iter().map(|topic| topic.channel().clone()).collect();
    for (topic, head) in topics.iter().zip(shared.each_head(&channels).await) {
        match head {
            Ok(head) => shared.advance_if(topic.confirm_head(head), topic),
            Err(error) => topic.note_unreadable(&error),
        }
    }
}

/// How long after a comparison the next one may begin.
const MIN_PAUSE: Duration = Duration::from_millis(100);

/// How long after the store broke its contract it is watched anew.
const PAUSE_AFTER_FAULT: Duration = Duration::from_secs(1);
