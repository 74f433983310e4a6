//! The queue of appends: those that arrive while calls are in progress go to the server together in the next call.

use std::sync::Arc;

use tokio::sync::{Semaphore, SemaphorePermit};

use super::{
    append_call::{QueuedAppend, Waiting, split},
    shared::Shared,
};
use crate::{
    channel::Channel,
    store::{
        Append, Appended, StoreError,
        kit::{
            events_size,
            write_queue::{QueueTask, WriteQueues},
        },
        resume,
    },
};

/// The queue of a store's appends: one for all channels, since one call can carry appends to many.
pub(super) struct Writer {
    queue: WriteQueues<(), QueuedAppend, Appended>,
    /// One permit per call in progress; permits are granted in the order of arrival.
    calls: Arc<Semaphore>,
}

impl Default for Writer {
    fn default() -> Self {
        Self { queue: WriteQueues::default(), calls: Arc::new(Semaphore::new(MAX_CALLS)) }
    }
}

impl Writer {
    pub(super) async fn append(
        &self,
        shared: &Arc<Shared>,
        channel: &Channel,
        append: Append,
    ) -> Result<Appended, StoreError> {
        let (bytes, tags) = (events_size(channel, &append.events), append.events.iter().map(|_| resume::fresh_tag()));
        let tags = tags.collect();
        let queued = QueuedAppend { channel: channel.clone(), append, tags, deadline: shared.deadline() };
        if let Some(_permit) = self.try_first_call() {
            // Skips the task, which would only add latency.
            let (waiting, answer) = Waiting::new(queued, self.queue.budget().reserve(bytes)?);
            for call in split(vec![waiting], 0) {
                call.send(shared).await;
            }
            shared.sweep_if_due();
            return answer.await;
        }
        let (answer, task) = self.queue.push(&(), queued, bytes)?;
        if let Some(task) = task {
            tokio::spawn(send_all(Arc::clone(shared), Arc::clone(&self.calls), task));
        }
        answer.await
    }

    /// A permit if no call is in progress. Otherwise waiting briefly and joining other appends is faster for all.
    fn try_first_call(&self) -> Option<SemaphorePermit<'_>> {
        (self.calls.available_permits() == MAX_CALLS).then(|| self.calls.try_acquire().ok()).flatten()
    }
}

/// Sends what is queued. While the maximum number of calls is in progress, appends accumulate.
async fn send_all(shared: Arc<Shared>, calls: Arc<Semaphore>, mut task: QueueTask<(), QueuedAppend, Appended>) {
    loop {
        let Ok(permit) = Arc::clone(&calls).acquire_owned().await else { return };
        // Lets callers that were just answered append again and join this call.
        tokio::task::yield_now().await;
        let Some(queued) = task.next(|group, _| group.len() < MAX_APPENDS) else { return };
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
