//! Hints that are lost, duplicated, swapped or held back. Independent of the store.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use futures_core::Stream;

use crate::store::Change;

/// The faults of the next hints, for all watchers together.
#[derive(Debug, Default)]
pub(super) struct HintFaults(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    lose: usize,
    duplicate: usize,
    reorder: usize,
    /// The number of guards that hold back all hints.
    holds: usize,
    /// The number of resyncs that were requested for all watchers.
    resyncs: u64,
    watchers: usize,
    /// The id of the next watcher.
    next_watcher: u64,
    /// The waker of each watcher, to be woken when something above changes.
    wakers: BTreeMap<u64, Waker>,
}

impl HintFaults {
    pub(super) fn lose(&self, n: usize) {
        self.lock().lose = n;
    }

    pub(super) fn duplicate(&self, n: usize) {
        self.lock().duplicate = n;
    }

    pub(super) fn reorder(&self, n: usize) {
        self.lock().reorder = n;
    }

    pub(super) fn hold(&self) {
        self.lock().holds += 1;
    }

    pub(super) fn release(&self) {
        self.change(|state| state.holds -= 1);
    }

    pub(super) fn resync(&self) {
        self.change(|state| state.resyncs += 1);
    }

    pub(super) fn watchers(&self) -> usize {
        self.lock().watchers
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.lock();
        change(&mut state);
        let wakers = std::mem::take(&mut state.wakers);
        drop(state);
        wakers.into_values().for_each(Waker::wake);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(super) struct FaultyHints {
    inner: Pin<Box<dyn Stream<Item = Change> + Send>>,
    faults: Arc<HintFaults>,
    /// The watcher's id.
    watcher: u64,
    /// The hint that waits for the one after it.
    held: Option<Change>,
    /// Hints to yield before those of `inner`.
    ready: VecDeque<Change>,
    /// The number of requested resyncs that were yielded.
    resyncs: u64,
}

impl FaultyHints {
    pub(super) fn new(inner: Pin<Box<dyn Stream<Item = Change> + Send>>, faults: Arc<HintFaults>) -> Self {
        let mut state = faults.lock();
        state.watchers += 1;
        state.next_watcher += 1;
        let (watcher, resyncs) = (state.next_watcher, state.resyncs);
        drop(state);
        Self { inner, faults, watcher, held: None, ready: VecDeque::new(), resyncs }
    }

    /// Applies the faults to `change`; the result is in `ready`.
    fn pass(&mut self, change: Change) {
        let mut state = self.faults.lock();
        if state.lose > 0 {
            state.lose -= usize::from(state.lose != usize::MAX);
        } else if state.reorder > 0 && self.held.is_none() {
            state.reorder -= 1;
            self.held = Some(change);
        } else {
            if state.duplicate > 0 {
                state.duplicate -= 1;
                self.ready.push_back(change.clone());
            }
            self.ready.push_back(change);
            self.ready.extend(self.held.take());
        }
    }

    /// Whether hints are held back. Registers the waker in any case, under the same lock, so that no release is missed.
    fn is_held(&mut self, cx: &Context<'_>) -> Poll<()> {
        let waker = cx.waker().clone();
        let mut state = self.faults.lock();
        let held = state.holds > 0;
        if !held && state.resyncs > self.resyncs {
            self.resyncs = state.resyncs;
            self.ready.push_back(Change::Resync);
        }
        let replaced = state.wakers.insert(self.watcher, waker);
        // Dropping a waker may run foreign code.
        drop(state);
        drop(replaced);
        if held { Poll::Pending } else { Poll::Ready(()) }
    }
}

impl Stream for FaultyHints {
    type Item = Change;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Change>> {
        std::task::ready!(self.is_held(cx));
        loop {
            if let Some(change) = self.ready.pop_front() {
                return Poll::Ready(Some(change));
            }
            match std::task::ready!(self.inner.as_mut().poll_next(cx)) {
                Some(change) => self.pass(change),
                None => return Poll::Ready(None),
            }
        }
    }
}

impl Drop for FaultyHints {
    fn drop(&mut self) {
        let mut state = self.faults.lock();
        state.watchers -= 1;
        let waker = state.wakers.remove(&self.watcher);
        drop(state);
        drop(waker);
    }
}

impl fmt::Debug for FaultyHints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultyHints").finish_non_exhaustive()
    }
}
