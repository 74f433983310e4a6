//! The health that calls observe, and the single task that looks for the end of a problem.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::store::Health;

/// The [`Health`] of a store as its last calls observed it. While it is not [`Ready`](Health::Ready), a task tries again, so that
/// the end of the problem is noticed without calls; at most one does, because it has the [`Probe`].
///
/// ```
/// use tower_events::store::{Health, kit::ObservedHealth};
///
/// let observed = ObservedHealth::default();
/// assert!(observed.get() == Health::Ready && observed.probe().is_none());
/// observed.set(Health::Unavailable); // a call failed
/// let probe = observed.probe().expect("nothing is tried yet"); // moves into a task, which tries again
/// assert!(observed.probe().is_none());
/// observed.set(Health::Ready); // it has succeeded
/// drop(probe);
/// ```
#[derive(Debug, Default)]
pub struct ObservedHealth(Arc<Mutex<Observed>>);

#[derive(Debug, Default)]
struct Observed {
    health: Health,
    is_probed: bool,
}

impl ObservedHealth {
    /// What the last call observed; before the first one [`Health::Ready`].
    #[must_use]
    pub fn get(&self) -> Health {
        lock(&self.0).health
    }

    /// Records what a call observed. One that says nothing about the store, such as a refusal, records nothing.
    pub fn set(&self, health: Health) {
        lock(&self.0).health = health;
    }

    /// The permission to try again. `None` while the store is ready, and while another [`Probe`] exists.
    #[must_use]
    pub fn probe(&self) -> Option<Probe> {
        let mut observed = lock(&self.0);
        if observed.health == Health::Ready || observed.is_probed {
            return None;
        }
        observed.is_probed = true;
        Some(Probe(Some(Arc::clone(&self.0))))
    }
}

/// The permission to try whether a store is ready again. There is one at a time; it ends when it is dropped.
#[derive(Debug)]
pub struct Probe(Option<Arc<Mutex<Observed>>>);

impl Probe {
    /// Whether a task that tries again and again goes on. Once the store is ready the permission ends, in the same step: a problem
    /// that is observed afterwards gets another [`ObservedHealth::probe`].
    #[must_use]
    pub fn goes_on(&mut self) -> bool {
        let is_over = self.0.as_ref().is_none_or(|observed| {
            let mut observed = lock(observed);
            observed.is_probed = observed.health != Health::Ready;
            !observed.is_probed
        });
        if is_over {
            self.0 = None;
        }
        !is_over
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        if let Some(observed) = &self.0 {
            lock(observed).is_probed = false;
        }
    }
}

fn lock(observed: &Mutex<Observed>) -> MutexGuard<'_, Observed> {
    observed.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_task_probes_until_a_call_or_a_probe_finds_the_store_ready() {
        let observed = ObservedHealth::default();
        assert!(observed.probe().is_none());
        observed.set(Health::Unavailable);
        let mut probe = observed.probe().unwrap();
        observed.set(Health::ReadOnly);
        assert!(observed.probe().is_none() && probe.goes_on());
        observed.set(Health::Ready);
        observed.set(Health::Unavailable);
        assert!(observed.probe().is_none(), "the task that probes has not seen that it may end");
        assert!(probe.goes_on());
        observed.set(Health::Ready);
        assert!(!probe.goes_on() && !probe.goes_on());
        observed.set(Health::Unavailable);
        let next = observed.probe();
        drop(probe);
        assert!(next.is_some() && observed.probe().is_none(), "a probe that is over ends no other");
        drop(next);
        assert!(observed.probe().is_some());
    }
}
