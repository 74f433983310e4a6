//! A harness that wraps the stores of another one.

use std::{future::Future, time::Duration};

use super::harness::{Harness, Time, Unable};
use crate::{
    channel::Channel,
    store::{Retention, Store},
};

/// Wraps each store of another harness, to run the suite on [`AnyStore`](crate::AnyStore) or on a decorator.
///
/// ```
/// use tower_events::{AnyStore, testing::{MemoryHarness, Wrapped, clauses}};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let erased = Wrapped::new(MemoryHarness, AnyStore::new);
/// clauses::continues_only_on_proof(&erased).await;
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Wrapped<H, F> {
    inner: H,
    wrap: F,
}

impl<H, F> Wrapped<H, F> {
    /// Wraps each store of `inner` with `wrap`.
    pub fn new(inner: H, wrap: F) -> Self {
        Self { inner, wrap }
    }
}

impl<H: Harness, S: Store, F: Fn(H::Store) -> S + Send + Sync + 'static> Harness for Wrapped<H, F> {
    type Store = S;
    type Place = H::Place;

    fn place(&self, retention: Retention) -> impl Future<Output = H::Place> + Send {
        self.inner.place(retention)
    }

    async fn open(&self, place: &H::Place) -> S {
        (self.wrap)(self.inner.open(place).await)
    }

    fn time(&self) -> Time {
        self.inner.time()
    }

    fn advance(&self, place: &H::Place, by: Duration) -> impl Future<Output = ()> + Send {
        self.inner.advance(place, by)
    }

    fn step_back(&self, place: &H::Place, by: Duration) -> impl Future<Output = Result<(), Unable>> + Send {
        self.inner.step_back(place, by)
    }

    fn lose_tail(
        &self,
        place: &H::Place,
        channel: &Channel,
        n: u64,
    ) -> impl Future<Output = Result<(), Unable>> + Send {
        self.inner.lose_tail(place, channel, n)
    }

    fn reopen(&self, place: H::Place, retention: Retention) -> impl Future<Output = Result<H::Place, Unable>> + Send {
        self.inner.reopen(place, retention)
    }

    fn wipe(&self, place: H::Place, retention: Retention) -> impl Future<Output = H::Place> + Send {
        self.inner.wipe(place, retention)
    }

    fn begin_trouble(&self, place: &H::Place) -> impl Future<Output = Result<(), Unable>> + Send {
        self.inner.begin_trouble(place)
    }

    fn end_trouble(&self, place: &H::Place) -> impl Future<Output = ()> + Send {
        self.inner.end_trouble(place)
    }
}
