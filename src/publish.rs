//! Publishes events over HTTP.
//!
//! Knows nothing of readers.
//!
//! `POST` one event as `application/json` (any JSON value) or `text/plain`, or a batch as `application/x-ndjson` (also
//! `application/ndjson`, `application/jsonl`): one `{"data": …, "name"?, "time"?, "key"?}` per line, appended atomically. The
//! response is sent once the events are as durable as the store makes them.
//!
//! Everything is in UTF-8. A byte order mark before JSON is ignored; a text is exactly what was sent, including such a mark.
//! What readers could not handle is refused with 422: JSON that is nested deeper than [`PublishService::max_depth`] or has a
//! number that is out of the range of a double, and data larger than [`PublishService::max_event`].
//!
//! The response to one event is `{"id":"…"}`, to a batch `{"ids":["…"]}` in the order of its lines; `Last-Event-ID` is the
//! position of the last event.
//!
//! # Repeating
//! With an `Idempotency-Key` a repeated request appends nothing twice; line *n* of a batch has the key `<key>/<n>` unless it
//! has a key of its own. So a client that got no response, or a `504`, sends the same request again. The response then says
//! what had been appended before: `{"id":"…","duplicate":true}`, or `{"ids":["…","…"],"duplicates":[0]}` with indexes into
//! `ids`, from 0; without duplicates the member is left out. A key belongs to one event: when it is reused for another event,
//! the response is 422 and nothing is appended.
//!
//! # Refusals
//! Over HTTP/1 a request that is refused before its body was read gets its response after the body: what is left of it is
//! read and discarded first, up to 4 MiB and for up to 2 seconds, for at most 64 requests of a service at once, because most
//! clients do not see a response that arrives while they send. A client that waits before it sends its body
//! (`Expect: 100-continue`) is refused at once. So is a request beyond these bounds, and then the connection is closed
//! (`Connection: close`), perhaps before the client has read the response. Over HTTP/2 nothing needs to be read: a refusal
//! ends only its own stream.
//!
//! Nobody publishes to the channels of [runs](crate::runs) but the run itself: where the hub has [`Runs`](crate::Runs), a
//! request for a channel with their prefix gets a 403.
//!
//! # Pages of other origins
//! A page of another origin can make a browser send a `text/plain` publish with the user's cookies, without asking by a CORS
//! preflight first. So a request that such a page caused gets a 403, as with Go's `CrossOriginProtection` and tower-http's
//! `csrf`: one whose `Sec-Fetch-Site` is neither `same-origin` nor `none`, or, when a browser does not send that, whose
//! `Origin` does not match `Host`. Requests with neither header are not from browsers and pass. Behind a proxy, let it keep
//! `Host`. [`PublishService::trusted_origins`] lets pages of other origins publish (a CORS layer, which lets them read the
//! response, does not); [`PublishService::without_origin_check`] is for services where no cookie grants anything.
//!
//! # Examples
//! The default:
//! ```
//! use tower_events::{Channel, Hub, MemoryStore, PublishService};
//!
//! let hub = Hub::new(MemoryStore::default());
//! let service = PublishService::fixed(hub, Channel::new("news")?);
//! # drop(service);
//! # Ok::<(), tower_events::InvalidChannel>(())
//! ```
//! Customised:
//! ```
//! use http::request::Parts;
//! use tower_events::{Channels, Hub, MemoryStore, PublishService, Rejection};
//!
//! # #[derive(Clone)] struct User { name: String }
//! fn may_write(request: &Parts) -> Result<Channels, Rejection> {
//!     let user = request.extensions.get::<User>().ok_or(Rejection::unauthorized("Bearer"))?;
//!     Channels::from_query(request)?.all_allowed(|channel| channel.as_str() == user.name)
//! }
//! let service = PublishService::new(Hub::new(MemoryStore::default()), may_write)
//!     .trusted_origins(["https://app.example.org"])
//!     .max_body(64 << 10)
//!     .max_events(100);
//! # drop(service);
//! ```

mod body_memory;
mod event;
mod in_flight;
mod incoming_body;
mod line_numbers;
mod origin;
mod parse;
mod publisher;
mod rate_limit;
mod refuse;
mod request_head;
mod response;

