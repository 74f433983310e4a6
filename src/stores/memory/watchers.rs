//! The watchers of a memory store. Knows nothing of logs: it is told what changed.
//!
//! Lock order: the place, then one queue. Wakers are cloned, woken and dropped outside both, since they run foreign
//! code that may call the store.

use std::{mem, sync::Arc, task::Waker};

use crate::{store::Change, stores::change_queue::ChangeQueue};

#[derive(Default)]
pub(super) struct Watchers {
    queues: Vec<Arc<ChangeQueue>>,
    /// To be woken once the locks are released.
    wakers: Vec<Waker>,
}

impl Watchers {
    pub(super) fn add(&mut self) -> Arc<ChangeQueue> {
        let queue = Arc::new(ChangeQueue::new());
        self.queues.push(Arc::clone(&queue));
        queue
    }

    pub(super) fn remove(&mut self, queue: &Arc<ChangeQueue>) {
        self.queues.retain(|other| !Arc::ptr_eq(other, queue));
    }

    /// Queues a change for every watcher; `change` is called once per watcher.
    pub(super) fn notify(&mut self, change: impl Fn() -> Change) {
        for queue in &self.queues {
            self.wakers.extend(queue.push(change()));
        }
    }

    pub(super) fn take_wakers(&mut self) -> Vec<Waker> {
        mem::take(&mut self.wakers)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.queues.len()
    }
}
