//! Waiting for the end of a drain.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use super::shared::Shared;

/// Resolves when the last reader of a draining hub has left; from [`Hub::drain`](crate::Hub::drain). Dropping it does not stop
/// the drain.
///
/// # Cancel safety
/// Safe to drop at any point.
pub struct Drained(Pin<Box<dyn Future<Output = ()> + Send>>);

impl Drained {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self(Box::pin(async move { shared.no_readers().await }))
    }
}

impl Future for Drained {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.0.as_mut().poll(cx)
    }
}

impl fmt::Debug for Drained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Drained").finish_non_exhaustive()
    }
}
