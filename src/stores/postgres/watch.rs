//! Hints for those who watch in this process. Knows neither the database nor where a hint comes from.
//!
//! Lock order: the watchers, then one backlog. Wakers are woken and dropped outside both, for they run foreign code.

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

/// Everyone who watches, and the task that listens for them.
#[derive(Default)]
pub(super) struct Watchers(Mutex<State>);

#[derive(Default)]
struct State {
    backlogs: Vec<Arc<ChangeQueue>>,
    /// Listens while anyone watches.
    listener: Option<AbortHandle>,
    /// Whether the listener hears what other processes say.
    armed: bool,
}

impl Watchers {
    /// Watches from now on; `listen` starts the listener for the first.
    pub(super) fn watch(self: &Arc<Self>, listen: impl FnOnce() -> AbortHandle) -> Changes {
        let mut state = self.lock();
        let backlog = Arc::new(if state.armed { ChangeQueue::new() } else { ChangeQueue::empty() });
        state.backlogs.push(Arc::clone(&backlog));
        if state.listener.is_none() {
            state.listener = Some(listen());
        }
        Changes { watchers: Arc::clone(self), intake: ChangeReceiver::new(backlog) }
    }

    /// The listener hears from now on: whatever was said before was missed.
    pub(super) fn arm(&self) {
        self.lock().armed = true;
        self.tell(|| Change::Resync);
    }

    /// The listener hears nothing until it is armed again.
    pub(super) fn disarm(&self) {
        self.lock().armed = false;
    }

    pub(super) fn is_armed(&self) -> bool {
        self.lock().armed
    }

    /// Whether somebody watches, and the listener does not hear.
    pub(super) fn is_deaf(&self) -> bool {
        let state = self.lock();
        state.listener.is_some() && !state.armed
    }

    /// Tells everyone; `change` is made only when someone watches.
    pub(super) fn tell(&self, change: impl Fn() -> Change) {
        let state = self.lock();
        let woken: Vec<_> = state.backlogs.iter().filter_map(|backlog| backlog.push(change())).collect();
        drop(state);
        woken.into_iter().for_each(Waker::wake);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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
        let mut state = self.watchers.lock();
        state.backlogs.retain(|backlog| !Arc::ptr_eq(backlog, self.intake.queue()));
        if state.backlogs.is_empty() {
            state.armed = false;
            if let Some(listener) = state.listener.take() {
                listener.abort();
            }
        }
    }
}
