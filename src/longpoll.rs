//! Long polling: a request that waits until there are events.
//!
//! Knows nothing of streams.
//!
//! # Resuming
//! Every response has a `Last-Event-ID` and a `Link` with `rel="next"`: send the position back, or follow the link, and the
//! next response continues right there. When it cannot, `Events-Reset` says why and the response has what is left (or is a
//! `410`, if so configured). A client that must not miss anything from the first moment on starts with `HEAD` or `wait=0`.
//! `Events-Live: true` says that the response includes everything there was, `Events-Error` that a channel cannot be read
//! while the others can.
//!
//! # Response headers
//! They take at most 3 500 bytes, because some proxies accept only 4 kB. Therefore `Events-Reset` lists each reason once, and
//! names the channel only when exactly one was reset; `Link` is left out when it would be long, which does not mean that
//! there is no next page; and more than 64 channels can only be polled with `format=page`.
//!
//! # One object
//! `format=page` answers with an object that has everything, for scripts that cannot see response headers:
//! ```json
//! {"events":[],"cursor":"...","live":true,"resets":[{"channel":"a","reason":"trimmed"}],"closed":["a"],"retry_ms":1500}
//! ```
//! `closed` lists every channel that is closed and was read to its end; `retry_ms` is present when the client should wait
//! before it comes back, and `errors` (`[{"channel":"a","reason":"corrupt"}]`) when a channel cannot be read.
//!
//! # Examples
//! The default:
//! ```
//! use tower_events::{Channels, Hub, LongPollService, MemoryStore};
//!
//! let hub = Hub::new(MemoryStore::default());
//! let service = LongPollService::new(hub, Channels::from_query); // anyone may read any channel
//! # drop(service);
//! ```
//! Customised:
//! ```
//! use std::time::Duration;
//! use tower_events::{Channels, Hub, LongPollService, MemoryStore, longpoll::LongPollOptions};
//!
//! let hub = Hub::new(MemoryStore::default());
//! let options = LongPollOptions::default().max_wait(Duration::from_secs(20)).refuse_resets();
//! let service = LongPollService::new(hub, Channels::from_path).options(options).max_channels(4);
//! # drop(service);
//! ```

mod answer;
mod limits;
mod listen;
mod options;
mod response_head;

use std::fmt;

pub use self::options::LongPollOptions;
use crate::{
    edge::{ReadService, read_service},
    store::{AnyStore, Store},
};

/// Answers long polls at one URL. See the [module docs](self).
pub struct LongPollService<S = AnyStore>(ReadService<S, LongPollOptions>);

impl<S: Store> LongPollService<S> {
    /// Sets the options of the long polls.
    #[must_use]
    pub fn options(self, options: LongPollOptions) -> Self {
        Self(self.0.with_responder(|responder| *responder = options))
    }

    /// Sets the maximum number of channels of a subscription, 1 to 255. Default 32. Each adds about 30 bytes to the cursor,
    /// which from 65 channels on is too long for a header, so that long polls need `format=page`.
    #[must_use]
    pub fn max_channels(self, max_channels: usize) -> Self {
        Self(self.0.max_channels(max_channels))
    }

    /// Sets which of the application's own query parameters the `Link` to the next page repeats, such as those that name its
    /// channels. Default: none, only this crate's parameters. Never name one that is a secret: links are logged and shared.
    #[must_use]
    pub fn keep_parameters<N: Into<Box<str>>>(self, names: impl IntoIterator<Item = N>) -> Self {
        Self(self.0.keep_parameters(names))
    }
}

read_service!(LongPollService, LongPollOptions);

impl<S> fmt::Debug for LongPollService<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LongPollService").field("options", self.0.responder()).finish_non_exhaustive()
    }
}
