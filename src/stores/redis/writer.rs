//! The queue of appends: those that arrive while calls are in progress go to the server together in the next call.

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
    /// One permit per call in progress; permits are granted in the order of arrival.
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
            // Skips the task, which would only add latency.
            for call in split(vec![job], 0) {
                call.send(shared).await;
            }
            shared.sweep_if_due();
            return answer.await.unwrap_or_else(|_| Err(malformed("end")));
        }
        let permit = self.sender(shared).reserve_owned();
        match timeout_at(deadline, permit).await {
            Ok(Ok(permit)) => _ = permit.send(job),
            Ok(Err(_)) => return Err(StoreError::Unavailable("the runtime of the store's task has shut down".into())),
            Err(_) => return Err(StoreError::Unavailable(Box::new(TimedOut(shared.settings.timeout)))),
        }
        // The task answers by the deadline, unless its runtime shuts down.
        answer
            .await
            .unwrap_or_else(|_| Err(StoreError::Unknown("the runtime of the store's task has shut down".into())))
    }

    /// A permit if no call is in progress. Otherwise waiting briefly and joining other appends is faster for all.
    fn try_first_call(&self) -> Option<SemaphorePermit<'_>> {
        (self.calls.available_permits() == MAX_CALLS).then(|| self.calls.try_acquire().ok()).flatten()
    }

    /// The queue. Its task runs on the runtime of the first caller, and is restarted when that runtime has shut down.
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

/// Sends queued appends until the store is dropped. While the maximum number of calls is in progress, appends
/// accumulate.
async fn run_queue(shared: Arc<Shared>, calls: Arc<Semaphore>, mut jobs: mpsc::Receiver<QueuedAppend>) {
    while let Some(first) = jobs.recv().await {
        let Ok(permit) = Arc::clone(&calls).acquire_owned().await else { return };
        // Lets callers that were just answered append again and join this call.
        tokio::task::yield_now().await;
        let mut queued = vec![first];
        while let Some(job) = (queued.len() < MAX_APPENDS).then(|| jobs.try_recv().ok()).flatten() {
            queued.push(job);
        }
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            for call in split(queued, shared.settings.inline.min(MAX_GROUP_BYTES)) {
                call.send(&shared).await;
            }
            drop(permit);
            shared.sweep_if_due();
        });
    }
}

/// Most calls in progress: the server executes one while the next is being sent.
const MAX_CALLS: usize = 2;

/// Most appends per call, so that the server gets to other clients in between.
const MAX_APPENDS: usize = 128;

/// Most bytes in a group of several appends: Lua joins the text of a hint in pieces of 8 KiB, and a longer one costs
/// twice as much.
const MAX_GROUP_BYTES: usize = 7000;

/// Capacity of the queue; further appends wait for room in it.
const QUEUE_LENGTH: usize = 1024;
