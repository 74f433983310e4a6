//! Bounds the memory of the bodies that are arriving or wait for the store. Without a bound, as many bodies of the maximum size
//! would be in memory as there are connections.

use std::sync::Arc;

use http::StatusCode;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::{problem::Problem, retry::Retry};

/// The memory, shared by all clones of a service.
#[derive(Clone, Debug)]
pub(super) struct BodyMemory(Arc<Semaphore>);

impl BodyMemory {
    pub(super) fn new(max_bytes: usize) -> Self {
        Self(Arc::new(Semaphore::new(max_bytes.min(Semaphore::MAX_PERMITS))))
    }

    /// Nothing yet.
    pub(super) fn reserve(&self) -> Reserved<'_> {
        Reserved { memory: self, permit: None, was_refused: false }
    }
}

/// One body's part, which is returned when it is dropped.
#[derive(Debug)]
pub(super) struct Reserved<'a> {
    memory: &'a BodyMemory,
    permit: Option<SemaphorePermit<'a>>,
    /// Whether the body was refused because the memory is full.
    pub(super) was_refused: bool,
}

impl Reserved<'_> {
    /// Reserves the bytes of a body that has grown to `bytes`. The first [`UNCOUNTED`] are as much as the server's own buffers of
    /// a connection, and like these bounded by the number of connections: small bodies cost no lock.
    pub(super) fn grow_to(&mut self, bytes: usize) -> Result<(), Problem> {
        let held = self.permit.as_ref().map_or(0, SemaphorePermit::num_permits);
        let more = bytes.saturating_sub(UNCOUNTED).saturating_sub(held);
        if more == 0 {
            return Ok(());
        }
        let more = u32::try_from(more).ok().and_then(|more| self.memory.0.try_acquire_many(more).ok());
        let Some(more) = more else {
            self.was_refused = true;
            return Err(memory_is_full());
        };
        match &mut self.permit {
            Some(permit) => permit.merge(more),
            None => self.permit = Some(more),
        }
        Ok(())
    }
}

/// Bytes of each body that are not counted.
pub(super) const UNCOUNTED: usize = 16 << 10;

fn memory_is_full() -> Problem {
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "too many large publishes are arriving; try again later")
        .kind("too-many-publishes")
        .temporary(Retry::SOON)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_bodies_share_the_memory_and_return_it() {
        let memory = BodyMemory::new(100);
        let (mut first, mut second, mut small) = (memory.reserve(), memory.reserve(), memory.reserve());
        assert!(small.grow_to(UNCOUNTED).is_ok());
        assert!(first.grow_to(UNCOUNTED + 40).is_ok() && first.grow_to(UNCOUNTED + 60).is_ok());
        assert!(first.grow_to(UNCOUNTED + 10).is_ok(), "shrinks never");
        assert!(second.grow_to(UNCOUNTED + 41).is_err() && second.grow_to(UNCOUNTED + 40).is_ok());
        assert!(small.grow_to(UNCOUNTED + 1).is_err() && small.grow_to(UNCOUNTED).is_ok());
        drop(first);
        assert!(second.grow_to(UNCOUNTED + 100).is_ok());
        drop(second);
        assert!(memory.reserve().grow_to(usize::MAX).is_err());
        assert_eq!(memory.0.available_permits(), 100);
    }
}
