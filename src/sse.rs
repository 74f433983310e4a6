//! Server-Sent Events: a stream that browsers resume on their own.
//!
//! Knows nothing of long polls.
//!
//! # Resuming
//! Every event has an `id:`, and `EventSource` sends the last one back as `Last-Event-ID` when it reconnects. The stream
//! continues right after it; when it cannot, the first event is `stream-reset` with the reason, and what is left follows.
//!
//! `stream-live` says that everything has been sent that was there when the stream began, or was reset; it is the first event
//! of a stream that has nothing to catch up on, so that every client has a position before its first event. `stream-error`
//! names a channel whose data cannot be read (`{"channel":"a","reason":"corrupt"}`); the others continue.
//!
//! # Ending
//! A stream ends at an event boundary: when the hub drains, when the store fails, at a maximum age if one is set, and when
//! the handler says so ([`SseBody::until`]), each time with `stream-retry`, which has a `retry:`; and after the last `stream-end`, when all its channels are closed. A
//! client that reconnects from there gets `204`. Each channel's `stream-end` lists the channels that are `left`. A request
//! that cannot be served for a temporary reason is answered with `200` and `stream-retry` alone, because `EventSource` gives
//! up for good on any other status.
//!
//! # Clients that do not read
//! A client that stops reading slows no other down. What was read from the store for it, at most a page, is released after
//! [`HubOptions::stall_timeout`](crate::HubOptions::stall_timeout), and the stream ends when it is polled next. But a body is
//! polled only when its connection accepts more data: until the connection ends, such a client counts as a reader and
//! occupies what the server and the kernel buffer for it (with hyper's defaults about 400 kB over HTTP/1, less with a smaller
//! `max_buf_size`). So limit how long a socket may block: on Linux with `TCP_USER_TIMEOUT`, in axum through
//! `ListenerExt::tap_io`, with hyper where connections are accepted, as `examples/server/socket.rs` does; elsewhere with a
//! wrapper that puts a timeout on writes.
//!
//! # Examples
//! The default:
//! ```
//! use tower_events::{Channels, Hub, MemoryStore, SseService};
//!
//! let hub = Hub::new(MemoryStore::default());
//! let service = SseService::new(hub, Channels::from_query); // anyone may read any channel
//! # drop(service);
//! ```
//! Customised:
//! ```
//! use std::time::Duration;
//! use tower_events::{Channel, Hub, MemoryStore, SseService, sse::SseOptions};
//!
//! let hub = Hub::new(MemoryStore::default());
//! let options = SseOptions::default().heartbeat(Duration::from_secs(5)).max_age(Duration::from_secs(3600));
//! let service = SseService::fixed(hub, Channel::new("news")?).options(options);
//! # drop(service);
//! # Ok::<(), tower_events::InvalidChannel>(())
//! ```

mod answer;
mod body;
mod catch_up_pace;
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
    encode::View,
    hub::{Hub, ReaderKind, SubscribeError, Subscription},
    store::{AnyStore, Store},
};

/// Streams events at one URL. See the [module docs](self).
pub struct SseService<S = AnyStore>(ReadService<S, SseOptions>);

impl<S: Store> SseService<S> {
    /// Sets the options of the streams.
    #[must_use]
    pub fn options(self, options: SseOptions) -> Self {
        Self(self.0.with_responder(|responder| *responder = options))
    }

    /// Sets the maximum number of channels of a subscription, 1 to 255. Default 32. Each adds about 30 bytes to the cursor,
    /// which `EventSource` sends back in a header: many proxies accept no more than 8 KiB.
    #[must_use]
    pub fn max_channels(self, max_channels: usize) -> Self {
        Self(self.0.max_channels(max_channels))
    }
}

read_service!(SseService, SseOptions);

impl<S> fmt::Debug for SseService<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SseService").field("options", self.0.responder()).finish_non_exhaustive()
    }
}

/// Streams without a service.
impl<S: Store> Hub<S> {
    /// Only the stream, with default options: for a handler that decides everything else itself.
    ///
    /// # Errors
    /// [`SubscribeError`], which converts into a response: a `503`, on which an `EventSource` gives up for good. With
    /// [`EventService::respond`](crate::EventService::respond) it gets a response that makes it come back.
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

    /// Only the stream.
    ///
    /// # Errors
    /// As [`Hub::sse`].
    ///
    /// # Cancel safety
    /// As [`Hub::sse`].
    pub async fn sse_with(&self, subscription: Subscription, options: &SseOptions) -> Result<SseBody, SubscribeError> {
        let view = View::unnamed(subscription.filter_hash());
        Ok(SseBody::new(self.subscribing(&subscription, ReaderKind::Sse).await?, view, options))
    }
}
