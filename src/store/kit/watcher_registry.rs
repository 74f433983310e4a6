//! The queues of all watchers of a store, behind one lock.

use std::{
    any::Any,
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError, atomic::AtomicUsize},
};

use super::{change_queue::ChangeQueue, wakers::Wakers};
use crate::store::Change;

pub(super) struct WatcherRegistry {
    /// How many queues there are, so that a store without watchers need not lock. A watcher is counted before
    /// `Watchers::watch` returns, hence before it reads the store: a change that is not queued for it is one that it reads.
    pub(super) count: AtomicUsize,
    pub(super) state: Mutex<State>,
}

#[derive(Default)]
pub(super) struct State {
    /// What each watcher has not taken, by its number.
    pub(super) queues: BTreeMap<u64, ChangeQueue>,
    pub(super) next: u64,
    /// Whether hints arrive now, so that a new watcher can rely on them.
    pub(super) armed: bool,
    /// What makes hints arrive, while anyone watches.
    pub(super) listener: Option<Box<dyn Any + Send>>,
}

impl WatcherRegistry {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    pub(super) fn push(&mut self, mut change: impl FnMut() -> Change) -> Wakers {
        let mut wakers = Wakers::default();
        self.queues.values_mut().filter_map(|queue| queue.push(change())).for_each(|waker| wakers.add(waker));
        wakers
    }
}
