//! What a client asks for: pure functions that parse a request's parameters and headers into plain values.
//!
//! Knows nothing of stores or responses.
//!
//! # Authorization
//! Every service asks for each request which channels it is for, and whether it may access them. A function decides:
//!
//! ```
//! use http::request::Parts;
//! use tower_events::{Channels, EventService, Hub, MemoryStore, request::Rejection};
//!
//! # #[derive(Clone)] struct User;
//! # impl User { fn may_read(&self, _: &tower_events::Channel) -> bool { true } }
//! fn may_read(request: &Parts) -> Result<Channels, Rejection> {
//!     let user = request.extensions.get::<User>().ok_or(Rejection::unauthorized("Bearer"))?;
//!     Channels::from_query(request)?.all_allowed(|channel| user.may_read(channel))
//! }
//! # let (parts, ()) = http::Request::new(()).into_parts();
//! # assert!(may_read(&parts).is_err());
//!
//! let hub = Hub::new(MemoryStore::default());
//! let events = EventService::new(hub.clone(), may_read);
//! let rooms = EventService::new(hub, |request| {
//!     Channels::from_path(request)?.all_allowed(|channel| channel.as_str().starts_with("room:"))
//! });
//! # drop((events, rooms));
//! ```
//!
//! [`Channels::from_query`](crate::Channels::from_query) ("anyone may read any channel") and
//! [`Channels::from_path`](crate::Channels::from_path) (the rest of the path, under axum's `nest_service`) are such functions.
//! For channels that do not depend on the request there is [`EventService::fixed`](crate::EventService::fixed), and for a rule
//! that is a type of its own the trait [`Resolver`].
//!
//! # In a handler of your own
//! [`EventService::respond`](crate::EventService::respond) answers a request completely. A handler that needs only the events,
//! for example for a response of another format, takes from the request where to start:
//!
//! ```
//! use http::{Response, request::Parts};
//! use tower_events::{Body, Channel, Hub, Listen, Subscription, longpoll::LongPollOptions};
//!
//! async fn stream(hub: Hub, request: Parts) -> Result<Response<Body>, Response<Body>> {
//!     let subscription = Subscription::from_request(&request, Channel::new("news")?)?;
//!     Ok(hub.sse(subscription).await?.into_response())
//! }
//!
//! async fn lines(hub: Hub, request: Parts) -> Result<String, Response<Body>> {
//!     let listen = Listen::from_request(&request, Channel::new("news")?, &LongPollOptions::default())?;
//!     let listened = hub.listen(listen).await?;
//!     Ok(listened.entries().iter().map(|entry| format!("{} {}\n", entry.cursor, entry.data.as_shown())).collect())
//! }
//! # drop((stream, lines));
//! ```
//!
//! # Across origins
//! The services do not answer CORS preflights; tower-http's `CorsLayer` does. Without `max_age` a browser sends a preflight
//! before almost every request that needs one:
//!
//! ```
//! use std::time::Duration;
//!
//! use http::Method;
//! use tower_events::request::{EXPOSED_HEADERS, REQUEST_HEADERS};
//! use tower_http::cors::{Any, CorsLayer};
//!
//! let any_origin = CorsLayer::new()
//!     .allow_origin(Any)
//!     .allow_methods([Method::GET, Method::HEAD, Method::POST])
//!     .allow_headers(REQUEST_HEADERS.to_vec())
//!     .expose_headers(EXPOSED_HEADERS.to_vec())
//!     .max_age(Duration::from_secs(2 * 60 * 60)); // the maximum of Chromium
//! # drop(any_origin);
//! ```

mod accept;
mod field_syntax;
mod headers;
mod link;
mod parse;
mod parts;
mod position;
mod prefer;
mod query;
pub(crate) mod read;
mod read_parameters;
mod resolver;
mod subscription;

pub(crate) use self::{
    accept::{NotOffered, Offer, Transport, negotiate},
    field_syntax::{split_once, split_parameters, trim, unquote},
    link::next_link,
    query::{Pairs, number, pairs},
    read::{Format, Heartbeat, PollShape, ReadMethod, ReadRequest, ReadSettings, Wait},
    resolver::{BadParameter, RejectionKind, SharedResolver},
};
pub use self::{
    headers::{
        EVENTS_CLOSED, EVENTS_ERROR, EVENTS_LIVE, EVENTS_RESET, EXPOSED_HEADERS, IDEMPOTENCY_KEY, LAST_EVENT_ID,
        PREFER, PREFERENCE_APPLIED, REQUEST_HEADERS,
    },
    parts::IntoParts,
    resolver::{Rejection, Resolver},
};
