//! The primitives that the race tests replace: under `--cfg tower_events_loom` the same names come from `loom`.

#[cfg(not(tower_events_loom))]
pub(super) use std::sync::{Mutex, MutexGuard, atomic::AtomicU64};

#[cfg(tower_events_loom)]
pub(super) use loom::sync::{Mutex, MutexGuard, atomic::AtomicU64};

/// Locks, ignoring poison: a panic under these locks leaves nothing half done.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
