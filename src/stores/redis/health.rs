//! What makes a connected store unusable: no memory, a failing disk, too few replicas, a newer format, or keys that
//! have moved to another server.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::time::Instant;

use super::error::{RefusedCalls, refused_calls};
use crate::store::{Health, StoreError};

/// What the last calls showed.
#[derive(Default)]
pub(super) struct ObservedHealth {
    found: Mutex<Option<Health>>,
    /// When a write was last tried to see whether the problem is over; locked while that is tried.
    pub(super) last_attempt: Arc<tokio::sync::Mutex<Option<Instant>>>,
}

impl ObservedHealth {
    /// The health, if a problem is known.
    pub(super) fn get(&self) -> Option<Health> {
        *self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records how a write ended.
    pub(super) fn note_write<T>(&self, written: &Result<T, StoreError>) {
        let found = match written {
            Ok(_) => None,
            Err(StoreError::Full(_) | StoreError::NewerFormat { .. }) => Some(Health::ReadOnly),
            Err(error) => match refused_calls(error) {
                Some(RefusedCalls::Writes) => Some(Health::ReadOnly),
                Some(RefusedCalls::All) => Some(Health::Unavailable),
                // Says nothing about the store.
                None => return,
            },
        };
        *self.found.lock().unwrap_or_else(PoisonError::into_inner) = found;
    }

    /// Records how a read failed. A read that succeeds says nothing about writes, so it is not recorded.
    pub(super) fn note_read(&self, failed: &StoreError) {
        if refused_calls(failed) == Some(RefusedCalls::All) {
            *self.found.lock().unwrap_or_else(PoisonError::into_inner) = Some(Health::Unavailable);
        }
    }
}
