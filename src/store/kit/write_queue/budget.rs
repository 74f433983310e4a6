//! Bounds how much may wait to be written. Knows no queue.

use std::{
    error::Error,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use crate::store::StoreError;

/// How many writes may wait or be in progress, and how many bytes they may hold together. Clones share it.
///
/// The default is 65 536 writes with 64 MiB. A single write with more bytes is admitted when nothing else waits.
///
/// ```
/// use tower_events::{StoreError, store::kit::write_queue::WriteBudget};
///
/// let budget = WriteBudget::new(2, 1_000);
/// let (first, second) = (budget.reserve(900)?, budget.reserve(100)?);
/// assert!(matches!(budget.reserve(0), Err(StoreError::Unavailable(_))));
/// drop(first);
/// assert_eq!(budget.writes(), 1);
/// # Ok::<(), StoreError>(())
/// ```
#[derive(Clone, Debug)]
pub struct WriteBudget(Arc<Totals>);

#[derive(Debug)]
struct Totals {
    max_writes: usize,
    max_bytes: u64,
    writes: AtomicUsize,
    bytes: AtomicU64,
}

/// The share of one write. Dropping it returns it.
#[derive(Debug)]
#[must_use = "the share is returned when this is dropped"]
pub struct Reservation {
    totals: Arc<Totals>,
    bytes: u64,
}

impl WriteBudget {
    /// At most this many writes, with this many bytes.
    #[must_use]
    pub fn new(max_writes: usize, max_bytes: u64) -> Self {
        let (writes, bytes) = (AtomicUsize::new(0), AtomicU64::new(0));
        Self(Arc::new(Totals { max_writes, max_bytes, writes, bytes }))
    }

    /// Reserves room for a write.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] with [`QueueIsFull`] if there is none.
    pub fn reserve(&self, bytes: u64) -> Result<Reservation, StoreError> {
        let totals = &self.0;
        let held = totals.bytes.fetch_add(bytes, Ordering::Relaxed);
        let writes = totals.writes.fetch_add(1, Ordering::Relaxed);
        let reservation = Reservation { totals: Arc::clone(totals), bytes };
        if writes >= totals.max_writes || (held > 0 && held.saturating_add(bytes) > totals.max_bytes) {
            return Err(StoreError::Unavailable(Box::new(QueueIsFull { writes, bytes: held })));
        }
        Ok(reservation)
    }

    /// How many writes have a reservation.
    #[must_use]
    pub fn writes(&self) -> usize {
        self.0.writes.load(Ordering::Relaxed)
    }
}

impl Default for WriteBudget {
    fn default() -> Self {
        Self::new(MAX_WRITES, MAX_BYTES)
    }
}

impl Reservation {
    /// For how many bytes it is.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.totals.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        self.totals.writes.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Too much waits to be written: try again in about a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct QueueIsFull {
    /// How many writes waited.
    pub writes: usize,
    /// How many bytes they held.
    pub bytes: u64,
}

impl fmt::Display for QueueIsFull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { writes, bytes } = self;
        write!(f, "{writes} writes with {} MiB are already waiting: retry in a second", bytes >> 20)
    }
}

impl Error for QueueIsFull {}

/// The default of the most writes.
const MAX_WRITES: usize = 65_536;

/// The default of their most bytes.
const MAX_BYTES: u64 = 64 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_writes_are_bounded_and_return_their_share() {
        let budget = WriteBudget::default();
        let large = budget.reserve(MAX_BYTES * 2).unwrap();
        assert!(budget.reserve(1).is_err());
        drop(large);
        let half = budget.reserve(MAX_BYTES / 2).unwrap();
        let other = budget.clone().reserve(MAX_BYTES / 2).unwrap();
        let Err(StoreError::Unavailable(refused)) = budget.reserve(1) else { panic!("it is admitted") };
        let full = QueueIsFull { writes: 2, bytes: MAX_BYTES };
        assert_eq!(refused.downcast_ref(), Some(&full));
        assert_eq!(full.to_string(), "2 writes with 64 MiB are already waiting: retry in a second");
        drop((half, other));
        let many: Vec<_> = (0..MAX_WRITES).map(|_| budget.reserve(0).unwrap()).collect();
        assert!(budget.reserve(0).is_err());
        drop(many);
        assert_eq!(budget.reserve(MAX_BYTES).unwrap().bytes(), MAX_BYTES);
        assert_eq!((budget.0.bytes.load(Ordering::Relaxed), budget.writes()), (0, 0));
    }
}
