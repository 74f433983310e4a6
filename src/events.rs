//! One URL for both transports: Server-Sent Events or long polling, by `Accept`. Only chooses; the rest is the business of
//! [`SseService`](crate::SseService)'s and [`LongPollService`](crate::LongPollService)'s modules.
//!
//! # Which transport
//! `transport=sse` or `transport=longpoll` in the query, else what `Accept` likes best. On a tie, which `*/*` and a request
//! without `Accept` are too, it is a long poll: such a client expects an answer with an end. `EventSource` sends
//! `text/event-stream`; some libraries in its place, and `curl`, say `*/*` and want `transport=sse`.
//!
//! # Errors
//! Whatever a client does wrong is answered with problem+json (RFC 9457) that names the `parameter` and says why in `detail`;
//! nothing is changed by it. `type` is `about:blank` where the status says it all, else one of `urn:tower-events:` and
//! `bad-parameter`, `invalid-event`, `too-large`, `reset`, `closed`, `conflict`, `full`, `outcome-unknown`, `unavailable`,
//! `corrupt`, `draining`, `overloaded`, `too-many-readers`. Answers whose reason passes by itself have `Retry-After`; an `EventSource` is
//! told in its own words instead, with a `200` and `retry:`.
//!
//! # Examples
//! The default, mounted as any tower service (in axum: `route_service`):
//! ```
//! use tower_events::{Channels, EventService, Hub, MemoryStore};
//!
//! let hub = Hub::new(MemoryStore::default());
//! let events = EventService::new(hub, Channels::from_query); // anyone reads anything
//! # drop(events);
//! ```
//! Customised, inside a handler, after a check that has to wait:
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
//! let nothing_by_itself = |_: &http::request::Parts| Err(Rejection::not_found());
//! let events = EventService::new(hub, nothing_by_itself).long_poll(LongPollOptions::default().limit(20));
//! # drop(room(events, Request::new(())));
//! ```

use std::fmt;

use http::Response;

use crate::{
    body::{Body, HandlerFuture},
    channel::Channels,
    edge::{ReadService, Refusal, Responder, read_service},
    hub::Hub,
    longpoll::LongPollOptions,
    request::{IntoParts, Offer, ReadRequest, Rejection, Resolver, Transport},
    sse::SseOptions,
    store::{AnyStore, Start, Store},
};

/// Serves events at one URL: a stream or a long poll, by `Accept`; on a tie a long poll. See the [module docs](self).
pub struct EventService<S = AnyStore>(ReadService<S, BothTransports>);

impl<S: Store> EventService<S> {
    /// Serves the channels that `resolver` names.
    pub fn new(hub: Hub<S>, resolver: impl Resolver) -> Self {
        Self(ReadService::new(hub, resolver, BothTransports::default()))
    }

    /// Sets the streams' options.
    #[must_use]
    pub fn sse(self, sse: SseOptions) -> Self {
        Self(self.0.with_responder(|both| both.sse = sse))
    }

    /// Sets the long polls' options.
    #[must_use]
    pub fn long_poll(self, long_poll: LongPollOptions) -> Self {
        Self(self.0.with_responder(|both| both.long_poll = long_poll))
    }

    /// Sets the most channels of one subscription, 1 to 255. Default 32. A cursor grows by some 30 bytes with each; from 65 on
    /// there is no place for it in a head, so that polls have to ask for `format=page`.
    #[must_use]
    pub fn max_channels(self, max_channels: usize) -> Self {
        Self(self.0.max_channels(max_channels))
    }

    /// Sets where a request begins that names no place, in its query or with `Last-Event-ID`. Default [`Start::Latest`].
    #[must_use]
    pub fn start(self, start: Start) -> Self {
        Self(self.0.start(start))
    }

    /// Has the next page's `Link` keep these parameters of the query, which the application needs to find its channels; by
    /// default it has our own only. Never a token: a link gets logged and shared.
    #[must_use]
    pub fn keep_parameters<N: Into<Box<str>>>(self, names: impl IntoIterator<Item = N>) -> Self {
        Self(self.0.keep_parameters(names))
    }

    /// The whole service inside a handler that has decided which channels the request may read: the resolver is not asked.
    ///
    /// # Cancel safety
    /// Dropping the future is the client's disconnect: it frees all that the request held.
    pub fn respond(&self, request: impl IntoParts, channels: impl Into<Channels>) -> HandlerFuture {
        self.0.respond(&request.into_parts(), channels.into())
    }

    /// Refuses a request inside a handler, so that each transport is told in its own words: what passes by itself
    /// ([`Rejection::too_many`]) is a `stream-retry` to an `EventSource`, which would never come back after a 429.
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

read_service!(EventService);

impl<S> fmt::Debug for EventService<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let BothTransports { sse, long_poll } = self.0.responder();
        f.debug_struct("EventService").field("sse", sse).field("long_poll", long_poll).finish_non_exhaustive()
    }
}

/// Answers on the transport that was negotiated.
#[derive(Clone, Default)]
struct BothTransports {
    sse: SseOptions,
    long_poll: LongPollOptions,
}

impl Responder for BothTransports {
    const OFFER: Offer = Offer::LongPollThenSse;

    fn answer<S: Store>(&self, hub: &Hub<S>, channels: Channels, request: ReadRequest) -> HandlerFuture {
        match request.transport {
            Transport::LongPoll => self.long_poll.answer(hub, channels, request),
            Transport::Sse => self.sse.answer(hub, channels, request),
        }
    }

    fn refuse<S: Store>(&self, hub: &Hub<S>, refusal: Refusal) -> Response<Body> {
        match refusal.transport {
            Transport::LongPoll => self.long_poll.refuse(hub, refusal),
            Transport::Sse => self.sse.refuse(hub, refusal),
        }
    }
}
