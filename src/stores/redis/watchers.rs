//! Those who watch a store, and what they are told. Knows no server.

use std::{
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Waker,
};

use crate::{store::Change, stores::hints::Backlog};

/// Everyone who is state.
#[derive(Default)]
pub(super) struct Watchers(Mutex<WatcherState>);

#[derive(Default)]
struct WatcherState {
    /// Whether hints come now.
    armed: bool,
    backlogs: Vec<Arc<Backlog>>,
}

impl Watchers {
    fn lock(&self) -> MutexGuard<'_, WatcherState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn register(&self) -> Arc<Backlog> {
        let backlog = Arc::new(Backlog::unarmed());
        let mut state = self.lock();
        state.backlogs.push(Arc::clone(&backlog));
        if state.armed {
            // Nobody waits for it yet.
            _ = backlog.add(Change::Resync);
        }
        backlog
    }

    pub(super) fn deregister(&self, backlog: &Arc<Backlog>) {
        self.lock().backlogs.retain(|other| !Arc::ptr_eq(other, backlog));
    }

    /// Tells everyone, and wakes them outside the lock, for that runs foreign code.
    pub(super) fn tell(&self, changes: Vec<Change>) {
        let backlogs = self.lock().backlogs.clone();
        for backlog in backlogs {
            let wakers = changes.iter().filter_map(|change| backlog.add(change.clone()));
            wakers.for_each(Waker::wake);
        }
    }

    /// Hints come from now on, and everyone has to look at everything once.
    pub(super) fn arm(&self) {
        self.lock().armed = true;
        self.tell(vec![Change::Resync]);
    }

    /// Hints come no more; whether they did before.
    pub(super) fn disarm(&self) -> bool {
        mem::take(&mut self.lock().armed)
    }

    pub(super) fn is_armed(&self) -> bool {
        self.lock().armed
    }
}
