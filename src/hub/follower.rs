//! One follower per hub: it follows the store's hints and, because hints may be lost, compares heads every few seconds.

use std::{
    pin::pin,
    sync::{Arc, Weak},
    time::Duration,
};

use futures_core::Stream as _;
use tokio::{
    runtime::Handle,
    sync::Notify,
    task::consume_budget,
    time::{Instant, sleep, sleep_until, timeout},
};

use super::{
    advance::advance_if_needed,
    changes,
    follower_tasks::{FollowerTasks, PAUSE_AFTER_FAULT},
    shared::Shared,
};
use crate::store::{AnyStore, Store, log_pace::LogPace};

pub(super) fn start(shared: &Arc<Shared>, runtime: &Handle) -> FollowerTasks {
    // The tasks hold the hub weakly: dropping its last handle and reader ends its follower too.
    let (hub, store) = (Arc::downgrade(shared), shared.store.clone());
    let follow_hints = move || follow_hints(hub.clone(), store.clone());
    let (hub, recheck, every) = (Arc::downgrade(shared), shared.recheck.clone(), shared.options.check_every);
    let compare_heads = move || compare_heads_regularly(hub.clone(), recheck.clone(), every);
    FollowerTasks::spawn(runtime, follow_hints, compare_heads)
}

async fn follow_hints(shared: Weak<Shared>, store: AnyStore) {
    let pace = LogPace::default();
    loop {
        let mut hints = pin!(store.changes());
        while let Some(hint) = std::future::poll_fn(|cx| hints.as_mut().poll_next(cx)).await {
            match shared.upgrade() {
                Some(shared) => changes::apply_hint(&shared, hint),
                None => return,
            }
            // A stream that always has a hint ready must not starve the other tasks of this thread.
            consume_budget().await;
        }
        // By contract the stream never ends.
        if pace.is_due() {
            tracing::warn!("the event store's stream of changes ended; following it again");
        }
        sleep(PAUSE_AFTER_FAULT).await;
    }
}

async fn compare_heads_regularly(shared: Weak<Shared>, recheck: Arc<Notify>, every: Duration) {
    let mut last = None;
    loop {
        // After `every`, or earlier after a gap in the hints. Many gaps cost no more than one comparison per pause.
        if timeout(every, recheck.notified()).await.is_ok() {
            sleep_until(last.map_or_else(Instant::now, |last: Instant| last + MIN_PAUSE.min(every))).await;
        }
        let Some(shared) = shared.upgrade() else { return };
        if !shared.sweep() {
            return;
        }
        last = Some(Instant::now());
        compare_heads(&shared).await;
    }
}

async fn compare_heads(shared: &Arc<Shared>) {
    let topics = shared.all_topics();
    let channels: Vec<_> = topics.iter().map(|topic| topic.channel().clone()).collect();
    for (topic, head) in topics.iter().zip(shared.store_calls.each_head(&channels).await) {
        match head {
            Ok(head) => advance_if_needed(shared, topic.confirm_head(head), topic),
            Err(error) => topic.note_unreadable(&error, &shared.unreadable),
        }
    }
}

/// Least time between the starts of two comparisons.
const MIN_PAUSE: Duration = Duration::from_millis(100);
