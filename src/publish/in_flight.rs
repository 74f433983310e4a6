//! Bounds how many publishes wait for the store at once, and for how long. Without bounds, requests would pile up behind a
//! store that hangs.

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::Arc,
    task::Poll,
    time::Duration,
};

use http::StatusCode;
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::timeout,
};

use crate::{
    channel::Channel,
    hub::Hub,
    problem::Problem,
    retry::Retry,
    store::{Append, Appended, Store, StoreError},
};

/// The bounds, shared by all clones of a service.
#[derive(Clone, Debug)]
pub(super) struct InFlight {
    permits: Arc<Semaphore>,
    append_timeout: Duration,
}

impl InFlight {
    pub(super) fn new() -> Self {
        Self { permits: Arc::new(Semaphore::new(1024)), append_timeout: Duration::from_secs(30) }
    }

    pub(super) fn with_max(self, max: usize) -> Self {
        Self { permits: Arc::new(Semaphore::new(max.clamp(1, Semaphore::MAX_PERMITS))), ..self }
    }

    pub(super) fn with_timeout(self, append_timeout: Duration) -> Self {
        Self { append_timeout, ..self }
    }

    /// A permit to wait for the store, which is returned when it is dropped.
    pub(super) fn acquire(&self) -> Result<SemaphorePermit<'_>, Problem> {
        self.permits.try_acquire().map_err(|_| {
            Problem::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "too many publishes are waiting for the event store; try again later",
            )
            .kind("too-many-publishes")
            .temporary(Retry::SOON)
        })
    }

    /// As [`Hub::append`], but with [`StoreError::Unknown`] when it takes too long.
    pub(super) async fn append<S: Store>(
        &self,
        hub: &Hub<S>,
        channel: &Channel,
        append: Append,
    ) -> Result<Appended, StoreError> {
        let appended = in_time(self.append_timeout, pin!(hub.append(channel, append))).await;
        let no_answer = || StoreError::Unknown(format!("no answer within {:?}", self.append_timeout).into());
        appended.unwrap_or_else(|| Err(no_answer()))
    }
}

/// The output of `future`, or `None` after `limit`. A body that arrived with its head and a store in memory are ready at once,
/// so that neither the clock nor a timer is needed.
pub(super) async fn in_time<F: Future>(limit: Duration, mut future: Pin<&mut F>) -> Option<F::Output> {
    if let Poll::Ready(output) = poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await {
        return Some(output);
    }
    timeout(limit, future).await.ok()
}
