//! How many publishes wait for the store at once, and for how long. Without such bounds a store that hangs would gather every
//! request that comes.

use std::{
    future::{Future, poll_fn},
    pin::pin,
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

/// The bounds of all clones of a service.
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

    /// A place, which is free again when it is dropped.
    pub(super) fn acquire(&self) -> Result<SemaphorePermit<'_>, Problem> {
        self.permits.try_acquire().map_err(|_| {
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "too many publishes wait for the event store; retry later")
                .kind("too-many-publishes")
                .temporary(Retry::SOON)
        })
    }

    /// As [`Hub::append`]; [`StoreError::Unknown`] when it takes too long.
    pub(super) async fn append<S: Store>(
        &self,
        hub: &Hub<S>,
        channel: &Channel,
        append: Append,
    ) -> Result<Appended, StoreError> {
        let mut append = pin!(hub.append(channel, append));
        // A store in memory answers at once, and needs neither the clock nor a timer.
        if let Poll::Ready(appended) = poll_fn(|cx| Poll::Ready(append.as_mut().poll(cx))).await {
            return appended;
        }
        match timeout(self.append_timeout, append).await {
            Ok(appended) => appended,
            Err(_) => Err(StoreError::Unknown(format!("no answer within {:?}", self.append_timeout).into())),
        }
    }
}
