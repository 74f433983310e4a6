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
    pub(super) heartbeat: Option<Duration>,
    pub(super) beat: Heartbeat,
    pub(super) retry: Duration,
    pub(super) max_age: Option<Duration>,
    pub(super) first_block: FirstBlock,
    pub(super) format: Format,
}

/// Whether a stream begins with a block that has no data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FirstBlock {
    Send,
    Omit,
}

impl Default for SseOptions {
    fn default() -> Self {
        Self {
            heartbeat: Some(Duration::from_secs(15)),
            beat: Heartbeat::Comment,
            retry: Duration::from_secs(2),
            max_age: None,
            first_block: FirstBlock::Send,
            format: Format::Text,
        }
    }
}

impl SseOptions {
    /// Sets after how much silence a heartbeat is sent; at least 1 ms. Default 15 s, for proxies cut silent streams after 30
    /// or 60.
    #[must_use]
    pub fn heartbeat(self, silence: Duration) -> Self {
        Self { heartbeat: Some(silence.max(Duration::from_millis(1))), ..self }
    }

    /// Sends no heartbeat.
    #[must_use]
    pub fn without_heartbeat(self) -> Self {
        Self { heartbeat: None, ..self }
    }

    /// Sets what a heartbeat is, unless the request says `heartbeat=`. Default: a comment.
    #[must_use]
    pub fn heartbeat_as(self, beat: Heartbeat) -> Self {
        Self { beat, ..self }
    }

    /// Sets after how long clients reconnect; each connection draws its own between half and one and a half of it. Default
    /// 2 s.
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

    /// Sends no first block without data: for clients that dispatch an event at each empty line. A client that loses the
    /// connection before its first event then has no position to resume from.
    #[must_use]
    pub fn without_first_block(self) -> Self {
        Self { first_block: FirstBlock::Omit, ..self }
    }

    /// Sets what the data of an event are, unless the request says `format=`. Default: the datum itself.
    #[must_use]
    pub fn format(self, format: Format) -> Self {
        Self { format, ..self }
    }
}
