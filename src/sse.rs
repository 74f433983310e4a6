//! Server-Sent Events: a stream that browsers resume by themselves. Knows nothing of long polls.
//!
//! # Resuming
//! Every event has an `id:`, and `EventSource` sends the last one back as `Last-Event-ID` when it reconnects. The stream goes
//! on right after it; when it cannot, the first event is `stream-reset` with the reason, and what is left follows.
//!
//! `stream-live` says that all that there was when the stream began, or was reset, has come; it is the first event of a stream
//! that has nothing to catch up with, so that every client has a position before its first event. `stream-error` names a
//! channel whose data cannot be read (`{"channel":"a","reason":"corrupt"}`); the others go on.
//!
//! # Ending
//! A stream ends at an event boundary: when the hub drains, when the store fails, at a maximum age if one is set, each with
//! `stream-retry`, which has a `retry:`; and after `stream-end` when all its channels are closed; a reconnect from there gets
//! `204`. Each channel's `stream-end` tells which channels are `left`. A request that cannot be served for a passing reason is
//! answered with `200` and `stream-retry` alone, for `EventSource` gives up for good on any other status.
//!
//! # Clients that do not read
//! A client that stops reading slows nobody. What was read of the store for it, at most a page, is given back after
//! [`HubOptions::stall_timeout`](crate::HubOptions::stall_timeout), and the stream ends when it is looked at again. But a body
//! is looked at only when its connection takes more: until the connection ends, such a client counts as a reader, and keeps
//! what the server and the kernel buffer for it (with hyper's defaults about 400 kB over HTTP/1, less with a smaller
//! `max_buf_size`). So limit what a socket may wait: on Linux by `TCP_USER_TIMEOUT`, in axum with `ListenerExt::tap_io`, on
//! hyper where connections are accepted, as `examples/server/socket.rs` does; elsewhere by a wrapper that times writes.
//!
//! # Examples
//! The default:
//! ```
//! use tower_events::{Channels, Hub, MemoryStore, SseService};
//!
//! let hub = Hub::new(MemoryStore::default());
//! let service = SseService::new(hub, Channels::from_query); // anyone reads anything
//! # drop(service);
//! ```
//! Customised:
//! ```
//! use std::time::Duration;
//! use tower_events::{Channel, Hub, MemoryStore, SseService, sse::SseOptions};
//!
//! let hub = Hub::new(MemoryStore::default());
//! let options = SseOptions::default().heartbeat(Duration::from_secs(5)).max_age(Duration::from_secs(3600));
//! let service = SseService::new(hub, Channel::new("news")?).options(options);
//! # drop(service);
//! # Ok::<(), tower_events::InvalidChannel>(())
//! ```

mod answer;
mod body;
mod chunk_buffer;
mod heartbeat;
mod options;
mod response_head;
mod send_budget;

use std::{
    convert::Infallible,
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use http::{Method, Request, Response};
use tower_service::Service;

pub(crate) use self::answer::{answer, refuse};
pub use self::{body::SseBody, options::SseOptions};
pub use crate::request::read::{Format, Heartbeat};
use crate::{
    body::{Body, HandlerFuture, ResponseFuture},
    edge::{ALLOW, Decision, Edge, ReadMethod, finish, options_response},
    hub::{Hub, SubscribeError, Subscription},
    request::{Offer, Resolver},
    store::{AnyStore, Start, Store},
};

/// Streams events at one URL. See the [module docs](self).
pub struct SseService<S = AnyStore>(Arc<Settings<S>>);

/// What the clones of a service share.
struct Settings<S> {
    edge: Edge<S>,
    options: SseOptions,
}

impl<S: Store> SseService<S> {
    /// Streams the channels that `resolver` names.
    pub fn new(hub: Hub<S>, resolver: impl Resolver) -> Self {
        Self(Arc::new(Settings { edge: Edge::new(hub, resolver), options: SseOptions::default() }))
    }

    /// Sets the streams' options.
    #[must_use]
    pub fn options(self, options: SseOptions) -> Self {
        self.change(|settings| Settings { options, ..settings })
    }

    /// Sets the most channels of one subscription, 1 to 255. Default 32. A cursor grows by some 30 bytes with each, and
    /// `EventSource` sends it back in a header: many proxies take no more than 8 KiB.
    #[must_use]
    pub fn max_channels(self, max_channels: usize) -> Self {
        self.change(|settings| Settings { edge: settings.edge.max_channels(max_channels), ..settings })
    }

    /// Sets where a request begins that names no place, in its query or with `Last-Event-ID`. Default [`Start::Latest`].
    #[must_use]
    pub fn start(self, start: Start) -> Self {
        self.change(|settings| Settings { edge: settings.edge.start(start), ..settings })
    }

    fn change(self, change: impl FnOnce(Settings<S>) -> Settings<S>) -> Self {
        Self(Arc::new(change(Arc::unwrap_or_clone(self.0))))
    }

    fn act(&self, method: Method, decision: Decision) -> HandlerFuture {
        let Settings { edge, options } = &*self.0;
        let response = match decision {
            Decision::Options => options_response(ALLOW),
            Decision::Refuse(problem) => problem.into_response(),
            Decision::RefuseOn(_, method, problem, cursors) => {
                refuse(problem, method, cursors.as_ref(), edge.hub.failure_backoff(), options)
            }
            Decision::Serve(asked) => return answer(&edge.hub, asked, options),
        };
        HandlerFuture::ready(finish(ReadMethod::of(&method), response))
    }
}

impl<S: Store, B> Service<Request<B>> for SseService<S> {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = ResponseFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> ResponseFuture {
        // The body goes here, so that the future asks nothing of it.
        let (parts, _) = request.into_parts();
        let decision = self.0.edge.decide(&parts, Offer::Sse);
        ResponseFuture(self.act(parts.method, decision))
    }
}

impl<S> Clone for SseService<S> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<S> Clone for Settings<S> {
    fn clone(&self) -> Self {
        Self { edge: self.edge.clone(), options: self.options.clone() }
    }
}

impl<S> fmt::Debug for SseService<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SseService").field("options", &self.0.options).finish_non_exhaustive()
    }
}

/// Streams, without a service.
impl<S: Store> Hub<S> {
    /// Just the stream, with default options: for a handler that decides all else itself.
    ///
    /// # Errors
    /// [`SubscribeError`], which converts into a response: a `503` on which an `EventSource` gives up for good.
    /// [`EventService::respond`](crate::EventService::respond) answers it with what makes it come back.
    ///
    /// # Cancel safety
    /// Dropping the future or the stream unsubscribes.
    ///
    /// ```
    /// # use http::Response;
    /// use tower_events::{Body, Channel, Hub, Subscription};
    ///
    /// async fn news(hub: Hub) -> Result<Response<Body>, Response<Body>> {
    ///     let news = Channel::new("news")?;
    ///     Ok(hub.sse(Subscription::new(news)).await?.into_response())
    /// }
    /// ```
    pub async fn sse(&self, subscription: Subscription) -> Result<SseBody, SubscribeError> {
        self.sse_with(subscription, &SseOptions::default()).await
    }

    /// Just the stream.
    ///
    /// # Errors
    /// As [`Hub::sse`].
    ///
    /// # Cancel safety
    /// As [`Hub::sse`].
    pub async fn sse_with(&self, subscription: Subscription, options: &SseOptions) -> Result<SseBody, SubscribeError> {
        Ok(SseBody::new(self.subscribe(subscription).await?, options))
    }
}
