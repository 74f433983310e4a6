//! Heads, asked for together: one call decides every start at a head, and every return to one, of all readers that asked
//! before it began.

use std::{
    collections::HashMap,
    mem,
    ops::Range,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{
    runtime::Handle,
    time::{Instant, timeout},
};

use super::{
    error::ReadError,
    shared::Shared,
    shared_call::{Completion, SharedCall},
};
use crate::{
    channel::Channel,
    store::{Head, Store, StoreError},
};

/// A question for one head.
pub(super) type HeadRequest = SharedCall<Head>;

/// The questions that wait for the next call, and how many calls are under way.
#[derive(Debug, Default)]
pub(super) struct HeadRequests {
    state: Mutex<State>,
    /// Every call of the last round failed.
    all_failed: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    waiting: HashMap<Channel, Weak<HeadRequest>>,
    running_calls: usize,
}

impl HeadRequests {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All that was asked and is still waited for. Without any the caller's place is given up in the same step, so that
    /// the next question finds it free.
    fn take(&self) -> Option<Vec<(Channel, Completion<Head>)>> {
        let mut state = self.state();
        let requests = mem::take(&mut state.waiting);
        let waited_for = requests.into_iter().filter(|(_, request)| request.strong_count() > 0);
        let requests: Vec<_> = waited_for.map(|(channel, request)| (channel, Completion::new(request))).collect();
        if requests.is_empty() {
            state.running_calls -= 1;
            return None;
        }
        Some(requests)
    }

    /// Gives a caller's place up that ended before its time: the store panicked, or the runtime ends.
    fn abandon(&self) {
        let mut state = self.state();
        state.running_calls -= 1;
        let left = mem::take(&mut state.waiting);
        drop(state);
        // Dropped without an answer, they fail.
        left.into_values().for_each(|request| drop(Completion::new(request)));
    }
}

impl Shared {
    /// Asks for the channel's head, by a call that begins after this.
    pub(super) fn request_head(self: &Arc<Self>, channel: &Channel) -> Arc<HeadRequest> {
        let mut state = self.head_requests.state();
        if let Some(request) = state.waiting.get(channel).and_then(Weak::upgrade) {
            return request;
        }
        let request = Arc::new(HeadRequest::new());
        let full = state.waiting.len() >= MAX_WAITING;
        match Handle::try_current() {
            Ok(runtime) if !full => {
                state.waiting.insert(channel.clone(), Arc::downgrade(&request));
                let calls = state.running_calls < MAX_CALLS;
                state.running_calls += usize::from(calls);
                // A runtime that ends drops the task at once, which needs the lock.
                drop(state);
                if calls {
                    runtime.spawn(make_calls(HeadCalls(Some(self.clone()))));
                }
            }
            Ok(_) => {
                let retry = Duration::from_secs(1 + fastrand::u64(..4));
                Completion::new(Arc::downgrade(&request)).complete(Err(ReadError::Overloaded { retry }));
            }
            // Dropped without an answer, it fails.
            Err(_) => drop(Completion::new(Arc::downgrade(&request))),
        }
        request
    }

    /// The heads of `channels`, in their order. One that cannot be read costs no other its answer: a call that fails is
    /// halved until the channel is alone.
    pub(super) async fn each_head(&self, channels: &[Channel]) -> Vec<Result<Head, ReadError>> {
        let mut answers = Vec::with_capacity(channels.len());
        for channels in channels.chunks(MAX_CHANNELS_PER_CALL) {
            answers.append(&mut self.heads_by_bisection(channels).await);
        }
        if channels.is_empty() {
            return answers;
        }
        let any = answers.iter().any(Result::is_ok);
        match answers.first() {
            Some(Err(ReadError::Store(error))) if !any => self.outage.failed(error),
            _ => self.outage.succeeded(),
        }
        self.head_requests.all_failed.store(!any, Relaxed);
        answers
    }

    async fn heads_by_bisection(&self, channels: &[Channel]) -> Vec<Result<Head, ReadError>> {
        let unanswered = || Err(StoreError::Corrupt("a head is missing in the answer".into()).into());
        let mut answers: Vec<_> = channels.iter().map(|_| unanswered()).collect();
        // A store that fails altogether is not asked for each of its channels, and one that hangs not for long. Both halves are
        // tried all the same: one channel that cannot be read must not be taken for the store.
        let max_failures = if self.head_requests.all_failed.load(Relaxed) { 1 } else { MAX_FAILURES_IN_A_ROW };
        // Too far away to be told is never.
        let deadline = Instant::now().checked_add(self.options.read_timeout.saturating_mul(2));
        let is_late = || deadline.is_some_and(|deadline| Instant::now() >= deadline);
        let mut failures = 0;
        let mut parts: Vec<Range<usize>> = Vec::new();
        parts.push(0..channels.len());
        while let Some(part) = parts.pop() {
            let parted = channels.get(part.clone()).zip(answers.get_mut(part.clone()));
            let Some((requests, slots)) = parted else { continue };
            if is_late() {
                slots.fill(Err(StoreError::Unavailable("its heads took too long".into()).into()));
                continue;
            }
            match self.heads_in_time(requests).await {
                Ok(heads) => {
                    failures = 0;
                    slots.iter_mut().zip(heads).for_each(|(slot, head)| *slot = Ok(head));
                }
                Err(error) => {
                    failures += 1;
                    let is_hopeless = error.corrupt().is_none() && failures > max_failures;
                    if part.len() == 1 || is_hopeless {
                        slots.fill(Err(error));
                        continue;
                    }
                    let middle = part.start + part.len() / 2;
                    parts.extend([part.start..middle, middle..part.end]);
                }
            }
        }
        answers
    }

    async fn heads_in_time(&self, channels: &[Channel]) -> Result<Vec<Head>, ReadError> {
        match timeout(self.options.read_timeout, self.store.heads(channels)).await {
            Ok(heads) => Ok(heads?),
            Err(elapsed) => Err(StoreError::Unavailable(elapsed.into()).into()),
        }
    }
}

/// One that makes calls, until nothing is asked.
struct HeadCalls(Option<Arc<Shared>>);

impl Drop for HeadCalls {
    fn drop(&mut self) {
        if let Some(shared) = &self.0 {
            shared.head_requests.abandon();
        }
    }
}

async fn make_calls(mut calls: HeadCalls) {
    let Some(shared) = calls.0.clone() else { return };
    while let Some(requests) = shared.head_requests.take() {
        let (channels, requests): (Vec<_>, Vec<_>) = requests.into_iter().unzip();
        let heads = shared.each_head(&channels).await;
        for ((channel, request), head) in channels.iter().zip(requests).zip(heads) {
            if let (Ok(head), Some(topic)) = (&head, shared.topic(channel)) {
                shared.advance_if(topic.anchor(*head), &topic);
            }
            request.complete(head);
        }
    }
    calls.0 = None;
}

/// Most channels in one call.
const MAX_CHANNELS_PER_CALL: usize = 1000;

/// Most calls at once that answer questions: a slow one holds none up that was asked while it ran.
const MAX_CALLS: usize = 4;

/// Most channels that wait for the next call.
const MAX_WAITING: usize = 64 << 10;

/// Most failures in a row before the rest is taken to fail too: more than it takes to find one channel among
/// [`MAX_CHANNELS_PER_CALL`].
const MAX_FAILURES_IN_A_ROW: usize = 11;
