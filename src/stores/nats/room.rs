//! How much may wait to be written. Knows no channel.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use super::error::unavailable;
use crate::store::StoreError;

/// What waits, in all.
#[derive(Debug, Default)]
pub(super) struct Room {
    bytes: AtomicUsize,
    calls: AtomicUsize,
}

/// The room of one call; dropping it gives it back.
#[derive(Debug)]
pub(super) struct Taken {
    room: Arc<Room>,
    bytes: usize,
}

impl Room {
    /// Takes room, or fails at once when there is none. One call that alone is too large finds room when nothing else waits.
    pub(super) fn take(self: &Arc<Self>, bytes: usize) -> Result<Taken, StoreError> {
        let before = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        let calls = self.calls.fetch_add(1, Ordering::Relaxed);
        let taken = Taken { room: Arc::clone(self), bytes };
        if calls >= MAX_CALLS || (before > 0 && before.saturating_add(bytes) > MAX_BYTES) {
            drop(taken);
            let mib = before >> 20;
            return Err(unavailable(&format!(
                "{calls} calls with {mib} MiB wait to be written already: retry in a second"
            )));
        }
        Ok(taken)
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.room.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        self.room.calls.fetch_sub(1, Ordering::Relaxed);
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
    fn what_waits_is_bounded_and_comes_back() {
        let room = Arc::new(Room::default());
        let large = room.take(MAX_BYTES * 2).unwrap();
        assert!(room.take(1).is_err());
        drop(large);
        let half = room.take(MAX_BYTES / 2).unwrap();
        let other = room.take(MAX_BYTES / 2).unwrap();
        let refused = room.take(1).unwrap_err();
        assert!(matches!(refused, StoreError::Unavailable(_)), "{refused:?}");
        drop((half, other));
        let many: Vec<_> = (0..MAX_CALLS).map(|_| room.take(0).unwrap()).collect();
        assert!(room.take(0).is_err());
        drop(many);
        room.take(MAX_BYTES).unwrap();
        assert_eq!((room.bytes.load(Ordering::Relaxed), room.calls.load(Ordering::Relaxed)), (0, 0));
    }
}
