//! The watchers of a store, and the hints that they get. Knows no server.

use std::{
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Waker,
};

use crate::{store::Change, stores::change_queue::ChangeQueue};

/// All watchers.
#[derive(Default)]
pub(super) struct Watchers(Mutex<WatcherState>);

#[derive(Default)]
struct WatcherState {
    /// Whether hints arrive now.
    armed: bool,
    queues: Vec<Arc<ChangeQueue>>,
}

impl Watchers {
    fn lock(&self) -> MutexGuard<'_, WatcherState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn register(&self) -> Arc<ChangeQueue> {
        let queue = Arc::new(ChangeQueue::empty());
        let mut state = self.lock();
        state.queues.push(Arc::clone(&queue));
        if state.armed {
            // No task can be waiting on a new queue.
            _ = queue.push(Change::Resync);
        }
        queue
    }

    pub(super) fn deregister(&self, queue: &Arc<ChangeQueue>) {
        self.lock().queues.retain(|other| !Arc::ptr_eq(other, queue));
    }

    /// Passes changes to all watchers. Wakes them outside the lock, because wakers run foreign code.
    pub(super) fn notify(&self, changes: Vec<Change>) {
        let queues = self.lock().queues.clone();
        for queue in queues {
            let wakers = changes.iter().filter_map(|change| queue.push(change.clone()));
            wakers.for_each(Waker::wake);
        }
    }

    /// Hints arrive from now on. Changes before that may have been missed, so every watcher gets a resync.
    pub(super) fn arm(&self) {
        self.lock().armed = true;
        self.notify(vec![Change::Resync]);
    }

    /// Hints no longer arrive; returns whether they did before.
    pub(super) fn disarm(&self) -> bool {
        mem::take(&mut self.lock().armed)
    }

    pub(super) fn is_armed(&self) -> bool {
        self.lock().armed
    }
}
