//! Requests for heads that wait for the next call to the store. Bookkeeping only: `heads` makes the calls.

use std::{
    collections::HashMap,
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use super::shared_call::{Completion, SharedCall};
use crate::{channel::Channel, store::Head};

/// A request for one head.
pub(super) type HeadRequest = SharedCall<Head>;

/// The requests that wait for the next call, and how many tasks make calls.
#[derive(Debug, Default)]
pub(super) struct HeadRequests(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    waiting: HashMap<Channel, Weak<HeadRequest>>,
    tasks: usize,
}

/// Where a request went.
pub(super) enum Enqueued {
    /// A running task will take it.
    Waiting(Arc<HeadRequest>),
    /// The caller has to start a task, which counts as running from now on.
    TaskNeeded(Arc<HeadRequest>),
    /// Nowhere: too many wait already.
    Full,
}

impl HeadRequests {
    /// Joins the waiting request for the channel's head, or adds one. The call that answers it has not begun yet.
    pub(super) fn enqueue(&self, channel: &Channel) -> Enqueued {
        let mut state = self.state();
        if let Some(request) = state.request(channel) {
            return Enqueued::Waiting(request);
        }
        if state.waiting.len() >= MAX_WAITING {
            return Enqueued::Full;
        }
        let request = Arc::new(HeadRequest::new());
        state.waiting.insert(channel.clone(), Arc::downgrade(&request));
        if state.tasks == MAX_TASKS {
            return Enqueued::Waiting(request);
        }
        state.tasks += 1;
        Enqueued::TaskNeeded(request)
    }

    /// Takes all requests whose answer is still wanted. If there are none, the calling task is no longer counted, in the
    /// same step: the next request starts a new one.
    pub(super) fn take(&self) -> Option<Vec<(Channel, Completion<Head>)>> {
        let mut state = self.state();
        let wanted = mem::take(&mut state.waiting).into_iter().filter(|(_, request)| request.strong_count() > 0);
        let requests: Vec<_> = wanted.map(|(channel, request)| (channel, Completion::new(request))).collect();
        if requests.is_empty() {
            state.tasks -= 1;
            return None;
        }
        Some(requests)
    }

    /// Stops counting a task that ended early: the store panicked, or the runtime is shutting down.
    pub(super) fn abandon(&self) {
        let mut state = self.state();
        state.tasks -= 1;
        let left = mem::take(&mut state.waiting);
        drop(state);
        // Dropping a completion without an answer fails its request.
        left.into_values().for_each(|request| drop(Completion::new(request)));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn request(&self, channel: &Channel) -> Option<Arc<HeadRequest>> {
        self.waiting.get(channel).and_then(Weak::upgrade)
    }
}

/// Most tasks at once: a slow call does not delay requests that came after it began.
const MAX_TASKS: usize = 4;

/// Most channels that wait for the next call.
const MAX_WAITING: usize = 64 << 10;
