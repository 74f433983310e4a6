//! What waits to be written, and who does it: a writer's thread, or one of those who ask.
//!
//! A request that is taken is answered, or its asker learns that it may have happened. None is forgotten: whoever finds the
//! writer at work leaves it to them, and they look at the queue again *after* they have let go of it.

use std::{
    sync::{Arc, Mutex, TryLockError},
    time::Duration,
};

use tokio::sync::oneshot;

use super::{
    options::Durability,
    request::{Operation, Reply, Request},
    request_queue::{Contention, RequestQueue},
    writer::{Served, Writer},
};
use crate::store::StoreError;

/// The writer and what waits for it.
pub(super) struct WriteQueue {
    pub(super) queue: RequestQueue,
    pub(super) writer: Mutex<Writer>,
    /// Whether those who ask may write themselves: when it does not take longer than memory does. What waits for a disk is
    /// a thread's. `block_in_place` is no way around it: it panics in a `LocalSet`, stops the other futures of its task,
    /// a timeout included, and has another thread take over the runtime's worker.
    may_combine: bool,
}

/// The end that asks; when the last clone of a store is dropped, so is this, and the writer's threads end.
pub(super) struct WriteHandle(pub(super) Arc<WriteQueue>);

impl WriteHandle {
    /// Asks, and waits for the answer. Dropping the future before the request was taken withdraws it.
    pub(super) async fn submit(&self, operation: Operation) -> Result<Reply, StoreError> {
        let WriteQueue { queue, may_combine, .. } = &*self.0;
        let combines = *may_combine && operation.size() <= MAX_COMBINED_BYTES;
        let (reply_sender, reply) = oneshot::channel();
        let contention = queue.push(Request { operation, reply_sender })?;
        if !combines {
            queue.wake_thread();
        } else {
            if contention == Contention::Likely {
                // They are in the same transaction then.
                tokio::task::yield_now().await;
            }
            self.0.combine();
        }
        reply.await.unwrap_or_else(|_| Err(StoreError::Unknown("the writer ended before it answered".into())))
    }
}

impl WriteQueue {
    pub(super) fn new(writer: Writer, durability: Durability) -> Self {
        let may_combine = durability == Durability::Process;
        Self { queue: RequestQueue::default(), writer: Mutex::new(writer), may_combine }
    }

    /// How long the thread stays awake after its work: who was just answered often asks again sooner than a thread that
    /// sleeps could be woken. Where those who ask write themselves, it would only be in their way.
    pub(super) fn spin_time(&self) -> Duration {
        if self.may_combine { Duration::ZERO } else { SPIN_TIME }
    }

    /// Writes what is queued, unless someone is at it, or it would take long: then it is the thread's.
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

/// Requests of more bytes than this are the thread's.
const MAX_COMBINED_BYTES: usize = 32 << 10;

const SPIN_TIME: Duration = Duration::from_micros(50);

/// So many transactions one of those who ask does in a row.
const MAX_COMBINE_ROUNDS: usize = 4;
