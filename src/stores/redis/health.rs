//! What keeps a store from being used though it is connected: no room, a disk that fails, too few replicas, a newer format, or
//! keys that another server has now.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{runtime::Handle, time::Instant};

use super::{
    error::{RefusedCalls, refused_calls},
    shared::Shared,
};
use crate::store::{Health, StoreError};

/// What there is, as the last write found it.
#[derive(Default)]
pub(super) struct ObservedHealth {
    found: Mutex<Option<Health>>,
    /// When it was last tried whether it is over; held while that is tried.
    last_attempt: Arc<tokio::sync::Mutex<Option<Instant>>>,
}

impl ObservedHealth {
    /// What it leaves of the store, if there is any.
    pub(super) fn get(&self) -> Option<Health> {
        *self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of how a write ended.
    pub(super) fn note_write<T>(&self, written: &Result<T, StoreError>) {
        let found = match written {
            Ok(_) => None,
            Err(StoreError::Full(_) | StoreError::NewerFormat { .. }) => Some(Health::ReadOnly),
            Err(error) => match refused_calls(error) {
                Some(RefusedCalls::Writes) => Some(Health::ReadOnly),
                Some(RefusedCalls::All) => Some(Health::Unavailable),
                // Tells nothing of it.
                None => return,
            },
        };
        *self.found.lock().unwrap_or_else(PoisonError::into_inner) = found;
    }

    /// Takes note of how a read failed: one that did not says nothing of writes.
    pub(super) fn note_read(&self, failed: &StoreError) {
        if refused_calls(failed) == Some(RefusedCalls::All) {
            *self.found.lock().unwrap_or_else(PoisonError::into_inner) = Some(Health::Unavailable);
        }
    }
}

impl Shared {
    /// Tries whether observed_health is over, for a node that writes nothing; not more often than makes sense.
    pub(super) fn retry_write(self: &Arc<Self>) {
        let Ok(runtime) = Handle::try_current() else { return };
        let Ok(mut tried) = Arc::clone(&self.observed_health.last_attempt).try_lock_owned() else { return };
        if self.observed_health.get().is_some() && tried.is_none_or(|tried| tried.elapsed() > RETRY_EVERY) {
            let shared = Arc::clone(self);
            runtime.spawn(async move {
                shared.observed_health.note_write(&shared.open(shared.deadline()).await);
                *tried = Some(Instant::now());
            });
        }
    }
}

const RETRY_EVERY: Duration = Duration::from_secs(1);
