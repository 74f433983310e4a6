//! The stream of one watcher.

use std::{
    collections::VecDeque,
    fmt,
    pin::Pin,
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll},
};

use futures_core::Stream;

use super::watcher_registry::WatcherRegistry;
use crate::store::Change;

/// The stream of one watcher, which never ends. Dropping it removes the watcher and its hints.
pub struct Changes {
    registry: Arc<WatcherRegistry>,
    number: u64,
    /// Taken from the queue, and not yielded yet.
    taken: VecDeque<Change>,
}

impl Changes {
    /// The stream of the watcher with this number, whose queue is in the registry.
    pub(super) fn new(registry: Arc<WatcherRegistry>, number: u64) -> Self {
        Self { registry, number, taken: VecDeque::new() }
    }
}

impl Stream for Changes {
    type Item = Change;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Change>> {
        if self.taken.is_empty() {
            let waker = cx.waker().clone();
            let taken = self.registry.lock().queues.get_mut(&self.number).map(|queue| queue.take_all(waker));
            // Bound by a statement of its own, so that the waker is dropped after the lock was released.
            let (taken, _unused) = taken.unwrap_or_default();
            self.taken = taken;
        }
        self.taken.pop_front().map_or(Poll::Pending, |change| Poll::Ready(Some(change)))
    }
}

impl Drop for Changes {
    fn drop(&mut self) {
        let mut state = self.registry.lock();
        let queue = state.queues.remove(&self.number);
        self.registry.count.store(state.queues.len(), Ordering::SeqCst);
        let listener = if state.queues.is_empty() { state.listener.take() } else { None };
        if listener.is_some() {
            state.armed = false;
        }
        drop(state);
        // After the lock was released: both run foreign code.
        drop((queue, listener));
    }
}

impl fmt::Debug for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Changes").finish_non_exhaustive()
    }
}
