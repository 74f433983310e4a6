//! The queued appends of each channel. While a call is in progress, appends to the same channel wait and then share the
//! next call, so that a busy channel costs one transaction per round trip and not one per append. Knows no SQL.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::oneshot;

use crate::{
    channel::Channel,
    store::{Append, Appended, Expect, StoreError},
};

/// The waiting appends, by channel. A channel is in the map exactly while a task writes it.
#[derive(Default)]
pub(super) struct AppendQueues(Mutex<State>);

#[derive(Default)]
pub(super) struct State {
    pub(super) queues: HashMap<Channel, VecDeque<WaitingAppend>>,
    /// The total bytes of all queues.
    pub(super) bytes: u64,
    pub(super) appends: usize,
    /// The seq that recently written channels have reached.
    pub(super) reached: HashMap<Channel, u64>,
}

pub(super) struct WaitingAppend {
    pub(super) append: Append,
    pub(super) bytes: u64,
    pub(super) answer: oneshot::Sender<Result<Appended, StoreError>>,
}

impl AppendQueues {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many appends wait to be sent.
    pub(super) fn waiting(&self) -> usize {
        self.lock().appends
    }

    /// Whether the group taken last is the only work of this process.
    pub(super) fn is_alone(&self) -> bool {
        let state = self.lock();
        state.queues.len() == 1 && state.appends == 0
    }

    /// A `seq` that the channel has reached.
    pub(super) fn reached(&self, channel: &Channel) -> u64 {
        self.lock().reached.get(channel).copied().unwrap_or(0)
    }

    pub(super) fn note_reached(&self, channel: &Channel, seq: u64) {
        let mut state = self.lock();
        if let Some(reached) = state.reached.get_mut(channel) {
            *reached = seq;
            return;
        }
        // A channel that is dropped here takes the slower path once.
        if state.reached.len() >= MAX_REACHED {
            state.reached.clear();
        }
        state.reached.insert(channel.clone(), seq);
    }

    /// Takes the next group; when nothing waits, removes the queue, and the task has to end. Appends without a waiting
    /// caller are dropped: they were not sent, so they did not happen.
    pub(super) fn next(&self, channel: &Channel) -> Option<Vec<WaitingAppend>> {
        let mut state = self.lock();
        let State { queues, bytes, appends, .. } = &mut *state;
        let queue = queues.get_mut(channel)?;
        let mut group = Vec::new();
        let (mut events, mut size) = (0, 0);
        while let Some(waiting) = queue.front() {
            let fits = group.is_empty() || (events + waiting.append.events.len() <= MAX_EVENTS && size < MAX_BYTES);
            let joins = is_plain(&waiting.append) || group.is_empty();
            if !(fits && joins) {
                break;
            }
            let Some(waiting) = queue.pop_front() else { break };
            (*bytes, *appends) = (*bytes - waiting.bytes, *appends - 1);
            if waiting.answer.is_closed() {
                continue;
            }
            (events, size) = (events + waiting.append.events.len(), size + waiting.bytes);
            let alone = !is_plain(&waiting.append);
            group.push(waiting);
            if alone {
                break;
            }
        }
        if group.is_empty() {
            queues.remove(channel);
            return None;
        }
        Some(group)
    }

    /// Fails everything that waits for the channel: the server is unreachable, and waiting longer would not help.
    pub(super) fn fail_rest(&self, channel: &Channel, error: &Arc<StoreError>) {
        let mut state = self.lock();
        let Some(queue) = state.queues.get_mut(channel) else { return };
        let rest = std::mem::take(queue);
        state.appends -= rest.len();
        state.bytes -= rest.iter().map(|waiting| waiting.bytes).sum::<u64>();
        drop(state);
        for waiting in rest {
            let source = StoreError::shared(Arc::clone(error));
            _ = waiting.answer.send(Err(as_unsent(source)));
        }
    }
}

/// What is unknown for appends that were sent is certain for those that were not.
fn as_unsent(error: StoreError) -> StoreError {
    match error {
        StoreError::Unknown(source) => StoreError::Unavailable(source),
        other => other,
    }
}

/// Whether an append can share its call: it has no expectation and no close, which would affect the others.
fn is_plain(append: &Append) -> bool {
    append.expect == Expect::Any && !append.close
}

/// Most events in a group.
const MAX_EVENTS: usize = 1000;

/// About the most bytes in a group.
const MAX_BYTES: u64 = 1 << 20;

/// Most channels with a remembered `seq`.
const MAX_REACHED: usize = 4096;

/// Most appends that wait in one process, and their most bytes.
pub(super) const MAX_WAITING: usize = 100_000;
pub(super) const MAX_WAITING_BYTES: u64 = 64 << 20;
