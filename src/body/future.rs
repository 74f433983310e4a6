//! The futures of the services: a box, as opaque types so that it can be replaced without breaking users.

use std::{
    convert::Infallible,
    fmt,
    future::{self, Future},
    pin::Pin,
    task::{Context, Poll},
};

use http::Response;

use super::Body;

/// The response future of a service. Dropping it is safe, and is what happens when the client disconnects.
#[must_use = "futures do nothing unless polled"]
pub struct ResponseFuture(pub(crate) HandlerFuture);

impl ResponseFuture {
    /// Leaves a future that is never ready.
    pub(crate) fn take(&mut self) -> Self {
        // Allocates nothing: it has no size.
        std::mem::replace(self, Self(HandlerFuture::new(future::pending())))
    }
}

impl Future for ResponseFuture {
    type Output = Result<Response<Body>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.get_mut().0).poll(cx).map(Ok)
    }
}

impl fmt::Debug for ResponseFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}

/// The response future inside a handler, which never fails; see [`EventService::respond`](crate::EventService::respond).
#[must_use = "futures do nothing unless polled"]
pub struct HandlerFuture(BoxedResponse);

/// What both wrap.
type BoxedResponse = Pin<Box<dyn Future<Output = Response<Body>> + Send>>;

impl HandlerFuture {
    pub(crate) fn new(response: impl Future<Output = Response<Body>> + Send + 'static) -> Self {
        Self(Box::pin(response))
    }

    pub(crate) fn ready(response: Response<Body>) -> Self {
        Self::new(future::ready(response))
    }
}

impl Future for HandlerFuture {
    type Output = Response<Body>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.get_mut().0.as_mut().poll(cx)
    }
}

impl fmt::Debug for HandlerFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HandlerFuture").finish_non_exhaustive()
    }
}
