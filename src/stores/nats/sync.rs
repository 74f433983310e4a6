//! Locking, and awaiting two futures concurrently.

use std::{
    future::poll_fn,
    pin::pin,
    sync::{Mutex, MutexGuard, PoisonError},
    task::Poll,
};

/// Locks a mutex that has valid data even if a holder panicked.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Awaits both futures concurrently.
pub(super) async fn join<A: Future, B: Future>(one: A, other: B) -> (A::Output, B::Output) {
    let mut one = pin!(one);
    let mut other = pin!(other);
    let mut done = (None, None);
    poll_fn(|cx| {
        if done.0.is_none()
            && let Poll::Ready(first) = one.as_mut().poll(cx)
        {
            done.0 = Some(first);
        }
        if done.1.is_none()
            && let Poll::Ready(second) = other.as_mut().poll(cx)
        {
            done.1 = Some(second);
        }
        match std::mem::take(&mut done) {
            (Some(first), Some(second)) => Poll::Ready((first, second)),
            rest => {
                done = rest;
                Poll::Pending
            }
        }
    })
    .await
}
