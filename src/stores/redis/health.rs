//! What keeps a store from being used though it is connected: no room, a disk that fails, too few replicas, a newer format, or
//! keys that another server has now.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::time::Instant;

use super::error::{RefusedCalls, refused_calls};
use crate::store::{Health, StoreError};

/// What there is, as the last write found it.
#[derive(Default)]
pub(super) struct ObservedHealth {
    found: Mutex<Option<Health>>,
    /// When it was last tried whether it is over; held while that is tried.
    pub(super) last_attempt: Arc<tokio::sync::Mutex<Option<Instant>>>,
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