use std::{
    convert::Infallible,
    fmt,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::{Method, Request, Response, StatusCode, request::Parts};
use tower_service::Service;

use self::{
    body_memory::BodyMemory,
    event::PublishLimits,
    in_flight::InFlight,
    incoming_body::BoxError,
    origin::OriginPolicy,
    publisher::{PublishTarget, Publisher},
    rate_limit::RateLimit,
    refuse::{Refuser, SendMode},
    request_head::{ALLOW, RequestHead},
};
use crate::{
    body::{Body, HandlerFuture, ResponseFuture},
    channel::{Channel, Channels},
    edge::options_response,
    encode::View,
    grant::Grant,
    hub::Hub,
    problem::Problem,
    request::{Rejection, Resolver, SharedResolver},
    store::{AnyStore, Clock, Store},
};

/// Publishes events at one URL. See the [module docs](self).
///
/// The resolver names the channel, exactly one, and decides who may publish to it; `Channels` in the request's extensions are
/// ignored, because a layer that grants read access does not grant write access.
pub struct PublishService<S = AnyStore> {
    resolver: SharedResolver,
    origins: OriginPolicy,
    publisher: Publisher<S>,
}

impl<S: Store> PublishService<S> {
    /// Publishes to the channel that `resolver` names for each request, with default settings.
    pub fn new<G: Into<Grant>>(
        hub: Hub<S>,
        resolver: impl Fn(&Parts) -> Result<G, Rejection> + Send + Sync + 'static,
    ) -> Self {
        let limits = PublishLimits {
            max_body: 1 << 20,
            max_events: 10_000,
            max_event: 256 << 10,
            max_depth: 128,
            clock: Clock::system(),
        };
        let publisher = Publisher {
            hub,
            limits,
            body_timeout: Duration::from_secs(30),
            body_memory: BodyMemory::new(256 << 20),
            rate_limit: None,
            in_flight: InFlight::new(),
            refuser: Refuser::new(),
        };
        Self { resolver: SharedResolver::new(resolver), origins: OriginPolicy::own(), publisher }
    }

    /// Lets everyone publish to this channel, with default settings.
    pub fn fixed(hub: Hub<S>, channel: Channel) -> Self {
        let channels = Channels::from(channel);
        Self::new(hub, move |_| Ok(channels.clone()))
    }

    /// As [`new`](Self::new), for a type that resolves requests.
    pub fn with_resolver(hub: Hub<S>, resolver: impl Resolver) -> Self {
        Self::new(hub, move |request| resolver.resolve(request))
    }

    /// Sets the maximum size of a body, in bytes. Default 1 MiB; a larger body gets a 413.
    #[must_use]
    pub fn max_body(mut self, max_body: usize) -> Self {
        self.publisher.limits.max_body = max_body;
        self
    }

    /// Sets the maximum number of events of a batch; at least 1. Default 10 000; a larger batch gets a 413, and so does one
    /// of more than half of what the store keeps of a channel ([`Store::retention`]).
    #[must_use]
    pub fn max_events(mut self, max_events: usize) -> Self {
        self.publisher.limits.max_events = max_events.max(1);
        self
    }

    /// Sets the maximum size of the data of an event, in bytes as it is stored: a text in UTF-8, any other value as compact
    /// JSON. Default 256 KiB; for a larger event the response is 422, and nothing of its batch is appended.
    ///
    /// Clients have limits of their own: two popular ones in Go give up a stream at a line of 64 kB, the default limit of
    /// their language's line reader. For such clients set about 60 000 bytes.
    #[must_use]
    pub fn max_event(mut self, max_event: usize) -> Self {
        self.publisher.limits.max_event = max_event;
        self
    }

    /// Sets how deeply the arrays and objects of an event may be nested. Default 128, which is what the JSON parsers of readers
    /// can be expected to accept; for deeper data the response is 422.
    #[must_use]
    pub fn max_depth(mut self, max_depth: usize) -> Self {
        self.publisher.limits.max_depth = max_depth;
        self
    }

    /// Sets how long a body may take to arrive, from the end of the request's head. Default 30 s, which for 1 MiB needs
    /// 280 kbit/s; then the response is 408, and over HTTP/1 the connection is closed.
    #[must_use]
    pub fn body_timeout(mut self, body_timeout: Duration) -> Self {
        self.publisher.body_timeout = body_timeout;
        self
    }

    /// Sets the memory for bodies that are arriving or wait for the store, in bytes, in all clones of this service together and
    /// without the first 16 KiB of each. Default 256 MiB; a body that would need more gets a 503 with `Retry-After`.
    #[must_use]
    pub fn max_body_memory(mut self, bytes: usize) -> Self {
        self.publisher.body_memory = BodyMemory::new(bytes);
        self
    }

    /// Bounds the events that all clones of this service together accept per second; at least 1. One second's events may come
    /// at once, and so may a batch of any size, after which it takes as long until more is accepted as the batch would have
    /// taken at this rate. Further requests get a 503 with `Retry-After`. Default: no bound. For a bound per user or address,
    /// put a layer in front, as the `server` example does.
    #[must_use]
    pub fn max_events_per_second(mut self, events: u32) -> Self {
        self.publisher.rate_limit = Some(Arc::new(RateLimit::new(events)));
        self
    }

    /// Sets the clock that the times of events are compared with: a time more than an hour ahead of it gets a 422. Default
    /// [`Clock::system`].
    #[must_use]
    pub fn clock(mut self, clock: Clock) -> Self {
        self.publisher.limits.clock = clock;
        self
    }

    /// Sets how many publishes may wait for the store at once, in all clones of this service together; at least 1. Default
    /// 1024. Further requests get a 503 with `Retry-After` at once. A request does not count while its body is still arriving:
    /// the memory of bodies is bounded by [`max_body_memory`](Self::max_body_memory).
    #[must_use]
    pub fn max_in_flight(mut self, max_in_flight: usize) -> Self {
        self.publisher.in_flight = self.publisher.in_flight.with_max(max_in_flight);
        self
    }

    /// Sets how long the store may take for an append. Default 30 s; then the response is 504, because it is unknown whether
    /// the events were appended: repeat the request with the same key.
    #[must_use]
    pub fn append_timeout(mut self, append_timeout: Duration) -> Self {
        self.publisher.in_flight = self.publisher.in_flight.with_timeout(append_timeout);
        self
    }

    /// Sets from which other origins pages may publish, such as `https://app.example.org` or `http://localhost:5173`: exactly
    /// what browsers send as `Origin`, without the default port of its scheme. `null` is never trusted. Default none: only pages
    /// of the service's own origin, and clients that are not browsers. See [pages of other origins](self#pages-of-other-origins).
    #[must_use]
    pub fn trusted_origins<O: Into<Box<str>>>(self, origins: impl IntoIterator<Item = O>) -> Self {
        Self { origins: OriginPolicy::own_and(origins), ..self }
    }

    /// Lets pages of every origin publish. Safe only if no cookie, no client certificate, and no network address of the
    /// browser grants anything that others lack; a token that the page itself sends does no harm. See [pages of other
    /// origins](self#pages-of-other-origins).
    #[must_use]
    pub fn without_origin_check(self) -> Self {
        Self { origins: OriginPolicy::Any, ..self }
    }

    /// The future keeps only what was decided and the body: the head of a request is as large as everything else together.
    fn respond<B>(&self, request: &Parts, body: B) -> HandlerFuture
    where
        B: http_body::Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<BoxError>,
    {
        if request.method == Method::OPTIONS {
            return HandlerFuture::ready(options_response(ALLOW));
        }
        HandlerFuture::new(self.publisher.clone().respond(self.decide(request), SendMode::of(request), body))
    }

    /// What can be decided before the body is read.
    fn decide(&self, request: &Parts) -> Result<(PublishTarget, RequestHead), Problem> {
        if request.method != Method::POST {
            return Err(Problem::not_allowed(ALLOW));
        }
        self.origins.check(request)?;
        // Authorization before the rest: an unauthorized client learns nothing from how its request is malformed.
        let asked = self.publisher.hub.asked();
        let (channel, grant) = self.resolver.channel(request)?;
        if self.publisher.hub.owns(&channel) {
            let detail = "the events of this channel come from a run; nobody else publishes to it";
            return Err(Problem::new(StatusCode::FORBIDDEN, detail).kind("run").parameter("channel"));
        }
        let view = View::of(&grant);
        let unconfirmed = grant.terms.map_or(Ok(None), |terms| self.publisher.check_terms(terms, asked))?;
        Ok((PublishTarget { channel, view, unconfirmed }, RequestHead::parse(request)?))
    }
}

impl<S, B> Service<Request<B>> for PublishService<S>
where
    S: Store,
    B: http_body::Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = ResponseFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> ResponseFuture {
        let (parts, body) = request.into_parts();
        ResponseFuture(self.respond(&parts, body))
    }
}

impl<S> Clone for PublishService<S> {
    fn clone(&self) -> Self {
        let Self { resolver, origins, publisher } = self;
        Self { resolver: resolver.clone(), origins: origins.clone(), publisher: publisher.clone() }
    }
}

impl<S> fmt::Debug for PublishService<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PublishService")
            .field("origins", &self.origins)
            .field("limits", &self.publisher.limits)
            .field("in_flight", &self.publisher.in_flight)
            .finish_non_exhaustive()
    }
}
