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
    task::{JoinHandle, consume_budget},
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
        let hints = runtime.spawn(follow_hints(Arc::downgrade(shared), shared.store.clone()));
        let heads =
            runtime.spawn(compare_heads(Arc::downgrade(shared), shared.recheck.clone(), shared.options.check_every));
        Self { hints, heads }
    }

    /// Whether the runtime that it was started on is gone.
    pub(super) fn is_finished(&self) -> bool {
        self.hints.is_finished() || self.heads.is_finished()
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.hints.abort();
        self.heads.abort();
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
        sleep(Duration::from_secs(1)).await;
    }
}

fn take(shared: &Arc<Shared>, change: Change) {
    match change {
        Change::Resync => shared.recheck.notify_one(),
        Change::Head(channel, head) => {
            if let Some(topic) = shared.topic(&channel) {
                shared.advance_if(topic.hint(head), &topic);
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
            Ok(head) => shared.advance_if(topic.check(head), topic),
            Err(error) => topic.note_unreadable(&error),
        }
    }
}

/// How long after a comparison the next one may begin.
const MIN_PAUSE: Duration = Duration::from_millis(100);
