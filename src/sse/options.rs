//! The options of a stream.

use std::{fmt, sync::Arc, time::Duration};

use crate::{
    hub::Delivery,
    request::{Format, Heartbeat},
};

/// Options of an SSE stream.
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
    pub(super) max_catch_up_rate: Option<u32>,
    pub(super) live_mark: LiveMark,
    pub(super) format: Format,
    pub(super) forwarding: Forwarding,
    pub(super) data_only: Option<DataOnly>,
}

/// What a stream with nothing but data sends for each delivery. In one word, because every open stream has one.
#[derive(Clone)]
pub(super) struct DataOnly(Arc<WriteData>);

type WriteData = Box<dyn Fn(&Delivery) -> Vec<String> + Send + Sync>;

impl DataOnly {
    pub(super) fn texts(&self, delivery: &Delivery) -> Vec<String> {
        (self.0)(delivery)
    }
}

impl fmt::Debug for DataOnly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DataOnly")
    }
}

/// Whether a stream says where its history ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LiveMark {
    Send,
    Omit,
}

/// How intermediaries are asked to forward a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Forwarding {
    Unspecified,
    /// Piece by piece, as it comes.
    Incremental,
}

impl Default for SseOptions {
    fn default() -> Self {
        Self {
            heartbeat_after: Some(Duration::from_secs(15)),
            heartbeat_as: Heartbeat::Comment,
            retry: Duration::from_secs(2),
            max_age: None,
            max_catch_up_rate: None,
            live_mark: LiveMark::Send,
            format: Format::Text,
            forwarding: Forwarding::Unspecified,
            data_only: None,
        }
    }
}

impl SseOptions {
    /// Sets the longest silence, after which a heartbeat is sent; at least 1 ms. Each silence is drawn between three quarters
    /// of it and all of it, so that streams that an event reached together do not send heartbeats together. Default 15 s,
    /// because proxies cut silent connections after 30 or 60 s.
    #[must_use]
    pub fn heartbeat(self, silence: Duration) -> Self {
        Self { heartbeat_after: Some(silence.max(Duration::from_millis(1))), ..self }
    }

    /// Sends no heartbeat.
    #[must_use]
    pub fn without_heartbeat(self) -> Self {
        Self { heartbeat_after: None, ..self }
    }

    /// Sets how a heartbeat is written, unless the request has `heartbeat=`. Default: as a comment.
    #[must_use]
    pub fn heartbeat_as(self, heartbeat: Heartbeat) -> Self {
        Self { heartbeat_as: heartbeat, ..self }
    }

    /// Sets the delay after which clients reconnect; each connection draws its own between half and one and a half of it.
    /// While the store fails the delay is longer, as [`Hub::failure_backoff`](crate::Hub::failure_backoff) says. Default 2 s.
    #[must_use]
    pub fn retry(self, retry: Duration) -> Self {
        Self { retry, ..self }
    }

    /// Ends a stream at an event boundary at about this age: between three quarters of it and all of it, so that clients do
    /// not come back together. Default: never.
    #[must_use]
    pub fn max_age(self, age: Duration) -> Self {
        Self { max_age: Some(age), ..self }
    }

    /// Bounds the bytes per second that a stream which is behind is sent, at least 64 KiB, which also come at once. A stream that
    /// keeps up is not slowed down. Default: no bound but the client's own speed.
    #[must_use]
    pub fn max_catch_up_rate(self, bytes_per_second: u32) -> Self {
        Self { max_catch_up_rate: Some(bytes_per_second.max(64 << 10)), ..self }
    }

    /// Sends no `stream-live`: for clients that treat every event as one of the application's. A client that loses the
    /// connection before its first event then has no position to resume from.
    #[must_use]
    pub fn without_live_mark(self) -> Self {
        Self { live_mark: LiveMark::Omit, ..self }
    }

    /// Asks intermediaries to forward streams piece by piece: `Incremental: ?1` (RFC 10036). Off by default, because an
    /// intermediary that knows the field, but has no capacity left for such responses, may answer 503 instead.
    #[must_use]
    pub fn incremental(self) -> Self {
        Self { forwarding: Forwarding::Incremental, ..self }
    }

    /// Sets how an event's data is written, unless the request has `format=`. Default: as it is.
    #[must_use]
    pub fn format(self, format: Format) -> Self {
        Self { format, ..self }
    }

    /// Sends data and nothing else, for front ends that read a stream with `fetch` and know neither names nor marks: each text
    /// that `texts` returns for a delivery is an event without a name and an id. There are no marks and no `retry:`, and
    /// heartbeats are comments. `format=` and `heartbeat=` of a request have no effect, and a refusal has its own status: such
    /// clients look at it.
    ///
    /// `texts` gets everything that a [`Subscriber`](crate::Subscriber) gets; what it returns nothing for is not sent.
    /// [`Delivery::Closed`] is the end of a channel, and with the last one that of the stream. [`Delivery::Drained`] is every
    /// other end: a drain, the maximum age, the end of a grant, a failure. [`Delivery::Reset`] and [`Delivery::Failed`] mean that
    /// events are missing: a client learns that only if they return something. It is called by the tasks that serve the
    /// readers, for each of them: it must not block or panic. Default: names, ids and marks.
    ///
    /// ```
    /// use tower_events::{Delivery, sse::SseOptions};
    ///
    /// let options = SseOptions::default().data_only(|delivery| match delivery {
    ///     Delivery::Events(events) => events.entries().map(|entry| entry.data.as_shown().to_owned()).collect(),
    ///     Delivery::Closed(_) => vec!["[DONE]".into()],
    ///     _ => vec![r#"{"error":"interrupted"}"#.into()],
    /// });
    /// # drop(options);
    /// ```
    #[must_use]
    pub fn data_only(self, texts: impl Fn(&Delivery) -> Vec<String> + Send + Sync + 'static) -> Self {
        Self { data_only: Some(DataOnly(Arc::new(Box::new(texts)))), ..self }
    }
}
