//! The watchers and their hints. Knows no server.
//!
//! Lock order: the watchers, then one queue. Wakers are woken and dropped outside both, because they run foreign code
//! that may call back.

use std::{
    mem,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
};

use futures_core::Stream;

use super::sync::lock;
use crate::{
    store::Change,
    stores::change_queue::{ChangeQueue, ChangeReceiver},
};

/// All watchers.
#[derive(Default)]
pub(super) struct Watchers(Mutex<Watching>);

#[derive(Default)]
struct Watching {
    queues: Vec<Arc<ChangeQueue>>,
    /// Whether hints arrive now, so that new watchers can rely on them.
    armed: bool,
    /// Whether the task that delivers hints is running.
    has_consumer: bool,
}

impl Watchers {
    /// Adds a watcher. Returns whether the task that delivers hints must be started.
    pub(super) fn watch(self: &Arc<Self>) -> (Changes, bool) {
        let mut watching = lock(&self.0);
        let queue = Arc::new(if watching.armed { ChangeQueue::new() } else { ChangeQueue::empty() });
        watching.queues.push(Arc::clone(&queue));
        let first = !mem::replace(&mut watching.has_consumer, true);
        drop(watching);
        (Changes { watchers: Arc::clone(self), receiver: ChangeReceiver::new(queue) }, first)
    }

    /// Whether the task that delivers hints must continue.
    pub(super) fn must_continue(&self) -> bool {
        let mut watching = lock(&self.0);
        if watching.queues.is_empty() {
            (watching.armed, watching.has_consumer) = (false, false);
        }
        watching.has_consumer
    }

    /// Whether there are watchers, but hints do not arrive.
    pub(super) fn are_late(&self) -> bool {
        let watching = lock(&self.0);
        !watching.queues.is_empty() && !watching.armed
    }

    /// Hints arrive from now on; earlier ones may have been lost.
    pub(super) fn arm(&self) {
        lock(&self.0).armed = true;
        self.notify(|| Change::Resync);
    }

    /// Hints no longer arrive until it is armed again.
    pub(super) fn disarm(&self) {
        lock(&self.0).armed = false;
    }

    /// Passes a change to all watchers.
    pub(super) fn notify(&self, change: impl Fn() -> Change) {
        let watching = lock(&self.0);
        let woken: Vec<_> = watching.queues.iter().filter_map(|queue| queue.push(change())).collect();
        drop(watching);
        woken.into_iter().for_each(Waker::wake);
    }
}

/// The stream of one watcher. Dropping it deregisters the watcher.
pub(super) struct Changes {
    watchers: Arc<Watchers>,
    receiver: ChangeReceiver,
}

impl Stream for Changes {
    type Item = Change;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Change>> {
        self.receiver.poll_next(cx)
    }
}

impl Drop for Changes {
    fn drop(&mut self) {
        lock(&self.watchers.0).queues.retain(|queue| !Arc::ptr_eq(queue, self.receiver.queue()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn watchers_get_a_resync_when_armed_and_the_last_one_to_leave_ends_the_task() {
        let watchers = Arc::new(Watchers::default());
        let cx = Context::from_waker(Waker::noop());
        let (mut early, start) = watchers.watch();
        assert!(start && early.receiver.poll_next(&cx).is_pending());
        watchers.arm();
        let (mut late, start) = watchers.watch();
        assert!(!start);
        for changes in [&mut early, &mut late] {
            assert!(matches!(changes.receiver.poll_next(&cx), Poll::Ready(Some(Change::Resync))));
            assert!(changes.receiver.poll_next(&cx).is_pending());
        }
        drop(early);
        assert!(watchers.must_continue());
        drop(late);
        assert!(!watchers.must_continue());
    }
}
