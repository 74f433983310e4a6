//! How the store was found to be. Asks nothing.

use std::sync::Mutex;

use super::error::refuses_only_writes;
use crate::store::StoreError;

/// What the last call found.
#[derive(Default)]
pub(super) struct ObservedHealth(pub(super) Mutex<Condition>);

#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Condition {
    #[default]
    Healthy,
    /// What is written is refused.
    ReadOnly,
    Unavailable,
}

impl Condition {
    /// What an error says; none when it is no fault of the store's.
    pub(super) fn of(error: &StoreError) -> Option<Self> {
        match error {
            error if refuses_only_writes(error) => Some(Self::ReadOnly),
            StoreError::Unavailable(_) | StoreError::Unknown(_) | StoreError::NewerFormat { .. } => {
                Some(Self::Unavailable)
            }
            _ => None,
        }
    }
}
