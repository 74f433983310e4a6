//! The watchers in this process and their hints. Knows neither the database nor where a hint comes from.
//!
//! Lock order: the watchers, then one queue. Wakers are woken and dropped outside both, because they run foreign
//! code.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use futures_core::Stream;
use tokio::task::AbortHandle;

use crate::{
    store::Change,
    stores::change_queue::{ChangeQueue, ChangeReceiver},
};

/// All watchers, and the task that listens for them.
#[derive(Default)]
pub(super) struct Watchers(Mutex<State>);

#[derive(Default)]
struct State {
    queues: Vec<Arc<ChangeQueue>>,
    /// Listens while anyone watches.
    listener: Option<AbortHandle>,
    /// Whether the listener receives notifications.
    armed: bool,
}

impl Watchers {
    /// Adds a watcher; `listen` starts the listener for the first one.
    pub(super) fn watch(self: &Arc<Self>, listen: impl FnOnce() -> AbortHandle) -> Changes {
        let mut state = self.lock();
        let queue = Arc::new(if state.armed { ChangeQueue::new() } else { ChangeQueue::empty() });
        state.queues.push(Arc::clone(&queue));
        if state.listener.is_none() {
            state.listener = Some(listen());
        }
        Changes { watchers: Arc::clone(self), receiver: ChangeReceiver::new(queue) }
    }

    /// The listener receives from now on: earlier notifications were missed.
    pub(super) fn arm(&self) {
        self.lock().armed = true;
        self.notify(|| Change::Resync);
    }

    /// The listener receives nothing until it is armed again.
    pub(super) fn disarm(&self) {
        self.lock().armed = false;
    }

    pub(super) fn is_armed(&self) -> bool {
        self.lock().armed
    }

    /// Whether there are watchers, but the listener does not receive.
    pub(super) fn is_late(&self) -> bool {
        let state = self.lock();
        state.listener.is_some() && !state.armed
    }

    /// Passes a change to all watchers; `change` is called only if there are any.
    pub(super) fn notify(&self, change: impl Fn() -> Change) {
        let state = self.lock();
        let woken: Vec<_> = state.queues.iter().filter_map(|queue| queue.push(change())).collect();
        drop(state);
        woken.into_iter().for_each(Waker::wake);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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
        let mut state = self.watchers.lock();
        state.queues.retain(|queue| !Arc::ptr_eq(queue, self.receiver.queue()));
        if state.queues.is_empty() {
            state.armed = false;
            if let Some(listener) = state.listener.take() {
                listener.abort();
            }
        }
    }
}
