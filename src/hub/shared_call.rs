//! One call to the store that several readers wait for. A task makes the call, so that no reader depends on another one
//! being polled.

use std::{
    fmt,
    sync::{Arc, Weak},
    task::{Context, Waker},
};

use tokio::task::AbortHandle;

use super::{
    error::ReadError,
    sync::{Mutex, lock},
};
use crate::store::StoreError;

/// A call under way, and its answer once it is there. When nothing holds it any more, the call is aborted.
pub(super) struct SharedCall<T>(Mutex<State<T>>);

struct State<T> {
    answer: Option<Result<T, ReadError>>,
    wakers: Vec<Waker>,
    task: Option<AbortHandle>,
}

/// What the call gave, without waiting.
pub(super) enum CallStatus<T> {
    Pending,
    Succeeded(T),
    Failed,
}

impl<T: Clone> SharedCall<T> {
    pub(super) fn new() -> Self {
        Self(Mutex::new(State { answer: None, wakers: Vec::new(), task: None }))
    }

    /// The answer, or `None` and `cx` is woken when it is there. `slot` is the caller's own, `None` at first: it makes
    /// registering O(1) however many share the call.
    pub(super) fn poll(&self, slot: &mut Option<usize>, cx: &Context<'_>) -> Option<Result<T, ReadError>> {
        let mut state = lock(&self.0);
        if let Some(answer) = &state.answer {
            return Some(answer.clone());
        }
        let replaced = match slot.and_then(|at| state.wakers.get_mut(at)) {
            Some(same) if same.will_wake(cx.waker()) => None,
            Some(other) => Some(std::mem::replace(other, cx.waker().clone())),
            None => {
                *slot = Some(state.wakers.len());
                state.wakers.push(cx.waker().clone());
                None
            }
        };
        drop(state);
        drop(replaced);
        None
    }

    pub(super) fn status(&self) -> CallStatus<T> {
        match &lock(&self.0).answer {
            None => CallStatus::Pending,
            Some(Ok(answer)) => CallStatus::Succeeded(answer.clone()),
            Some(Err(_)) => CallStatus::Failed,
        }
    }

    pub(super) fn set_task(&self, task: AbortHandle) {
        lock(&self.0).task = Some(task);
    }

    fn complete(&self, answer: Result<T, ReadError>) {
        let mut state = lock(&self.0);
        state.answer.get_or_insert(answer);
        let wakers = std::mem::take(&mut state.wakers);
        // Nothing is left to abort.
        state.task = None;
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }
}

impl<T> Drop for SharedCall<T> {
    fn drop(&mut self) {
        if let Some(task) = lock(&self.0).task.take() {
            task.abort();
        }
    }
}

/// The caller's end of a flight. Dropped without an answer (the store panicked, the runtime ended), it still answers.
pub(super) struct Completion<T: Clone>(Weak<SharedCall<T>>);

impl<T: Clone> Completion<T> {
    pub(super) fn new(call: Weak<SharedCall<T>>) -> Self {
        Self(call)
    }

    /// The flight, if its answer is still waited for.
    pub(super) fn call(&self) -> Option<Arc<SharedCall<T>>> {
        self.0.upgrade()
    }

    pub(super) fn complete(self, answer: Result<T, ReadError>) {
        if let Some(call) = self.0.upgrade() {
            call.complete(answer);
        }
    }
}

impl<T: Clone> Drop for Completion<T> {
    fn drop(&mut self) {
        if let Some(call) = self.0.upgrade() {
            call.complete(Err(StoreError::Unavailable("the call was cut off".into()).into()));
        }
    }
}

impl<T> fmt::Debug for SharedCall<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedCall").finish_non_exhaustive()
    }
}

#[cfg(all(test, not(tower_events_loom)))]
mod tests {
    use std::{
        sync::atomic::{AtomicUsize, Ordering::Relaxed},
        task::Wake,
    };

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Relaxed);
        }
    }

    #[test]
    fn each_waiter_has_one_slot_and_is_woken_as_it_last_asked() {
        let call = SharedCall::<()>::new();
        let [first, second, other] = [(); 3].map(|()| Arc::new(Count::default()));
        let (mut one, mut two) = (None, None);
        for (slot, waker) in [(&mut one, &first), (&mut two, &other)] {
            assert!(call.poll(slot, &Context::from_waker(&waker.clone().into())).is_none());
        }
        for waker in [&first, &second, &second] {
            assert!(call.poll(&mut one, &Context::from_waker(&waker.clone().into())).is_none());
        }
        assert_eq!(lock(&call.0).wakers.len(), 2);
        call.complete(Err(StoreError::Unavailable("a test".into()).into()));
        assert_eq!([first, second, other].map(|count| count.0.load(Relaxed)), [0, 1, 1]);
        assert!(call.poll(&mut one, &Context::from_waker(Waker::noop())).is_some());
    }
}
