//! What waits to be written, and who does it: a writer's thread, or one of those who ask.
//!
//! A request that is taken is answered, or its asker learns that it may have happened. None is forgotten: whoever finds the
//! writer at work leaves it to them, and they look at the queue again *after* they have let go of it.

use std::{
    collections::VecDeque,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, TryLockError},
    thread,
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

use super::{
    options::Durability,
    durability::{self, ReplySender},
    writer::{AtOnce, Writer},
};
use crate::{
    channel::Channel,
    event::Event,
    store::{Append, Appended, Expect, Head, StoreError},
};

pub(super) struct Request {
    pub(super) action: Action,
    pub(super) reply: ReplySender,
}

pub(super) enum Action {
    Append(Channel, Append),
    Init(Channel, Vec<Event>, Expect),
    Delete(Channel),
    /// Has the janitor look at these channels now.
    LookAfter(Vec<Channel>),
}

pub(super) enum Answer {
    Appended(Appended),
    Head(Head),
    Deleted,
    LookedAfter,
}

/// The writer and what waits for it.
pub(super) struct Office {
    pub(super) queue: Queue,
    pub(super) writer: Mutex<Writer>,
    /// Whether those who ask may write themselves: when it does not take longer than memory does. What waits for a disk is
    /// a thread's. `block_in_place` is no way around it: it panics in a `LocalSet`, stops the other futures of its task,
    /// a timeout included, and has another thread take over the runtime's worker.
    may_lead: bool,
}

/// The end that asks; when the last clone of a store is dropped, so is this, and the writer's threads end.
pub(super) struct Asking(pub(super) Arc<Office>);

#[derive(Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    ready: Condvar,
}

struct State {
    waiting: VecDeque<Request>,
    /// Nobody asks any more.
    closed: bool,
    /// The writer is gone.
    ended: bool,
    /// A thread was called.
    called: bool,
    /// So many threads wait to be called,
    asleep: usize,
    /// and so many see it by themselves.
    awake: usize,
    /// So many transactions in a row held one request only.
    alone: u32,
}

/// Whether others are about to ask too.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Company {
    Likely,
    Unlikely,
}

/// Why a thread goes on.
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
        let (reply, answer) = oneshot::channel();
        let company = queue.push(Request { action, reply })?;
        if !leads {
            queue.call();
        } else {
            if company == Company::Likely {
                // They are in the same transaction then.
                tokio::task::yield_now().await;
            }
            self.0.lead();
        }
        answer.await.unwrap_or_else(|_| Err(StoreError::Unknown("the writer ended before it answered".into())))
    }
}

impl Office {
    pub(super) fn new(writer: Writer, durability: Durability) -> Self {
        let may_lead = durability == Durability::Process;
        Self { queue: Queue::default(), writer: Mutex::new(writer), may_lead }
    }

    /// How long the thread stays awake after its work: who was just answered often asks again sooner than a thread that
    /// sleeps could be woken. Where those who ask write themselves, it would only be in their way.
    pub(super) fn awake(&self) -> Duration {
        if self.may_lead { Duration::ZERO } else { AWAKE }
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

impl Drop for Asking {
    fn drop(&mut self) {
        self.0.queue.lock().closed = true;
        self.0.queue.ready.notify_all();
    }
}

impl Queue {
    fn push(&self, request: Request) -> Result<Company, StoreError> {
        let mut state = self.lock();
        if state.ended {
            return Err(StoreError::Unavailable("the writer ended; open the store anew".into()));
        }
        state.waiting.push_back(request);
        Ok(state.company())
    }

    /// Has a thread look at the queue.
    pub(super) fn call(&self) {
        let mut state = self.lock();
        state.called = true;
        let wakes = state.asleep > 0 && state.awake == 0;
        drop(state);
        if wakes {
            self.ready.notify_one();
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lock().waiting.is_empty()
    }

    /// Waits until there is something to do, at most for so long, and of that at first `awake`.
    pub(super) fn wait(&self, awake: Duration, most: Duration) -> Turn {
        let begun = Instant::now();
        self.lock().awake += 1;
        while begun.elapsed() < awake.min(most) && !self.lock().called {
            thread::yield_now();
        }
        self.sleep(begun + most)
    }

    fn sleep(&self, until: Instant) -> Turn {
        let mut state = self.lock();
        state.awake -= 1;
        loop {
            if std::mem::take(&mut state.called) {
                return Turn::Called;
            }
            let left = until.saturating_duration_since(Instant::now());
            if state.closed || left.is_zero() {
                return if state.closed { Turn::Closed } else { Turn::Time };
            }
            state.asleep += 1;
            state = self.ready.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
            state.asleep -= 1;
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
        state.alone = if taken.len() > 1 { 0 } else { state.alone.saturating_add(1) };
        taken
    }

    /// No request is taken from now on.
    pub(super) fn end(&self) {
        let mut state = self.lock();
        state.ended = true;
        let left = std::mem::take(&mut state.waiting);
        drop(state);
        let waiting = left.into_iter().map(|request| request.reply);
        durability::fail_all(waiting, StoreError::Unavailable("the writer ended; open the store anew".into()));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for State {
    fn default() -> Self {
        let (waiting, closed, ended, called, asleep, awake) = Default::default();
        Self { waiting, closed, ended, called, asleep, awake, alone: LATELY }
    }
}

impl State {
    /// Others are likely when there were some lately. Now and then it is worth a look although there were none: on a runtime
    /// of one thread nobody can ask before who asks now is done.
    fn company(&self) -> Company {
        let likely = self.alone < LATELY || self.alone % LOOK_EVERY == 0;
        if likely { Company::Likely } else { Company::Unlikely }
    }
}

impl Action {
    /// The one channel that it is about.
    pub(super) fn channel(&self) -> Option<&Channel> {
        match self {
            Self::Append(channel, _) | Self::Init(channel, ..) | Self::Delete(channel) => Some(channel),
            Self::LookAfter(_) => None,
        }
    }

    /// About how many bytes it writes.
    fn weight(&self) -> usize {
        let events = match self {
            Self::Append(_, append) => append.events.as_slice(),
            Self::Init(_, events, _) => events,
            Self::Delete(_) => &[],
            Self::LookAfter(channels) => return 512 * channels.len(),
        };
        256 + events.iter().map(|event| event.data().len() + 256).sum::<usize>()
    }
}

/// Requests of about so many bytes are one transaction, so that none is long.
const MOST_WEIGHT: usize = 1 << 20;

/// Requests of more bytes than this are the thread's.
const MOST_LEAD: usize = 32 << 10;

/// So many transactions ago is lately.
const LATELY: u32 = 4;

/// In so many transactions of one request once to look whether others are about to ask.
const LOOK_EVERY: u32 = 16;

const AWAKE: Duration = Duration::from_micros(50);

/// So many transactions one of those who ask does in a row.
const MOST_ROUNDS: usize = 4;
