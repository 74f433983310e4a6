//! The application's function, behind one type. It may fail, panic or hang; its caller gets an error then.

use std::{
    error::Error,
    future::{Future, poll_fn},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use tokio::time::timeout;

use super::{error::SnapshotError, request::SnapshotRequest};
use crate::{cursor::Cursor, event::Event};

/// What a provider returned.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) event: Event,
    /// The position of the state, if the provider read both at once.
    pub(crate) position: Option<Cursor>,
}

type Returned = Result<State, Box<dyn Error + Send + Sync>>;

type Called = Pin<Box<dyn Future<Output = Returned> + Send>>;

#[derive(Clone)]
pub(super) struct Provider(Arc<dyn Fn(SnapshotRequest) -> Called + Send + Sync>);

impl Provider {
    pub(super) fn new<F, T: 'static, E>(
        provider: impl Fn(SnapshotRequest) -> F + Send + Sync + 'static,
        state: fn(T) -> State,
    ) -> Self
    where
        F: Future<Output = Result<T, E>> + Send + 'static,
        E: Into<Box<dyn Error + Send + Sync>>,
    {
        Self(Arc::new(move |request| {
            let called = provider(request);
            Box::pin(async move { called.await.map(state).map_err(Into::into) })
        }))
    }

    pub(super) async fn call(&self, request: SnapshotRequest, within: Duration) -> Result<State, SnapshotError> {
        // A future that panicked is never polled again, so that nobody sees what the panic left half done.
        let called = catch_unwind(AssertUnwindSafe(|| (self.0)(request)));
        let mut called = called.map_err(|_| SnapshotError::panicked())?;
        let guarded = poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| called.as_mut().poll(cx))) {
            Ok(polled) => polled.map(|returned| returned.map_err(SnapshotError::failed)),
            Err(_) => Err(SnapshotError::panicked()).into(),
        });
        timeout(within, guarded).await.unwrap_or_else(|_| Err(SnapshotError::timed_out(within)))
    }
}
