//! What waits to be written, and how the threads of the writer wait for it.

use std::{
    collections::VecDeque,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use super::request::{self, Request};
use crate::store::StoreError;

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
pub(super) enum Contention {
    Likely,
    Unlikely,
}

/// Why a thread goes on.
pub(super) enum Wake {
    Requested,
    Timeout,
    Closed,
}

impl RequestQueue {
    pub(super) fn push(&self, request: Request) -> Result<Contention, StoreError> {
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

    /// Nobody asks any more: the threads end.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.ready.notify_all();
    }

    /// No request is taken from now on.
    pub(super) fn end(&self) {
        let mut state = self.lock();
        state.writer_ended = true;
        let left = std::mem::take(&mut state.waiting);
        drop(state);
        request::fail_all(left, StoreError::Unavailable("the writer ended; open the store anew".into()));
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

/// Requests of about so many bytes are one transaction, so that none is long.
const MAX_TX_BYTES: usize = 1 << 20;

/// So many transactions ago is lately.
const RECENT_TXS: u32 = 4;

/// In so many transactions of one request once to look whether others are about to ask.
const PROBE_EVERY: u32 = 16;
