//! The futures of the services: a box, as opaque types so that it can be replaced without breaking users.

use std::{
    convert::Infallible,
    fmt,
    future::{self, Future},
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::Response;

use super::{Body, attached::Attached};
use crate::hub::Access;

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
///
/// ```
/// use std::sync::Arc;
/// use http::{Response, StatusCode, request::Parts};
/// use tokio::sync::{Semaphore, watch};
/// use tower_events::{Body, Channel, EventService};
///
/// async fn room(
///     events: EventService,
///     request: Parts,
///     room: Channel,
///     slots: Arc<Semaphore>,
///     mut logged_out: watch::Receiver<bool>,
/// ) -> Result<Response<Body>, StatusCode> {
///     let slot = slots.try_acquire_owned().map_err(|_| StatusCode::TOO_MANY_REQUESTS)?;
///     let logout = async move { _ = logged_out.wait_for(|logged_out| *logged_out).await };
///     Ok(events.respond(request, room).holding(slot).until(logout).await)
/// }
/// # drop(room);
/// ```
#[must_use = "futures do nothing unless polled"]
pub struct HandlerFuture {
    answer: Pin<Box<dyn Answer>>,
    attached: Attached,
}

/// A response that is being made.
pub(crate) trait Answer: Send {
    /// Makes it. One that waits stops waiting when what is attached ends it.
    fn poll_answer(self: Pin<&mut Self>, attached: &mut Attached, cx: &mut Context<'_>) -> Poll<Response<Body>>;
}

/// One that does not wait for events.
impl<F: Future<Output = Response<Body>> + Send> Answer for F {
    fn poll_answer(self: Pin<&mut Self>, _: &mut Attached, cx: &mut Context<'_>) -> Poll<Response<Body>> {
        self.poll(cx)
    }
}

impl HandlerFuture {
    pub(crate) fn new(answer: impl Answer + 'static) -> Self {
        Self { answer: Box::pin(answer), attached: Attached::default() }
    }

    /// Waits for `value`, then responds as `next` says.
    pub(crate) fn after<T: 'static>(
        value: impl Future<Output = T> + Send + 'static,
        next: impl FnOnce(T) -> Self + Send + 'static,
    ) -> Self {
        Self::new(After::Waiting { value: Box::pin(value), next: Some(next) })
    }

    /// Ends with `access`, if that ends.
    pub(crate) fn under(mut self, access: Option<Access>) -> Self {
        self.attached.set_access(access);
        self
    }

    pub(crate) fn ready(response: Response<Body>) -> Self {
        Self::new(future::ready(response))
    }

    /// Holds `guard`, such as a permit of a semaphore, while the request is served: it is dropped when the body of the response
    /// has ended or is dropped, or with this future. A stream holds it until it ends or the client has disconnected, a long
    /// poll while it waits and until the server has taken its body.
    pub fn holding(mut self, guard: impl Send + 'static) -> Self {
        self.attached.add_guard(guard);
        self
    }

    /// Ends what the request waits for when `signal` is ready, at an event boundary and without loss. A stream ends as at its
    /// [maximum age](crate::sse::SseOptions::max_age), with `stream-retry`: the client comes back, and the handler decides
    /// anew. A long poll that waits is answered with what there is, which may be `[]`, as at the end of its wait.
    ///
    /// After several calls the first signal that is ready counts. The signals are polled by the task that serves the request,
    /// and dropped when a long poll is answered, and when a stream has ended or is dropped.
    pub fn until(mut self, signal: impl Future<Output = ()> + Send + 'static) -> Self {
        self.attached.add_signal(signal);
        self
    }
}

/// See [`HandlerFuture::after`].
enum After<T, N> {
    Waiting { value: Pin<Box<dyn Future<Output = T> + Send>>, next: Option<N> },
    Answering(Pin<Box<dyn Answer>>),
}

// Neither a boxed future nor what makes the next one is pinned in place.
impl<T, N> Unpin for After<T, N> {}

impl<T, N: FnOnce(T) -> HandlerFuture + Send> Answer for After<T, N> {
    fn poll_answer(self: Pin<&mut Self>, attached: &mut Attached, cx: &mut Context<'_>) -> Poll<Response<Body>> {
        let this = self.get_mut();
        if let Self::Waiting { value, next } = this {
            let value = ready!(value.as_mut().poll(cx));
            let Some(next) = next.take() else { return Poll::Pending };
            let HandlerFuture { answer, attached: mut of_next } = next(value);
            attached.set_access(of_next.take_access());
            *this = Self::Answering(answer);
        }
        match this {
            Self::Answering(answer) => answer.as_mut().poll_answer(attached, cx),
            Self::Waiting { .. } => Poll::Pending,
        }
    }
}

impl Future for HandlerFuture {
    type Output = Response<Body>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { answer, attached } = self.get_mut();
        let mut response = ready!(answer.as_mut().poll_answer(attached, cx));
        response.body_mut().attach(std::mem::take(attached));
        Poll::Ready(response)
    }
}

impl fmt::Debug for HandlerFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HandlerFuture").finish_non_exhaustive()
    }
}
