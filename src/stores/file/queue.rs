//! What waits to be written, and who does it: the writer's thread, or one of those who ask.
//!
//! A request that is taken is answered, or its asker learns that it may have happened. None is forgotten: whoever finds the
//! writer at work leaves it to them, and they look at the queue again *after* they have let go of it.

use std::{
    collections::VecDeque,
    future::poll_fn,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, TryLockError},
    task::Poll,
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

use super::{
    options::Durability,
    writer::{AtOnce, Writer},
};
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

/// The writer and what waits for it.
pub(super) struct Office {
    pub(super) queue: Queue,
    pub(super) writer: Mutex<Writer>,
    /// Whether those who ask may write themselves: when it does not take longer than memory does.
    may_lead: bool,
}

/// The end that asks; when the last clone of a store is dropped, so is this, and the writer's thread ends.
pub(super) struct Asking(pub(super) Arc<Office>);

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
    /// The thread was called.
    called: bool,
}

/// Why the thread goes on.
pub(super) enum Turn {
    Called,
    Time,
    Closed,
}

impl Asking {
    /// Asks, and waits for the answer. Dropping the future before the request was taken withdraws it.
    pub(super) async fn ask(&self, action: Action) -> Result<Answer, StoreError> {
        let Office { queue, may_lead, .. } = &*self.0;
        let leads = *may_lead && action.weight() <= MOST_LEAD;
        let (reply, mut answer) = oneshot::channel();
        queue.push(Request { action, reply })?;
        if !leads {
            queue.call();
        } else {
            // Others who are about to ask are in the same transaction then.
            yield_once().await;
            match answer.try_recv() {
                Ok(answer) => return answer,
                Err(_) => self.0.lead(),
            }
        }
        answer.await.unwrap_or_else(|_| Err(StoreError::Unknown("the writer ended before it answered".into())))
    }
}

impl Office {
    pub(super) fn new(writer: Writer, durability: Durability) -> Self {
        let may_lead = durability == Durability::Process;
        Self { queue: Queue::default(), writer: Mutex::new(writer), may_lead }
    }

    /// Writes what is queued, unless someone is at it, or it would take long: then it is the thread's.
    fn lead(&self) {
        for _ in 0..MOST_ROUNDS {
            let done = match self.writer.try_lock() {
                Ok(mut writer) => writer.serve_at_once(&self.queue),
                Err(TryLockError::WouldBlock) => return,
                Err(TryLockError::Poisoned(_)) => return self.queue.end(),
            };
            match done {
                AtOnce::Done if self.queue.is_empty() => return,
                AtOnce::Done => {}
                AtOnce::NotNow => break,
            }
        }
        self.queue.call();
    }
}

/// Lets other tasks run once.
async fn yield_once() {
    let mut yielded = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

impl Drop for Asking {
    fn drop(&mut self) {
        self.0.queue.lock().closed = true;
        self.0.queue.ready.notify_one();
    }
}

impl Queue {
    fn push(&self, request: Request) -> Result<(), StoreError> {
        let mut state = self.lock();
        if state.ended {
            return Err(StoreError::Unavailable("the writer ended; open the store anew".into()));
        }
        state.waiting.push_back(request);
        Ok(())
    }

    /// Has the thread look at the queue.
    pub(super) fn call(&self) {
        let called = std::mem::replace(&mut self.lock().called, true);
        if !called {
            self.ready.notify_one();
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lock().waiting.is_empty()
    }

    /// Waits until there is something to do, at most for so long.
    pub(super) fn wait(&self, most: Duration) -> Turn {
        let until = Instant::now() + most;
        let mut state = self.lock();
        loop {
            if std::mem::take(&mut state.called) {
                return Turn::Called;
            }
            let left = until.saturating_duration_since(Instant::now());
            if state.closed || left.is_zero() {
                return if state.closed { Turn::Closed } else { Turn::Time };
            }
            state = self.ready.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
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

/// Requests of more bytes than this are the thread's.
const MOST_LEAD: usize = 32 << 10;

/// So many transactions one of those who ask does in a row.
const MOST_ROUNDS: usize = 4;
