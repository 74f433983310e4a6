//! Whether the task that delivers hints runs. Knows no server.
//!
//! Lock order: this, then the watchers.

use std::{mem, sync::Mutex};

use super::sync::lock;
use crate::store::kit::{Changes, Watchers};

/// The watchers, and the task that delivers their hints. It outlives the last watcher a little, so that one that comes soon does
/// not have to wait for another.
pub(super) struct ConsumerSlot {
    pub(super) watchers: Watchers,
    is_running: Mutex<bool>,
}

impl ConsumerSlot {
    pub(super) fn new() -> Self {
        Self { watchers: Watchers::unarmed(), is_running: Mutex::new(false) }
    }

    /// Adds a watcher. Returns whether the task must be started.
    pub(super) fn watch(&self) -> (Changes, bool) {
        let mut is_running = lock(&self.is_running);
        (self.watchers.watch(), !mem::replace(&mut *is_running, true))
    }

    /// Whether the task must continue; if not, the next watcher starts another.
    pub(super) fn must_continue(&self) -> bool {
        let mut is_running = lock(&self.is_running);
        if self.watchers.count() == 0 {
            self.watchers.disarm();
            *is_running = false;
        }
        *is_running
    }
}

#[cfg(test)]
mod tests {
    use std::{
        pin::Pin,
        task::{Context, Poll, Waker},
    };

    use futures_core::Stream as _;

    use super::*;
    use crate::store::Change;

    #[test]
    fn watchers_get_a_resync_when_armed_and_the_last_one_to_leave_ends_the_task() {
        let slot = ConsumerSlot::new();
        let mut cx = Context::from_waker(Waker::noop());
        let (mut early, start) = slot.watch();
        assert!(start && Pin::new(&mut early).poll_next(&mut cx).is_pending());
        slot.watchers.arm();
        let (mut late, start) = slot.watch();
        assert!(!start);
        for changes in [&mut early, &mut late] {
            assert!(matches!(Pin::new(&mut *changes).poll_next(&mut cx), Poll::Ready(Some(Change::Resync))));
            assert!(Pin::new(changes).poll_next(&mut cx).is_pending());
        }
        drop(early);
        assert!(slot.must_continue());
        drop(late);
        assert!(!slot.must_continue());
        assert!(slot.watch().1 && !slot.watchers.is_armed());
    }
}
