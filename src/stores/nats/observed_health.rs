//! The health that the last calls observed. Asks nothing.

use std::sync::Mutex;

use super::{error::refuses_only_writes, sync::lock};
use crate::store::StoreError;

/// The condition that the last call observed.
#[derive(Default)]
pub(super) struct ObservedHealth(Mutex<Observed>);

#[derive(Default)]
struct Observed {
    condition: Condition,
    /// Whether a task looks for the end of the problem. At most one does.
    is_probed: bool,
}

impl ObservedHealth {
    pub(super) fn condition(&self) -> Condition {
        lock(&self.0).condition
    }

    /// Records a condition. Returns whether the caller has to start the task that probes.
    pub(super) fn set(&self, condition: Condition) -> bool {
        let mut observed = lock(&self.0);
        observed.condition = condition;
        condition != Condition::Healthy && !std::mem::replace(&mut observed.is_probed, true)
    }

    /// Ends the probing when the store is healthy. Returns whether it goes on.
    pub(super) fn goes_on_probing(&self) -> bool {
        let mut observed = lock(&self.0);
        observed.is_probed = observed.condition != Condition::Healthy;
        observed.is_probed
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_task_probes_until_a_call_or_a_probe_finds_the_store_healthy() {
        let observed = ObservedHealth::default();
        assert!(!observed.set(Condition::Healthy));
        assert!(observed.set(Condition::Unavailable));
        assert!(!observed.set(Condition::ReadOnly));
        assert!(observed.goes_on_probing());
        assert!(!observed.set(Condition::Healthy));
        assert!(!observed.set(Condition::Unavailable), "the task that probes has not seen that it may end");
        assert!(observed.goes_on_probing());
        observed.set(Condition::Healthy);
        assert!(!observed.goes_on_probing());
        assert!(observed.set(Condition::Unavailable));
    }
}
