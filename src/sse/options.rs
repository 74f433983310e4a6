//! The settings of a stream.

use std::time::Duration;

use crate::request::{Format, Heartbeat};

/// Settings of an SSE stream.
///
/// ```
/// use std::time::Duration;
/// use tower_events::sse::{Format, Heartbeat, SseOptions};
///
/// let options = SseOptions::default()
///     .heartbeat(Duration::from_secs(10))
///     .heartbeat_as(Heartbeat::Event)
///     .retry(Duration::from_millis(500))
///     .max_age(Duration::from_secs(600))
///     .format(Format::Json);
/// # drop(options);
/// ```
#[derive(Clone, Debug)]
pub struct SseOptions {
    pub(super) heartbeat_after: Option<Duration>,
    pub(super) heartbeat_as: Heartbeat,
    pub(super) retry: Duration,
    pub(super) max_age: Option<Duration>,
    pub(super) live_mark: LiveMark,
    pub(super) format: Format,
    pub(super) forwarding: Forwarding,
}

/// Whether a stream says when its history ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LiveMark {
    Send,
    Omit,
}

/// The head of a stream's response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Forwarding {
    Unspecified,
    /// With the request to forward it piece by piece.
    Incremental,
}

impl Default for SseOptions {
    fn default() -> Self {
        Self {
            heartbeat_after: Some(Duration::from_secs(15)),
            heartbeat_as: Heartbeat::Comment,
            retry: Duration::from_secs(2),
            max_age: None,
            live_mark: LiveMark::Send,
            format: Format::Text,
            forwarding: Forwarding::Unspecified,
        }
    }
}

impl SseOptions {
    /// Sets after how much silence a heartbeat is sent at the latest; at least 1 ms. Each silence lasts between three quarters
    /// of it and all of it, so that streams that an event reached together do not beat together. Default 15 s, for proxies cut
    /// silent streams after 30 or 60.
    #[must_use]
    pub fn heartbeat(self, silence: Duration) -> Self {
        Self { heartbeat_after: Some(silence.max(Duration::from_millis(1))), ..self }
    }

    /// Sends no heartbeat.
    #[must_use]
    pub fn without_heartbeat(self) -> Self {
        Self { heartbeat_after: None, ..self }
    }

    /// Sets what a heartbeat is, unless the request says `heartbeat=`. Default: a comment.
    #[must_use]
    pub fn heartbeat_as(self, heartbeat: Heartbeat) -> Self {
        Self { heartbeat_as: heartbeat, ..self }
    }

    /// Sets after how long clients reconnect; each connection draws its own between half and one and a half of it. While the
    /// store fails they stay away for longer, as [`Hub::failure_backoff`](crate::Hub::failure_backoff) says. Default 2 s.
    #[must_use]
    pub fn retry(self, retry: Duration) -> Self {
        Self { retry, ..self }
    }

    /// Ends a stream at an event boundary when it is about this old (three quarters of it to all of it, so that clients do
    /// not come back together). Default: never.
    #[must_use]
    pub fn max_age(self, age: Duration) -> Self {
        Self { max_age: Some(age), ..self }
    }

    /// Sends no `stream-live`: for clients that take every event for one of the application's. A client that loses the
    /// connection before its first event then has no position to resume from.
    #[must_use]
    pub fn without_live_mark(self) -> Self {
        Self { live_mark: LiveMark::Omit, ..self }
    }

    /// Asks intermediaries to forward streams piece by piece: `Incremental: ?1` (RFC 10036). Default: not, for one that
    /// knows the field and has no room left for such responses may answer 503 in our place.
    #[must_use]
    pub fn incremental(self) -> Self {
        Self { forwarding: Forwarding::Incremental, ..self }
    }

    /// Sets what the data of an event are, unless the request says `format=`. Default: the datum itself.
    #[must_use]
    pub fn format(self, format: Format) -> Self {
        Self { format, ..self }
    }
}
