//! The services' futures: one box, named so that it can go without anyone noticing.

use std::{
    convert::Infallible,
    fmt,
    future::{self, Future},
    pin::Pin,
    task::{Context, Poll},
};

use http::Response;

use super::Body;

/// Becomes the response of a service. Dropping it is safe, as the client's disconnect does.
#[must_use = "futures do nothing unless polled"]
pub struct ResponseFuture(pub(crate) Responding);

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

/// Becomes a response inside a handler; see [`EventService::respond`](crate::EventService::respond).
#[must_use = "futures do nothing unless polled"]
pub struct Responding(Answering);

/// What is behind both.
type Answering = Pin<Box<dyn Future<Output = Response<Body>> + Send>>;

impl Responding {
    pub(crate) fn new(answering: impl Future<Output = Response<Body>> + Send + 'static) -> Self {
        Self(Box::pin(answering))
    }

    pub(crate) fn ready(response: Response<Body>) -> Self {
        Self::new(future::ready(response))
    }
}

impl Future for Responding {
    type Output = Response<Body>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.get_mut().0.as_mut().poll(cx)
    }
}

impl fmt::Debug for Responding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Responding").finish_non_exhaustive()
    }
}
