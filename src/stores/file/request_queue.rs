//! The requests that wait for the writer, and how its threads wait for them.
//!
//! Not [`WriteQueues`](crate::store::kit::write_queue::WriteQueues), whose tasks belong to an async runtime: here threads
//! that may block take the requests, or whichever task finds the writer free.

use std::{
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use super::request::{Operation, Reply, Request};
use crate::store::{
    StoreError,
    kit::write_queue::{Answer, WriteBudget, WriteQueue},
};

#[derive(Default)]
pub(super) struct RequestQueue {
    budget: WriteBudget,
    state: Mutex<State>,
    ready: Condvar,
}

struct State {
    waiting: WriteQueue<Operation, Reply>,
    /// The last handle of the store was dropped.
    closed: bool,
    /// A thread has ended or panicked: no request is served any more.
    writer_ended: bool,
    /// A thread is to look at the queue.
    wake_requested: bool,
    /// Threads that have to be notified.
    sleeping: usize,
    /// Threads that poll `wake_requested` and need no notification.
    spinning: usize,
    /// How many transactions in a row had one request only.
    single_txs: u32,
}

/// Whether other tasks are about to submit requests.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Contention {
    Likely,
    Unlikely,
}

/// Why a thread stopped waiting.
pub(super) enum Wake {
    Requested,
    Timeout,
    Closed,
}

impl RequestQueue {
    pub(super) fn push(&self, operation: Operation) -> Result<(Answer<Reply>, Contention), StoreError> {
        let reservation = self.budget.reserve(operation.size())?;
        let (request, answer) = Request::new(operation, reservation);
        let mut state = self.lock();
        if state.writer_ended {
            return Err(StoreError::Unavailable("the writer ended; open the store again".into()));
        }
        state.waiting.push(request);
        Ok((answer, state.contention()))
    }

    /// Wakes a thread to look at the queue.
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

    /// Waits until a thread is to look at the queue, for at most `timeout`; spins for the first part of it.
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

    /// Takes as many requests as one transaction should have, without those that were cancelled.
    pub(super) fn take(&self) -> Vec<Request> {
        let (mut state, mut size) = (self.lock(), 0);
        let taken = state.waiting.take(|taken, _| {
            size += taken.last().map_or(0, Request::bytes);
            size < MAX_TX_BYTES
        });
        state.single_txs = if taken.len() > 1 { 0 } else { state.single_txs.saturating_add(1) };
        taken
    }

    /// Ends the threads.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.ready.notify_all();
    }

    /// Fails all requests, now and later.
    pub(super) fn end(&self) {
        let mut state = self.lock();
        state.writer_ended = true;
        let left = state.waiting.take_all();
        drop(state);
        Request::fail(left, StoreError::Unavailable("the writer ended; open the store again".into()));
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
    /// Contention is likely if there was some recently. Otherwise it is assumed now and then, to find out: on a
    /// single-threaded runtime no other task can submit before the current one yields.
    fn contention(&self) -> Contention {
        let likely = self.single_txs < RECENT_TXS || self.single_txs % PROBE_EVERY == 0;
        if likely { Contention::Likely } else { Contention::Unlikely }
    }
}

/// The bytes of requests that one transaction takes, roughly, so that none takes long.
const MAX_TX_BYTES: u64 = 1 << 20;

/// After this many transactions with one request, contention is no longer likely.
const RECENT_TXS: u32 = 4;

/// Of this many transactions with one request, one assumes contention.
const PROBE_EVERY: u32 = 16;
