//! One URL for both transports: Server-Sent Events or long polling, by `Accept`.
//!
//! This module only chooses; the transports are in [`sse`](crate::sse) and [`longpoll`](crate::longpoll).
//!
//! # Which transport
//! The query decides with `transport=sse` or `transport=longpoll`, otherwise `Accept` does. On a tie, which includes `*/*`
//! and no `Accept` at all, it is a long poll: such a client expects a response that ends. `EventSource` sends
//! `text/event-stream`; some libraries that replace it send `*/*`, as `curl` does, and need `transport=sse`.
//!
//! # Errors
//! Every error is a problem+json response (RFC 9457): `detail` says what is wrong, and `parameter` names the parameter or
//! header, if one is to blame. A malformed request changes nothing. `type` is `about:blank` where the status says everything,
//! otherwise `urn:tower-events:` followed by one of `bad-parameter`, `invalid-event`, `too-large`, `key-reused`, `reset`,
//! `closed`, `conflict`, `full`, `outcome-unknown`, `unavailable`, `newer-format`, `corrupt`, `stalled`, `draining`,
//! `overloaded`, `no-snapshot`, `too-many-readers`, `too-many-channels`, `too-many-publishes`, `body-timeout`, `cross-origin`,
//! `grant-unconfirmed`, `grant-ended`. Responses to a temporary failure have `Retry-After`; an `EventSource` gets a `200` with
//! `retry:` instead.
//!
//! # Examples
//! The default, mounted as any tower service (in axum: `route_service`):
//! ```
//! use tower_events::{Channels, EventService, Hub, MemoryStore};
//!
//! let hub = Hub::new(MemoryStore::default());
//! let events = EventService::new(hub, Channels::from_query); // anyone may read any channel
//! # drop(events);
//! ```
//! Customised, inside a handler, after an asynchronous check:
//! ```
//! use http::{Request, Response};
//! use tower_events::{Body, Channel, EventService, Hub, MemoryStore, longpoll::LongPollOptions, request::Rejection};
//!
//! # async fn is_member(_: &str) -> bool { true }
//! async fn room<B>(events: EventService, request: Request<B>) -> Result<Response<Body>, Response<Body>> {
//!     let room = Channel::new("room:1")?;
//!     if !is_member(room.as_str()).await {
//!         return Ok(events.refuse(request, Rejection::forbidden()).await);
//!     }
//!     Ok(events.respond(request, room).await)
//! }
//!
//! let hub = Hub::new(MemoryStore::default());
//! let events = EventService::without_resolver(hub) // only the handler decides
//!     .long_poll(LongPollOptions::default().limit(20));
//! # drop(room(events, Request::new(())));
//! ```

use std::fmt;

use http::Response;

use crate::{
    body::{Body, HandlerFuture},
    channel::Channels,
    edge::{ReadService, ReadTarget, Refusal, Responder, read_service},
    grant::Grant,
    hub::Hub,
    longpoll::LongPollOptions,
    request::{IntoParts, Offer, ReadRequest, Rejection, Transport},
    sse::SseOptions,
    store::{AnyStore, Store},
};

/// Serves events at one URL: a stream or a long poll, by `Accept`; on a tie a long poll. See the [module docs](self).
pub struct EventService<S = AnyStore>(ReadService<S, BothTransports>);

impl<S: Store> EventService<S> {
    /// Serves only requests that a handler passes to [`respond`](Self::respond); any other gets a 404.
    pub fn without_resolver(hub: Hub<S>) -> Self {
        Self::new(hub, |_| Err::<Channels, _>(Rejection::not_found()))
    }

    /// Sets the options of the streams.
    #[must_use]
    pub fn sse(self, sse: SseOptions) -> Self {
        Self(self.0.with_responder(|both| both.sse = sse))
    }

    /// Sets the options of the long polls.
    #[must_use]
    pub fn long_poll(self, long_poll: LongPollOptions) -> Self {
        Self(self.0.with_responder(|both| both.long_poll = long_poll))
    }

    /// Sets the maximum number of channels of a subscription, 1 to 255. Default 32. Each adds about 30 bytes to the cursor,
    /// which from 65 channels on is too long for a header, so that long polls need `format=page`.
    #[must_use]
    pub fn max_channels(self, max_channels: usize) -> Self {
        Self(self.0.max_channels(max_channels))
    }

    /// Sets which of the application's own query parameters the `Link` to the next page repeats, such as those that name its
    /// channels. Default: none, only this crate's parameters. Never name one that is a secret: links are logged and shared.
    #[must_use]
    pub fn keep_parameters<N: Into<Box<str>>>(self, names: impl IntoIterator<Item = N>) -> Self {
        Self(self.0.keep_parameters(names))
    }

    /// Serves a request inside a handler that has decided what it may read, channels or a [`Grant`]: the resolver is not called. The future
    /// can [hold a guard](HandlerFuture::holding) for as long as the request is served, and [end early](HandlerFuture::until).
    ///
    /// # Cancel safety
    /// Dropping the future is what happens when the client disconnects: it frees everything that the request held.
    pub fn respond(&self, request: impl IntoParts, grant: impl Into<Grant>) -> HandlerFuture {
        self.0.respond(&request.into_parts(), grant.into())
    }

    /// Refuses a request inside a handler, in the way of its transport: a temporary rejection ([`Rejection::too_many`]) is a
    /// `stream-retry` for an `EventSource`, which would never come back after a 429.
    ///
    /// ```
    /// use std::time::Duration;
    /// use http::{Response, request::Parts};
    /// use tower_events::{Body, Channel, EventService, request::Rejection};
    ///
    /// # async fn is_busy() -> bool { true }
    /// async fn room(events: EventService, request: Parts, room: Channel) -> Response<Body> {
    ///     if is_busy().await {
    ///         return events.refuse(request, Rejection::too_many(Duration::from_secs(5))).await;
    ///     }
    ///     events.respond(request, room).await
    /// }
    /// # drop(room);
    /// ```
    pub fn refuse(&self, request: impl IntoParts, rejection: Rejection) -> HandlerFuture {
        self.0.refuse(&request.into_parts(), rejection)
    }
}

read_service!(EventService, BothTransports);

impl<S> fmt::Debug for EventService<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let BothTransports { sse, long_poll } = self.0.responder();
        f.debug_struct("EventService").field("sse", sse).field("long_poll", long_poll).finish_non_exhaustive()
    }
}

/// Responds on the negotiated transport.
#[derive(Clone, Default)]
struct BothTransports {
    sse: SseOptions,
    long_poll: LongPollOptions,
}

impl Responder for BothTransports {
    const OFFER: Offer = Offer::LongPollThenSse;

    fn answer<S: Store>(&self, hub: &Hub<S>, target: ReadTarget, request: ReadRequest) -> HandlerFuture {
        match request.transport {
            Transport::LongPoll => self.long_poll.answer(hub, target, request),
            Transport::Sse => self.sse.answer(hub, target, request),
        }
    }

    fn refuse<S: Store>(&self, hub: &Hub<S>, refusal: Refusal) -> Response<Body> {
        match refusal.transport {
            Transport::LongPoll => self.long_poll.refuse(hub, refusal),
            Transport::Sse => self.sse.refuse(hub, refusal),
        }
    }
}
