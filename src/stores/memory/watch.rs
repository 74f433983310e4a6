//! Hints for those who watch a memory store. Knows nothing of logs: it is told what happened.
//!
//! Lock order: the place, then one backlog. Wakers are cloned, woken and dropped outside both, for they run foreign code
//! that may come back here.

use std::{
    mem,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use futures_core::Stream;

use super::place::Place;
use crate::{
    store::Change,
    stores::change_queue::{ChangeQueue, ChangeReceiver},
};

/// Everyone who watches.
#[derive(Default)]
pub(super) struct Watchers {
    queues: Vec<Arc<ChangeQueue>>,
    /// Whom to wake once the locks are gone.
    wakers: Vec<Waker>,
}

impl Watchers {
    /// Tells everyone; `change` is made only when someone listens.
    pub(super) fn notify(&mut self, change: impl Fn() -> Change) {
        for queue in &self.queues {
            self.wakers.extend(queue.push(change()));
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.queues.len()
    }

    pub(super) fn take_wakers(&mut self) -> Vec<Waker> {
        mem::take(&mut self.wakers)
    }
}

/// The stream of one watcher. Dropping it deregisters.
pub(super) struct Changes {
    place: Arc<Mutex<Place>>,
    receiver: ChangeReceiver,
}

impl Changes {
    pub(super) fn new(place: Arc<Mutex<Place>>) -> Self {
        let queue = Arc::new(ChangeQueue::new());
        lock(&place).watchers.queues.push(Arc::clone(&queue));
        Self { place, receiver: ChangeReceiver::new(queue) }
    }
}

impl Stream for Changes {
    type Item = Change;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Change>> {
        self.receiver.poll_next(cx)
    }
}

impl Drop for Changes {
    fn drop(&mut self) {
        lock(&self.place).watchers.queues.retain(|queue| !Arc::ptr_eq(queue, self.receiver.queue()));
    }
}

fn lock(place: &Mutex<Place>) -> MutexGuard<'_, Place> {
    place.lock().unwrap_or_else(PoisonError::into_inner)
}
