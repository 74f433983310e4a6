//! One call to the store whose result several readers wait for. A task makes the call, so that no reader depends on another
//! one being polled.

use std::{
    fmt,
    sync::{Arc, Weak},
    task::{Context, Poll, Waker},
};

use tokio::task::AbortHandle;

use super::{
    error::ReadError,
    sync::{Mutex, lock},
};
use crate::store::StoreError;

/// A call, and its result once it is there. When the last reader drops it, the call is aborted.
pub(super) struct SharedCall<T>(Mutex<State<T>>);

struct State<T> {
    result: Option<Result<T, ReadError>>,
    wakers: Vec<Waker>,
    task: Option<AbortHandle>,
}

pub(super) enum CallStatus<T> {
    Pending,
    Succeeded(T),
    Failed,
}

impl<T: Clone> SharedCall<T> {
    pub(super) fn new() -> Self {
        Self(Mutex::new(State { result: None, wakers: Vec::new(), task: None }))
    }

    /// A call that failed before it was made.
    pub(super) fn failed(error: impl Into<ReadError>) -> Self {
        Self(Mutex::new(State { result: Some(Err(error.into())), wakers: Vec::new(), task: None }))
    }

    /// The result; while it is pending, `cx` is woken when it comes. `slot` belongs to the caller and is `None` at first: it
    /// makes registering a waker O(1) however many readers share the call.
    pub(super) fn poll(&self, slot: &mut Option<usize>, cx: &Context<'_>) -> Poll<Result<T, ReadError>> {
        let mut state = lock(&self.0);
        if let Some(result) = &state.result {
            return Poll::Ready(result.clone());
        }
        let replaced = match slot.and_then(|slot| state.wakers.get_mut(slot)) {
            Some(waker) if waker.will_wake(cx.waker()) => None,
            Some(waker) => Some(std::mem::replace(waker, cx.waker().clone())),
            None => {
                *slot = Some(state.wakers.len());
                state.wakers.push(cx.waker().clone());
                None
            }
        };
        drop(state);
        drop(replaced);
        Poll::Pending
    }

    pub(super) fn status(&self) -> CallStatus<T> {
        match &lock(&self.0).result {
            None => CallStatus::Pending,
            Some(Ok(value)) => CallStatus::Succeeded(value.clone()),
            Some(Err(_)) => CallStatus::Failed,
        }
    }

    /// Names the task that makes the call.
    pub(super) fn set_task(&self, task: AbortHandle) {
        lock(&self.0).task = Some(task);
    }

    fn complete(&self, result: Result<T, ReadError>) {
        let mut state = lock(&self.0);
        state.result.get_or_insert(result);
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

/// The obligation to complete a call. Dropped without a result (the store panicked, or the runtime is shutting down), it
/// completes the call with an error.
pub(super) struct Completion<T: Clone>(Weak<SharedCall<T>>);

impl<T: Clone> Completion<T> {
    pub(super) fn new(call: Weak<SharedCall<T>>) -> Self {
        Self(call)
    }

    pub(super) fn weak(&self) -> Weak<SharedCall<T>> {
        self.0.clone()
    }

    /// The call, if anything still waits for its result.
    pub(super) fn call(&self) -> Option<Arc<SharedCall<T>>> {
        self.0.upgrade()
    }

    pub(super) fn complete(self, result: Result<T, ReadError>) {
        if let Some(call) = self.0.upgrade() {
            call.complete(result);
        }
    }
}

impl<T: Clone> Drop for Completion<T> {
    fn drop(&mut self) {
        if let Some(call) = self.0.upgrade() {
            call.complete(Err(StoreError::Unavailable("the call was interrupted".into()).into()));
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
    fn each_waiter_has_one_slot_and_its_last_waker_is_woken() {
        let call = SharedCall::<()>::new();
        let [first, second, other] = [(); 3].map(|()| Arc::new(Count::default()));
        let (mut one, mut two) = (None, None);
        for (slot, waker) in [(&mut one, &first), (&mut two, &other)] {
            assert!(call.poll(slot, &Context::from_waker(&waker.clone().into())).is_pending());
        }
        for waker in [&first, &second, &second] {
            assert!(call.poll(&mut one, &Context::from_waker(&waker.clone().into())).is_pending());
        }
        assert_eq!(lock(&call.0).wakers.len(), 2);
        call.complete(Err(StoreError::Unavailable("a test".into()).into()));
        assert_eq!([first, second, other].map(|count| count.0.load(Relaxed)), [0, 1, 1]);
        assert!(call.poll(&mut one, &Context::from_waker(Waker::noop())).is_ready());
    }
}
