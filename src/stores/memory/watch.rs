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
    stores::hints::{Backlog, Intake},
};

/// Everyone who watches.
#[derive(Default)]
pub(super) struct Watchers {
    backlogs: Vec<Arc<Backlog>>,
    /// Whom to wake once the locks are gone.
    woken: Vec<Waker>,
}

impl Watchers {
    /// Tells everyone; `change` is made only when someone listens.
    pub(super) fn tell(&mut self, change: impl Fn() -> Change) {
        for backlog in &self.backlogs {
            self.woken.extend(backlog.add(change()));
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.backlogs.len()
    }

    pub(super) fn take_wakers(&mut self) -> Vec<Waker> {
        mem::take(&mut self.woken)
    }
}

/// The stream of one watcher. Dropping it deregisters.
pub(super) struct Changes {
    place: Arc<Mutex<Place>>,
    intake: Intake,
}

impl Changes {
    pub(super) fn new(place: Arc<Mutex<Place>>) -> Self {
        let backlog = Arc::new(Backlog::new());
        lock(&place).watchers.backlogs.push(Arc::clone(&backlog));
        Self { place, intake: Intake::new(backlog) }
    }
}

impl Stream for Changes {
    type Item = Change;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Change>> {
        self.intake.poll_next(cx)
    }
}

impl Drop for Changes {
    fn drop(&mut self) {
        lock(&self.place).watchers.backlogs.retain(|backlog| !Arc::ptr_eq(backlog, self.intake.backlog()));
    }
}

fn lock(place: &Mutex<Place>) -> MutexGuard<'_, Place> {
    place.lock().unwrap_or_else(PoisonError::into_inner)
}
