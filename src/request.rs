//! What a client asks for: the request's parameters and headers, read as pure functions into plain values. Knows nothing of
//! hubs, stores or responses.
//!
//! # Who may read what
//! Every service asks a [`Resolver`] which channels a request is about, and whether it may. A closure will do:
//!
//! ```
//! use http::request::Parts;
//! use tower_events::{Channels, request::Rejection};
//!
//! # #[derive(Clone)] struct User;
//! # impl User { fn may_read(&self, _: &tower_events::Channel) -> bool { true } }
//! fn may_read(request: &Parts) -> Result<Channels, Rejection> {
//!     let user = request.extensions.get::<User>().ok_or(Rejection::unauthorized("Bearer"))?;
//!     Channels::from_query(request)?.all_allowed(|channel| user.may_read(channel))
//! }
//! # let (parts, ()) = http::Request::new(()).into_parts();
//! # assert!(may_read(&parts).is_err());
//! ```
//!
//! A fixed [`Channel`](crate::Channel) or [`Channels`](crate::Channels) is a resolver too, and so are
//! [`Channels::from_query`](crate::Channels::from_query) ("anyone reads anything") and
//! [`Channels::from_path`](crate::Channels::from_path) (the rest of the path, under axum's `nest_service`).
//!
//! # Across origins
//! The services answer no CORS preflight; tower-http's `CorsLayer` does. Without a longest age a browser asks again before
//! almost every request that needs one:
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
//!     .max_age(Duration::from_secs(2 * 60 * 60)); // Chromium's most
//! # drop(any_origin);
//! ```

mod accept;
mod field_syntax;
mod link;
mod parts;
mod prefer;
mod query;
pub(crate) mod read;
mod resolver;

pub(crate) use self::{
    accept::{NotOffered, Offer, Transport, negotiate},
    field_syntax::{parameters, trim, unquote},
    link::next_link,
    query::{number, pairs},
    read::{Begin, Format, Heartbeat, PollShape, Read, Rules, Wait, Wishes, read},
    resolver::{BadParameter, RejectionKind, SharedResolver},
};
pub use self::{
    parts::IntoParts,
    resolver::{Rejection, Resolver},
};

use http::{HeaderName, header};

/// Resume position: sent by `EventSource`, and answered by long polls and publishes.
pub const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// Why a resume was not continued: on long poll answers.
pub const EVENTS_RESET: HeaderName = HeaderName::from_static("events-reset");
/// `true` when nothing will follow; in a publish, asks for the close.
pub const EVENTS_CLOSED: HeaderName = HeaderName::from_static("events-closed");
/// Client's key that makes a repeated publish harmless.
pub const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// Preferences of the client (RFC 7240).
pub const PREFER: HeaderName = HeaderName::from_static("prefer");
/// Which preferences were used (RFC 7240).
pub const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");
/// `true` on a long poll's answer when each channel was seen at its head: no history is left.
pub const EVENTS_LIVE: HeaderName = HeaderName::from_static("events-live");
/// Which channels of a long poll cannot be read, and why.
pub const EVENTS_ERROR: HeaderName = HeaderName::from_static("events-error");

/// Response headers that a script of another origin must be allowed to see; for `CorsLayer::expose_headers`, as a `Vec`.
pub static EXPOSED_HEADERS: &[HeaderName] = &EXPOSED;

/// Request headers that a script of another origin must be allowed to send; for `CorsLayer::allow_headers`, as a `Vec`.
///
/// Beside those of this crate they are what clients send: popular ones `Cache-Control` and `X-Requested-With` on their own,
/// and those with a token `Authorization`, which a wildcard does not cover.
pub static REQUEST_HEADERS: &[HeaderName] = &REQUEST;

// Statics of their own, for a name may not be borrowed from a constant.
static EXPOSED: [HeaderName; 8] = [
    LAST_EVENT_ID,
    EVENTS_RESET,
    EVENTS_CLOSED,
    EVENTS_LIVE,
    EVENTS_ERROR,
    PREFERENCE_APPLIED,
    header::LINK,
    header::RETRY_AFTER,
];
static REQUEST: [HeaderName; 8] = [
    LAST_EVENT_ID,
    PREFER,
    IDEMPOTENCY_KEY,
    EVENTS_CLOSED,
    header::CONTENT_TYPE,
    header::CACHE_CONTROL,
    header::AUTHORIZATION,
    HeaderName::from_static("x-requested-with"),
];
