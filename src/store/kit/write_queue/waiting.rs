//! A write that waits, and its caller.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use tokio::sync::oneshot;

use super::budget::Reservation;
use crate::store::StoreError;

/// A write that waits or is in progress, and its caller, who gets a `T`. If it is dropped without an answer, the caller gets
/// [`StoreError::Unknown`].
#[derive(Debug)]
pub struct Waiting<W, T> {
    /// What is to be written.
    pub write: W,
    caller: oneshot::Sender<Result<T, StoreError>>,
    reservation: Reservation,
}

impl<W, T> Waiting<W, T> {
    /// A write, and what its caller waits for.
    pub fn new(write: W, reservation: Reservation) -> (Self, Answer<T>) {
        let (caller, answer) = oneshot::channel();
        (Self { write, caller, reservation }, Answer(answer))
    }

    /// The write, and its caller without it.
    #[must_use]
    pub fn split(self) -> (W, Waiting<(), T>) {
        let Self { write, caller, reservation } = self;
        (write, Waiting { write: (), caller, reservation })
    }

    /// For how many bytes of the budget it counts.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.reservation.bytes()
    }

    /// Whether its caller has gone. What was not sent yet then need not be.
    #[must_use]
    pub fn is_abandoned(&self) -> bool {
        self.caller.is_closed()
    }

    /// Answers the caller.
    pub fn answer(self, answer: Result<T, StoreError>) {
        // The caller may have gone.
        _ = self.caller.send(answer);
    }

    /// Answers all of them with the same error.
    pub fn fail(group: impl IntoIterator<Item = Self>, error: StoreError) {
        Self::fail_shared(group, &Arc::new(error));
    }

    /// Answers all of them with an error that others get, too.
    pub fn fail_shared(group: impl IntoIterator<Item = Self>, error: &Arc<StoreError>) {
        group.into_iter().for_each(|waiting| waiting.answer(Err(StoreError::shared(Arc::clone(error)))));
    }
}

/// What the caller of a write waits for. Dropping it withdraws the write, unless it was already taken.
///
/// Fails with what the write failed with; with [`StoreError::Unknown`] if it was taken, and dropped without an answer.
#[derive(Debug)]
#[must_use = "dropping the answer withdraws the write"]
pub struct Answer<T>(oneshot::Receiver<Result<T, StoreError>>);

impl<T> Future for Answer<T> {
    type Output = Result<T, StoreError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let answer = ready!(Pin::new(&mut self.0).poll(cx));
        Poll::Ready(
            answer.unwrap_or_else(|_| Err(StoreError::Unknown("the store's task that writes has ended".into()))),
        )
    }
}
