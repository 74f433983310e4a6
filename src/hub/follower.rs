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
    task::JoinHandle,
    time::{sleep, timeout},
};

use super::core::Core;
use crate::store::{AnyStore, Change, Store};

/// The follower's tasks; dropping it ends them.
#[derive(Debug)]
pub(super) struct Follower {
    hints: JoinHandle<()>,
    heads: JoinHandle<()>,
}

impl Follower {
    pub(super) fn start(core: &Arc<Core>, runtime: &Handle) -> Self {
        // The tasks hold the hub weakly: a hub whose last handle and reader are gone takes its follower with it.
        let hints = runtime.spawn(follow_hints(Arc::downgrade(core), core.store.clone()));
        let heads = runtime.spawn(compare_heads(Arc::downgrade(core), core.recheck.clone(), core.options.check_every));
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

async fn follow_hints(core: Weak<Core>, store: AnyStore) {
    loop {
        let mut changes = pin!(store.changes());
        while let Some(change) = std::future::poll_fn(|cx| changes.as_mut().poll_next(cx)).await {
            let Some(core) = core.upgrade() else { return };
            take(&core, change);
        }
        // The contract says that changes never end.
        tracing::warn!("the store's changes ended; watching them anew");
        sleep(Duration::from_secs(1)).await;
    }
}

fn take(core: &Arc<Core>, change: Change) {
    match change {
        Change::Resync => core.recheck.notify_one(),
        Change::Head(channel, head) => {
            if let Some(topic) = core.topic(&channel) {
                core.advance_if(topic.hint(head), &topic);
            }
        }
        Change::Entries(entries) => {
            if let Some(topic) = entries.first().and_then(|entry| core.topic(&entry.channel)) {
                core.advance_if(topic.feed(&entries, None), &topic);
            }
        }
    }
}

async fn compare_heads(core: Weak<Core>, recheck: Arc<Notify>, every: Duration) {
    loop {
        // Whichever comes first: the time, or a gap in the hints.
        let _ = timeout(every, recheck.notified()).await;
        let Some(core) = core.upgrade() else { return };
        if !core.sweep() {
            return;
        }
        compare(&core).await;
    }
}

async fn compare(core: &Arc<Core>) {
    for topics in core.all_topics().chunks(HEADS) {
        let channels: Vec<_> = topics.iter().map(|topic| topic.channel().clone()).collect();
        match timeout(PATIENCE, core.store.heads(&channels)).await {
            Ok(Ok(heads)) => {
                topics.iter().zip(heads).for_each(|(topic, head)| core.advance_if(topic.check(head), topic));
            }
            Ok(Err(error)) => return tracing::warn!(%error, "cannot compare heads with the store"),
            Err(_) => return tracing::warn!("the store did not answer with its heads"),
        }
    }
}

/// Most channels in one question.
const HEADS: usize = 1000;

/// How long an answer may take before it is given up until the next comparison.
const PATIENCE: Duration = Duration::from_secs(10);
