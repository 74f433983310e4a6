//! What makes a connected store unusable: no memory, a failing disk, too few replicas, a newer format, or keys that
//! have moved to another server.

use super::{
    error::{RefusedCalls, refused_calls},
    shared::Shared,
};
use crate::store::{Health, StoreError};

impl Shared {
    /// Records how a write ended.
    pub(super) fn note_write<T>(&self, written: &Result<T, StoreError>) {
        self.observed_health.set(match written {
            Ok(_) => Health::Ready,
            Err(StoreError::Full(_) | StoreError::NewerFormat { .. }) => Health::ReadOnly,
            Err(error) => match refused_calls(error) {
                Some(RefusedCalls::Writes) => Health::ReadOnly,
                Some(RefusedCalls::All) => Health::Unavailable,
                // Says nothing about the store.
                None => return,
            },
        });
    }

    /// Records how a read failed. A read that succeeds says nothing about writes, so it is not recorded.
    pub(super) fn note_read(&self, failed: &StoreError) {
        if refused_calls(failed) == Some(RefusedCalls::All) {
            self.observed_health.set(Health::Unavailable);
        }
    }
}
