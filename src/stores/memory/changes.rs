//! The stream of changes that one watcher polls.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use futures_core::Stream;

use super::place::Place;
use crate::{store::Change, stores::change_queue::ChangeReceiver};

/// Dropping it deregisters the watcher.
pub(super) struct Changes {
    place: Arc<Mutex<Place>>,
    receiver: ChangeReceiver,
}

impl Changes {
    pub(super) fn new(place: Arc<Mutex<Place>>) -> Self {
        let queue = lock(&place).watchers.add();
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
        lock(&self.place).watchers.remove(self.receiver.queue());
    }
}

fn lock(place: &Mutex<Place>) -> MutexGuard<'_, Place> {
    place.lock().unwrap_or_else(PoisonError::into_inner)
}
