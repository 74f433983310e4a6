//! The response future of a wrapped service: a mounted service's, or the inner service's.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use http::Response;
use pin_project_lite::pin_project;

use super::{body::EventsBody, mounted_future::MountedFuture};

pin_project! {
    /// The response future of a service wrapped by an [`EventsLayer`](crate::EventsLayer); `F` is the inner service's.
    #[must_use = "futures do nothing unless polled"]
    pub struct LayerFuture<F> {
        #[pin]
        repr: Repr<F>,
    }
}

pin_project! {
    #[project = Projected]
    enum Repr<F> {
        Mounted { future: MountedFuture },
        Inner { #[pin] future: F },
    }
}

impl<F> LayerFuture<F> {
    pub(super) fn mounted(future: MountedFuture) -> Self {
        Self { repr: Repr::Mounted { future } }
    }

    pub(super) fn inner(future: F) -> Self {
        Self { repr: Repr::Inner { future } }
    }
}

impl<F, B, E> Future for LayerFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = Result<Response<EventsBody<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().repr.project() {
            Projected::Mounted { future } => {
                Pin::new(future).poll(cx).map(|response| Ok(response.map(EventsBody::mounted)))
            }
            Projected::Inner { future } => {
                future.poll(cx).map(|result| result.map(|response| response.map(EventsBody::inner)))
            }
        }
    }
}

impl<F> fmt::Debug for LayerFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LayerFuture").finish_non_exhaustive()
    }
}
