//! The synchronisation that the race model replaces: the same names from `loom` under `--cfg tower_events_loom`.

#[cfg(not(tower_events_loom))]
pub(super) use std::sync::{Mutex, MutexGuard, atomic::AtomicU64};

#[cfg(tower_events_loom)]
pub(super) use loom::sync::{Mutex, MutexGuard, atomic::AtomicU64};

/// Locks; a panic while it was held leaves nothing half done here, so poison is ignored.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
