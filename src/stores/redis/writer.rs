//! Appends of many callers at once: what waits while others are under way goes to the server as one call. Knows how to send
//! them and what the answers mean, not how the scripts decide.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::{
    sync::{Semaphore, SemaphorePermit, mpsc, oneshot},
    task::JoinHandle,
    time::timeout_at,
};

use super::{
    append_call::{QueuedAppend, split},
    error::{TimedOut, malformed},
    shared::Shared,
};
use crate::{
    channel::Channel,
    store::{Append, Appended, StoreError, resume},
};

/// The queue of a store's appends, and the task that sends them.
pub(super) struct Writer {
    queue: Mutex<Option<(mpsc::Sender<QueuedAppend>, JoinHandle<()>)>>,
    /// One permit per call under way. Whoever waits gets one before all who come later.
    calls: Arc<Semaphore>,
}

impl Default for Writer {
    fn default() -> Self {
        Self { queue: Mutex::default(), calls: Arc::new(Semaphore::new(MAX_CALLS)) }
    }
}

impl Writer {
    pub(super) async fn append(
        &self,
        shared: &Arc<Shared>,
        channel: &Channel,
        append: Append,
    ) -> Result<Appended, StoreError> {
        let (done, answer) = oneshot::channel();
        let deadline = shared.deadline();
        let tags = append.events.iter().map(|_| resume::fresh_tag()).collect();
        let job = QueuedAppend { channel: channel.clone(), append, tags, deadline, done };
        if let Some(_permit) = self.try_first_call() {
            // The queue's task would only be a detour.
            for call in split(vec![job], 0) {
                call.send(shared).await;
            }
            shared.sweep_if_due();
            return answer.await.unwrap_or_else(|_| Err(malformed("end")));
        }
        let permit = self.sender(shared).reserve_owned();
        match timeout_at(deadline, permit).await {
            Ok(Ok(permit)) => _ = permit.send(job),
            Ok(Err(_)) => return Err(StoreError::Unavailable("the runtime of the store's task is gone".into())),
            Err(_) => return Err(StoreError::Unavailable(Box::new(TimedOut(shared.settings.timeout)))),
        }
        // The task answers by the deadline, unless its runtime ends.
        answer.await.unwrap_or_else(|_| Err(StoreError::Unknown("the runtime of the store's task is gone".into())))
    }

    /// A permit when no call is under way: else to wait a little and go with others is faster for all.
    fn try_first_call(&self) -> Option<SemaphorePermit<'_>> {
        (self.calls.available_permits() == MAX_CALLS).then(|| self.calls.try_acquire().ok()).flatten()
    }

    /// The queue; its task is started on the runtime of the first caller, and again when that runtime is gone.
    fn sender(&self, shared: &Arc<Shared>) -> mpsc::Sender<QueuedAppend> {
        let mut current = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        match &*current {
            Some((sender, task)) if !task.is_finished() => sender.clone(),
            _ => {
                let (sender, jobs) = mpsc::channel(QUEUE_LENGTH);
                let task = tokio::spawn(run_queue(Arc::clone(shared), Arc::clone(&self.calls), jobs));
                current.insert((sender, task)).0.clone()
            }
        }
    }
}

/// Sends what waits until the store is gone. While as many calls are under way as may be, what comes gathers.
async fn run_queue(shared: Arc<Shared>, calls: Arc<Semaphore>, mut jobs: mpsc::Receiver<QueuedAppend>) {
    while let Some(first) = jobs.recv().await {
        let Ok(permit) = Arc::clone(&calls).acquire_owned().await else { return };
        // Those who got the last call's answers append again now, and come along.
        tokio::task::yield_now().await;
        let mut taken = vec![first];
        while let Some(job) = (taken.len() < MAX_JOBS).then(|| jobs.try_recv().ok()).flatten() {
            taken.push(job);
        }
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            for call in split(taken, shared.settings.inline.min(MAX_GROUP_BYTES)) {
                call.send(&shared).await;
            }
            drop(permit);
            shared.sweep_if_due();
        });
    }
}

/// Calls under way at once: one is worked on by the server while the next is written.
const MAX_CALLS: usize = 2;

/// Most appends in one call, so that others get their turn at the server.
const MAX_JOBS: usize = 128;

/// Most bytes in a group of several: the server joins what nodes are told of it in pieces of 8 KiB, and a longer text costs it
/// twice as much.
const MAX_GROUP_BYTES: usize = 7000;

/// Appends that wait in the queue; more wait before it.
const QUEUE_LENGTH: usize = 1024;
