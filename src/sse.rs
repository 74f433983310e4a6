//! Server-Sent Events: a stream that browsers resume by themselves. Knows nothing of long polls.
//!
//! # Resuming
//! Every event has an `id:`, and `EventSource` sends the last one back as `Last-Event-ID` when it reconnects. The stream goes
//! on right after it; when it cannot, the first event is `stream-reset` with the reason, and what is left follows.
//!
//! `stream-live` says that all that there was when the stream began, or was reset, has come; it is the first event of a stream
//! that has nothing to catch up with, so that every client has a position before its first event. `stream-error` names a
//! channel whose data cannot be read (`{"channel":"a","reason":"corrupt"}`); the others go on.
//!
//! # Ending
//! A stream ends at an event boundary: when the hub drains, when the store fails, at a maximum age if one is set, each with
//! `stream-retry`, which has a `retry:`; and after `stream-end` when all its channels are closed; a reconnect from there gets
//! `204`. Each channel's `stream-end` tells which channels are `left`. A request that cannot be served for a passing reason is
//! answered with `200` and `stream-retry` alone, for `EventSource` gives up for good on any other status.
//!
//! # Clients that do not read
//! A client that stops reading slows nobody. What was read of the store for it, at most a page, is given back after
//! [`HubOptions::stall_timeout`](crate::HubOptions::stall_timeout), and the stream ends when it is looked at again. But a body
//! is looked at only when its connection takes more: until the connection ends, such a client counts as a reader, and keeps
//! what the server and the kernel buffer for it (with hyper's defaults about 400 kB over HTTP/1, less with a smaller
//! `max_buf_size`). So limit what a socket may wait: on Linux by `TCP_USER_TIMEOUT`, in axum with `ListenerExt::tap_io`, on
//! hyper where connections are accepted, as `examples/server/socket.rs` does; elsewhere by a wrapper that times writes.
//!
//! # Examples
//! The default:
//! ```
//! use tower_events::{Channels, Hub, MemoryStore, SseService};
//!
//! let hub = Hub::new(MemoryStore::default());
//! let service = SseService::new(hub, Channels::from_query); // anyone reads anything
//! # drop(service);
//! ```
//! Customised:
//! ```
//! use std::time::Duration;
//! use tower_events::{Channel, Hub, MemoryStore, SseService, sse::SseOptions};
//!
//! let hub = Hub::new(MemoryStore::default());
//! let options = SseOptions::default().heartbeat(Duration::from_secs(5)).max_age(Duration::from_secs(3600));
//! let service = SseService::new(hub, Channel::new("news")?).options(options);
//! # drop(service);
//! # Ok::<(), tower_events::InvalidChannel>(())
//! ```

mod answer;
mod body;
mod chunk_buffer;
mod heartbeat;
mod options;
mod pending_events;
mod response_head;
mod send_budget;

use std::fmt;

pub use self::{body::SseBody, options::SseOptions};
pub use crate::request::read::{Format, Heartbeat};
use crate::{
    edge::{ReadService, read_service},
    hub::{Hub, SubscribeError, Subscription},
    request::Resolver,
    store::{AnyStore, Start, Store},
};

/// Streams events at one URL. See the [module docs](self).
pub struct SseService<S = AnyStore>(ReadService<S, SseOptions>);

impl<S: Store> SseService<S> {
    /// Streams the channels that `resolver` names.
    pub fn new(hub: Hub<S>, resolver: impl Resolver) -> Self {
        Self(ReadService::new(hub, resolver, SseOptions::default()))
    }

    /// Sets the streams' options.
    #[must_use]
    pub fn options(self, options: SseOptions) -> Self {
        Self(self.0.with_responder(|responder| *responder = options))
    }

    /// Sets the most channels of one subscription, 1 to 255. Default 32. A cursor grows by some 30 bytes with each, and
    /// `EventSource` sends it back in a header: many proxies take no more than 8 KiB.
    #[must_use]
    pub fn max_channels(self, max_channels: usize) -> Self {
        Self(self.0.max_channels(max_channels))
    }

    /// Sets where a request begins that names no place, in its query or with `Last-Event-ID`. Default [`Start::Latest`].
    #[must_use]
    pub fn start(self, start: Start) -> Self {
        Self(self.0.start(start))
    }
}

read_service!(SseService);

impl<S> fmt::Debug for SseService<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SseService").field("options", self.0.responder()).finish_non_exhaustive()
    }
}

/// Streams, without a service.
impl<S: Store> Hub<S> {
    /// Just the stream, with default options: for a handler that decides all else itself.
    ///
    /// # Errors
    /// [`SubscribeError`], which converts into a response: a `503` on which an `EventSource` gives up for good.
    /// [`EventService::respond`](crate::EventService::respond) answers it with what makes it come back.
    ///
    /// # Cancel safety
    /// Dropping the future or the stream unsubscribes.
    ///
    /// ```
    /// # use http::Response;
    /// use tower_events::{Body, Channel, Hub, Subscription};
    ///
    /// async fn news(hub: Hub) -> Result<Response<Body>, Response<Body>> {
    ///     let news = Channel::new("news")?;
    ///     Ok(hub.sse(Subscription::new(news)).await?.into_response())
    /// }
    /// ```
    pub async fn sse(&self, subscription: Subscription) -> Result<SseBody, SubscribeError> {
        self.sse_with(subscription, &SseOptions::default()).await
    }

    /// Just the stream.
    ///
    /// # Errors
    /// As [`Hub::sse`].
    ///
    /// # Cancel safety
    /// As [`Hub::sse`].
    pub async fn sse_with(&self, subscription: Subscription, options: &SseOptions) -> Result<SseBody, SubscribeError> {
        Ok(SseBody::new(self.subscribe(subscription).await?, options))
    }
}
