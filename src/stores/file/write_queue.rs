//! The queue of the writer, and which thread serves it: one of the writer's, or that of a task that submits a request
//! and combines it with all that are queued (as in flat combining).
//!
//! Every request that is taken is answered; if the writer panics, the caller learns that its outcome is unknown. No
//! request is stranded: a task that finds the writer locked leaves its request to the lock's holder, which checks the
//! queue again *after* it has unlocked the writer.

use std::{
    sync::{Arc, Mutex, TryLockError},
    time::Duration,
};

use super::{
    options::Durability,
    request::{Operation, Reply},
    request_queue::{Contention, RequestQueue},
    writer::{Served, Writer},
};
use crate::store::StoreError;

pub(super) struct WriteQueue {
    pub(super) queue: RequestQueue,
    pub(super) writer: Mutex<Writer>,
    /// Whether tasks may write themselves: only if commits do not wait for a disk. Else the writer's threads do it.
    /// `block_in_place` is no alternative: it panics in a `LocalSet`, stops the other futures of its task, such as a
    /// timeout, and moves the worker to another thread.
    may_combine: bool,
}

/// Submits requests. Dropped with the last clone of the store, which ends the writer's threads.
pub(super) struct WriteHandle(pub(super) Arc<WriteQueue>);

impl WriteHandle {
    /// Submits a request, and waits for the reply.
    ///
    /// # Cancel safety
    /// Dropping the future cancels the request, unless the writer has already taken it.
    pub(super) async fn submit(&self, operation: Operation) -> Result<Reply, StoreError> {
        let WriteQueue { queue, may_combine, .. } = &*self.0;
        let combines = *may_combine && operation.size() <= MAX_COMBINED_BYTES;
        let (answer, contention) = queue.push(operation)?;
        if !combines {
            queue.wake_thread();
        } else {
            if contention == Contention::Likely {
                // Lets others submit requests, which then share the transaction.
                tokio::task::yield_now().await;
            }
            self.0.combine();
        }
        answer.await
    }
}

impl WriteQueue {
    pub(super) fn new(writer: Writer, durability: Durability) -> Self {
        let may_combine = durability == Durability::Process;
        Self { queue: RequestQueue::default(), writer: Mutex::new(writer), may_combine }
    }

    /// How long a thread spins before it sleeps: a caller that got its reply often submits another request sooner than
    /// a sleeping thread could be woken. If tasks write themselves, a spinning thread would only compete with them.
    pub(super) fn spin_time(&self) -> Duration {
        if self.may_combine { Duration::ZERO } else { SPIN_TIME }
    }

    /// Writes what is queued on the calling task's thread, unless another thread is writing. Leaves the rest to the
    /// writer's thread if it would have to wait.
    fn combine(&self) {
        for _ in 0..MAX_COMBINE_ROUNDS {
            let served = match self.writer.try_lock() {
                Ok(mut writer) => writer.try_serve(&self.queue),
                Err(TryLockError::WouldBlock) => return,
                Err(TryLockError::Poisoned(_)) => return self.queue.end(),
            };
            match served {
                Served::Done if self.queue.is_empty() => return,
                Served::Done => {}
                Served::WouldBlock => break,
            }
        }
        self.queue.wake_thread();
    }
}

impl Drop for WriteHandle {
    fn drop(&mut self) {
        self.0.queue.close();
    }
}

/// Larger requests are left to the writer's thread.
const MAX_COMBINED_BYTES: u64 = 32 << 10;

/// How long a thread spins before it sleeps.
const SPIN_TIME: Duration = Duration::from_micros(50);

/// The most transactions that a task does in a row.
const MAX_COMBINE_ROUNDS: usize = 4;
