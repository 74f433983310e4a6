//! The header fields of this crate's protocol.

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
