//! The watchers of a store, and the hints that they get. Knows no server.

use std::{
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Waker,
};

use crate::{store::Change, stores::hints::Backlog};

/// All watchers.
#[derive(Default)]
pub(super) struct Watchers(Mutex<WatcherState>);

#[derive(Default)]
struct WatcherState {
    /// Whether hints arrive now.
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
            // No task can be waiting on a new backlog.
            _ = backlog.add(Change::Resync);
        }
        backlog
    }

    pub(super) fn deregister(&self, backlog: &Arc<Backlog>) {
        self.lock().backlogs.retain(|other| !Arc::ptr_eq(other, backlog));
    }

    /// Passes changes to all watchers. Wakes them outside the lock, because wakers run foreign code.
    pub(super) fn notify(&self, changes: Vec<Change>) {
        let backlogs = self.lock().backlogs.clone();
        for backlog in backlogs {
            let wakers = changes.iter().filter_map(|change| backlog.add(change.clone()));
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
