//! What waits for the writer. A request that is taken is answered, or its asker learns that it may have happened.

use std::{
    collections::VecDeque,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

use crate::{
    channel::Channel,
    event::Event,
    store::{Append, Appended, Expect, Head, StoreError},
};

pub(super) struct Request {
    pub(super) action: Action,
    pub(super) reply: oneshot::Sender<Result<Answer, StoreError>>,
}

pub(super) enum Action {
    Append(Channel, Append),
    Init(Channel, Vec<Event>, Expect),
    Delete(Channel),
}

pub(super) enum Answer {
    Appended(Appended),
    Head(Head),
    Deleted,
}

/// The end that asks; when the last clone of a store is dropped, so is this, and the writer ends.
pub(super) struct Asking(Arc<Queue>);

#[derive(Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    ready: Condvar,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Request>,
    /// Nobody asks any more.
    closed: bool,
    /// The writer is gone.
    ended: bool,
    /// The writer waits for a request.
    idle: bool,
}

/// Why the writer goes on.
pub(super) enum Turn {
    Requests,
    Time,
    Closed,
}

impl Asking {
    pub(super) fn new(queue: Arc<Queue>) -> Self {
        Self(queue)
    }

    /// Asks, and waits for the answer. Dropping the future before the writer took the request withdraws it.
    pub(super) async fn ask(&self, action: Action) -> Result<Answer, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.0.push(Request { action, reply })?;
        answer.await.unwrap_or_else(|_| Err(StoreError::Unknown("the writer ended before it answered".into())))
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        self.0.lock().closed = true;
        self.0.ready.notify_one();
    }
}

impl Queue {
    fn push(&self, request: Request) -> Result<(), StoreError> {
        let mut state = self.lock();
        if state.ended {
            return Err(StoreError::Unavailable("the writer ended; open the store anew".into()));
        }
        state.waiting.push_back(request);
        let idle = std::mem::take(&mut state.idle);
        drop(state);
        if idle {
            self.ready.notify_one();
        }
        Ok(())
    }

    /// Waits until there is something to do, at most for so long.
    pub(super) fn wait(&self, most: Duration) -> Turn {
        let until = Instant::now() + most;
        let mut state = self.lock();
        loop {
            // Whoever dropped the future does not want it done.
            while state.waiting.front().is_some_and(|request| request.reply.is_closed()) {
                state.waiting.pop_front();
            }
            if !state.waiting.is_empty() {
                return Turn::Requests;
            }
            let left = until.saturating_duration_since(Instant::now());
            if state.closed || left.is_zero() {
                return if state.closed { Turn::Closed } else { Turn::Time };
            }
            state.idle = true;
            state = self.ready.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
            state.idle = false;
        }
    }

    /// Takes as many requests as one transaction should hold.
    pub(super) fn take(&self) -> Vec<Request> {
        let mut state = self.lock();
        let (mut taken, mut weight) = (Vec::new(), 0);
        while let Some(request) = state.waiting.pop_front() {
            if request.reply.is_closed() {
                continue;
            }
            weight += request.action.weight();
            taken.push(request);
            if weight >= MOST_WEIGHT {
                break;
            }
        }
        taken
    }

    /// No request is taken from now on.
    pub(super) fn end(&self) {
        let mut state = self.lock();
        state.ended = true;
        let left = std::mem::take(&mut state.waiting);
        drop(state);
        for request in left {
            let error = StoreError::Unavailable("the writer ended; open the store anew".into());
            _ = request.reply.send(Err(error));
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Action {
    /// About how many bytes it writes.
    fn weight(&self) -> usize {
        let events = match self {
            Self::Append(_, append) => append.events.as_slice(),
            Self::Init(_, events, _) => events,
            Self::Delete(_) => &[],
        };
        256 + events.iter().map(|event| event.data().len() + 256).sum::<usize>()
    }
}

/// Requests of about so many bytes are one transaction, so that none is long.
const MOST_WEIGHT: usize = 1 << 20;
