//! Hints for those who watch. Knows no server: it is told what happened.
//!
//! Lock order: the watchers, then one backlog. Wakers are woken and dropped outside both, for they run foreign code that
//! may come back here.

use std::{
    mem,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
};

use futures_core::Stream;

use super::lock;
use crate::{
    store::Change,
    stores::change_queue::{ChangeQueue, ChangeReceiver},
};

/// Everyone who watches.
#[derive(Default)]
pub(super) struct Watchers(Mutex<Watching>);

#[derive(Default)]
struct Watching {
    backlogs: Vec<Arc<ChangeQueue>>,
    /// Whether hints come now: those who begin to watch may rely on them.
    armed: bool,
    /// Whether a task looks after the hints.
    tailed: bool,
}

impl Watchers {
    /// Begins to watch. Says whether a task has to be started that looks after the hints.
    pub(super) fn watch(self: &Arc<Self>) -> (Changes, bool) {
        let mut watching = lock(&self.0);
        let backlog = Arc::new(if watching.armed { ChangeQueue::new() } else { ChangeQueue::empty() });
        watching.backlogs.push(Arc::clone(&backlog));
        let first = !mem::replace(&mut watching.tailed, true);
        drop(watching);
        (Changes { watchers: Arc::clone(self), intake: ChangeReceiver::new(backlog) }, first)
    }

    /// Whether the task that looks after the hints has to go on.
    pub(super) fn are_there(&self) -> bool {
        let mut watching = lock(&self.0);
        if watching.backlogs.is_empty() {
            (watching.armed, watching.tailed) = (false, false);
        }
        watching.tailed
    }

    /// Whether hints are waited for and do not come.
    pub(super) fn are_late(&self) -> bool {
        let watching = lock(&self.0);
        !watching.backlogs.is_empty() && !watching.armed
    }

    /// Hints come from now on, and may have been lost before.
    pub(super) fn arm(&self) {
        lock(&self.0).armed = true;
        self.tell(|| Change::Resync);
    }

    /// No hints come until it is armed again.
    pub(super) fn disarm(&self) {
        lock(&self.0).armed = false;
    }

    /// Tells everyone.
    pub(super) fn tell(&self, change: impl Fn() -> Change) {
        let watching = lock(&self.0);
        let woken: Vec<_> = watching.backlogs.iter().filter_map(|backlog| backlog.push(change())).collect();
        drop(watching);
        woken.into_iter().for_each(Waker::wake);
    }
}

/// The stream of one watcher. Dropping it deregisters.
pub(super) struct Changes {
    watchers: Arc<Watchers>,
    intake: ChangeReceiver,
}

impl Stream for Changes {
    type Item = Change;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Change>> {
        self.intake.poll_next(cx)
    }
}

impl Drop for Changes {
    fn drop(&mut self) {
        lock(&self.watchers.0).backlogs.retain(|backlog| !Arc::ptr_eq(backlog, self.intake.queue()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resync_comes_when_armed_and_the_last_to_leave_ends_the_task() {
        let watchers = Arc::new(Watchers::default());
        let cx = Context::from_waker(Waker::noop());
        let (mut early, start) = watchers.watch();
        assert!(start && early.intake.poll_next(&cx).is_pending());
        watchers.arm();
        let (mut late, start) = watchers.watch();
        assert!(!start);
        for changes in [&mut early, &mut late] {
            assert!(matches!(changes.intake.poll_next(&cx), Poll::Ready(Some(Change::Resync))));
            assert!(changes.intake.poll_next(&cx).is_pending());
        }
        drop(early);
        assert!(watchers.are_there());
        drop(late);
        assert!(!watchers.are_there());
    }
}
