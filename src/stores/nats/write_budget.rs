//! Bounds how much may wait to be written. Knows no channel.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use super::error::unavailable;
use crate::store::StoreError;

/// The totals of all waiting calls.
#[derive(Debug, Default)]
pub(super) struct WriteBudget {
    bytes: AtomicUsize,
    calls: AtomicUsize,
}

/// The share of one call; dropping it returns it.
#[derive(Debug)]
pub(super) struct Reservation {
    budget: Arc<WriteBudget>,
    bytes: usize,
}

impl WriteBudget {
    /// Reserves room, or fails at once when there is none. A single call above the limit is admitted when nothing else
    /// waits.
    pub(super) fn reserve(self: &Arc<Self>, bytes: usize) -> Result<Reservation, StoreError> {
        let before = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        let calls = self.calls.fetch_add(1, Ordering::Relaxed);
        let reservation = Reservation { budget: Arc::clone(self), bytes };
        if calls >= MAX_CALLS || (before > 0 && before.saturating_add(bytes) > MAX_BYTES) {
            drop(reservation);
            let mib = before >> 20;
            return Err(unavailable(&format!(
                "{calls} calls with {mib} MiB are already waiting to be written: retry in a second"
            )));
        }
        Ok(reservation)
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.budget.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        self.budget.calls.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Most bytes of events that wait on one node.
const MAX_BYTES: usize = 64 << 20;

/// Most calls that wait on one node.
const MAX_CALLS: usize = 65_536;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_calls_are_bounded_and_return_their_share() {
        let budget = Arc::new(WriteBudget::default());
        let large = budget.reserve(MAX_BYTES * 2).unwrap();
        assert!(budget.reserve(1).is_err());
        drop(large);
        let half = budget.reserve(MAX_BYTES / 2).unwrap();
        let other = budget.reserve(MAX_BYTES / 2).unwrap();
        let refused = budget.reserve(1).unwrap_err();
        assert!(matches!(refused, StoreError::Unavailable(_)), "{refused:?}");
        drop((half, other));
        let many: Vec<_> = (0..MAX_CALLS).map(|_| budget.reserve(0).unwrap()).collect();
        assert!(budget.reserve(0).is_err());
        drop(many);
        budget.reserve(MAX_BYTES).unwrap();
        assert_eq!((budget.bytes.load(Ordering::Relaxed), budget.calls.load(Ordering::Relaxed)), (0, 0));
    }
}
