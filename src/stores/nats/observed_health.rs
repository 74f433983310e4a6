//! The health that the last calls observed. Asks nothing.

use std::sync::Mutex;

use super::error::refuses_only_writes;
use crate::store::StoreError;

/// The condition that the last call observed.
#[derive(Default)]
pub(super) struct ObservedHealth(pub(super) Mutex<Condition>);

#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Condition {
    #[default]
    Healthy,
    /// Writes are refused.
    ReadOnly,
    Unavailable,
}

impl Condition {
    /// What an error says about the store; `None` if it says nothing.
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
