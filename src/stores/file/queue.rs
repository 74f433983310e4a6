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
    writer::{Served, Writer},
};
use crate::{
    channel::Channel,
    event::Event,
    store::{Append, Appended, Expect, Head, StoreError},
};

pub(super) struct Request {
    pub(super) operation: Operation,
    pub(super) reply_sender: ReplySender,
}

pub(super) enum Operation {
    Append(Channel, Append),
    Init(Channel, Vec<Event>, Expect),
    Delete(Channel),
    /// Has the janitor look at these channels now.
    Maintain(Vec<Channel>),
}

pub(super) enum Reply {
    Appended(Appended),
    Head(Head),
    Deleted,
    Maintained,
}

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

#[derive(Default)]
pub(super) struct RequestQueue {
    state: Mutex<State>,
    ready: Condvar,
}

struct State {
    waiting: VecDeque<Request>,
    /// Nobody asks any more.
    closed: bool,
    /// The writer is gone.
    writer_ended: bool,
    /// A thread was called.
    wake_requested: bool,
    /// So many threads wait to be called,
    sleeping: usize,
    /// and so many see it by themselves.
    spinning: usize,
    /// So many transactions in a row held one request only.
    single_txs: u32,
}

/// Whether others are about to ask too.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Contention {
    Likely,
    Unlikely,
}

/// Why a thread goes on.
pub(super) enum Wake {
    Requested,
    Timeout,
    Closed,
}

impl WriteHandle {
    /// Asks, and waits for the answer. Dropping the future before the request was taken withdraws it.
    pub(super) async fn submit(&self, operation: Operation) -> Result<Reply, StoreError> {
        let WriteQueue { queue, may_combine, .. } = &*self.0;
        let combines = *may_combine && operation.size() <= MAX_COMBINED_BYTES;
        let (reply_sender, reply) = oneshot::channel();
        let contention = queue.push(Request { operation, reply_sender })?;
        if !combines {
            queue.call();
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
        self.0.queue.lock().closed = true;
        self.0.queue.ready.notify_all();
    }
}

impl RequestQueue {
    fn push(&self, request: Request) -> Result<Contention, StoreError> {
        let mut state = self.lock();
        if state.writer_ended {
            return Err(StoreError::Unavailable("the writer ended; open the store anew".into()));
        }
        state.waiting.push_back(request);
        Ok(state.contention())
    }

    /// Has a thread look at the queue.
    pub(super) fn wake_thread(&self) {
        let mut state = self.lock();
        state.wake_requested = true;
        let wakes = state.sleeping > 0 && state.spinning == 0;
        drop(state);
        if wakes {
            self.ready.notify_one();
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lock().waiting.is_empty()
    }

    /// Waits until there is something to do, at most for so long, and of that at first `awake`.
    pub(super) fn wait(&self, spin: Duration, timeout: Duration) -> Wake {
        let started = Instant::now();
        self.lock().spinning += 1;
        while started.elapsed() < spin.min(timeout) && !self.lock().wake_requested {
            thread::yield_now();
        }
        self.sleep(started + timeout)
    }

    fn sleep(&self, until: Instant) -> Wake {
        let mut state = self.lock();
        state.spinning -= 1;
        loop {
            if std::mem::take(&mut state.wake_requested) {
                return Wake::Requested;
            }
            let left = until.saturating_duration_since(Instant::now());
            if state.closed || left.is_zero() {
                return if state.closed { Wake::Closed } else { Wake::Timeout };
            }
            state.sleeping += 1;
            state = self.ready.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
            state.sleeping -= 1;
        }
    }

    /// Takes as many requests as one transaction should hold.
    pub(super) fn take(&self) -> Vec<Request> {
        let mut state = self.lock();
        let (mut taken, mut size) = (Vec::new(), 0);
        while let Some(request) = state.waiting.pop_front() {
            if request.reply_sender.is_closed() {
                continue;
            }
            size += request.operation.size();
            taken.push(request);
            if size >= MAX_TX_BYTES {
                break;
            }
        }
        state.single_txs = if taken.len() > 1 { 0 } else { state.single_txs.saturating_add(1) };
        taken
    }

    /// No request is taken from now on.
    pub(super) fn end(&self) {
        let mut state = self.lock();
        state.writer_ended = true;
        let left = std::mem::take(&mut state.waiting);
        drop(state);
        let waiting = left.into_iter().map(|request| request.reply_sender);
        durability::fail_all(waiting, StoreError::Unavailable("the writer ended; open the store anew".into()));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for State {
    fn default() -> Self {
        let (waiting, closed, writer_ended, wake_requested, sleeping, spinning) = Default::default();
        Self { waiting, closed, writer_ended, wake_requested, sleeping, spinning, single_txs: RECENT_TXS }
    }
}

impl State {
    /// Others are likely when there were some lately. Now and then it is worth a look although there were none: on a runtime
    /// of one thread nobody can ask before who asks now is done.
    fn contention(&self) -> Contention {
        let likely = self.single_txs < RECENT_TXS || self.single_txs % PROBE_EVERY == 0;
        if likely { Contention::Likely } else { Contention::Unlikely }
    }
}

impl Operation {
    /// The one channel that it is about.
    pub(super) fn channel(&self) -> Option<&Channel> {
        match self {
            Self::Append(channel, _) | Self::Init(channel, ..) | Self::Delete(channel) => Some(channel),
            Self::Maintain(_) => None,
        }
    }

    /// About how many bytes it writes.
    fn size(&self) -> usize {
        let events = match self {
            Self::Append(_, append) => append.events.as_slice(),
            Self::Init(_, events, _) => events,
            Self::Delete(_) => &[],
            Self::Maintain(channels) => return 512 * channels.len(),
        };
        256 + events.iter().map(|event| event.data().len() + 256).sum::<usize>()
    }
}

/// Requests of about so many bytes are one transaction, so that none is long.
const MAX_TX_BYTES: usize = 1 << 20;

/// Requests of more bytes than this are the thread's.
const MAX_COMBINED_BYTES: usize = 32 << 10;

/// So many transactions ago is lately.
const RECENT_TXS: u32 = 4;

/// In so many transactions of one request once to look whether others are about to ask.
const PROBE_EVERY: u32 = 16;

const SPIN_TIME: Duration = Duration::from_micros(50);

/// So many transactions one of those who ask does in a row.
const MAX_COMBINE_ROUNDS: usize = 4;
