//! The header fields of this crate's protocol.

use http::{HeaderName, header};

/// The position to resume from: sent by `EventSource`, and returned by long polls and publishes.
pub const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// Why a long poll could not continue from its position; in responses to long polls.
pub const EVENTS_RESET: HeaderName = HeaderName::from_static("events-reset");
/// `true` when nothing will follow; in a publish it asks to close the channel.
pub const EVENTS_CLOSED: HeaderName = HeaderName::from_static("events-closed");
/// The client's key that makes it safe to repeat a publish.
pub const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// The client's preferences (RFC 7240).
pub const PREFER: HeaderName = HeaderName::from_static("prefer");
/// Which of the preferences were honoured (RFC 7240).
pub const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");
/// `true` in the response to a long poll when every channel was read up to its head: no history is left.
pub const EVENTS_LIVE: HeaderName = HeaderName::from_static("events-live");
/// Which channels of a long poll cannot be read, and why.
pub const EVENTS_ERROR: HeaderName = HeaderName::from_static("events-error");

/// The response headers that a script of another origin must be allowed to see; for `CorsLayer::expose_headers`, as a `Vec`.
pub static EXPOSED_HEADERS: &[HeaderName] = &EXPOSED;

/// The request headers that a script of another origin must be allowed to send; for `CorsLayer::allow_headers`, as a `Vec`.
///
/// Besides those of this crate they include what clients send: popular ones add `Cache-Control` and `X-Requested-With` on
/// their own, and those with a token send `Authorization`, which a wildcard does not cover.
pub static REQUEST_HEADERS: &[HeaderName] = &REQUEST;

// Separate statics, because a `HeaderName` constant cannot be borrowed for `'static`.
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
