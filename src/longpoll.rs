//! Long polling: a request that waits until there is something to say. Knows nothing of streams.
//!
//! # Resuming
//! Every answer has a `Last-Event-ID` and a `Link` with `rel="next"`: send either back, and the next answer goes on right
//! there. When it cannot, `Events-Reset` says why and what is left follows (or a `410`, if so set). A client that must lose
//! nothing from the first moment starts with `HEAD` or `wait=0`. `Events-Live: true` says that the answer holds all that there
//! was, `Events-Error` that a channel cannot be read while the others can.
//!
//! # The head
//! It has at most 3 500 bytes, for proxies that take 4 kB. Therefore `Events-Reset` lists each reason once, and names the
//! channel only when one was reset; `Link` is left out when it would be long, which never means that this was the end; and
//! more than 64 channels have to be asked for with `format=page`.
//!
//! # One object
//! `format=page` answers with an object that holds everything, for scripts that see no response headers:
//! ```json
//! {"events":[],"cursor":"...","live":true,"resets":[{"channel":"a","reason":"trimmed"}],"closed":["a"],"retry_ms":1500}
//! ```
//! `closed` names every channel that has ended and was read to its end, `retry_ms` is there when the client is to stay away
//! first, and `errors` (`[{"channel":"a","reason":"corrupt"}]`) when a channel cannot be read.
//!
//! # Examples
//! The default:
//! ```
//! use tower_events::{Channels, Hub, LongPollService, MemoryStore};
//!
//! let hub = Hub::new(MemoryStore::default());
//! let service = LongPollService::new(hub, Channels::from_query); // anyone reads anything
//! # drop(service);
//! ```
//! Customised:
//! ```
//! use std::time::Duration;
//! use tower_events::{Channels, Hub, LongPollService, MemoryStore, longpoll::LongPollOptions};
//!
//! let hub = Hub::new(MemoryStore::default());
//! let options = LongPollOptions::default().longest_wait(Duration::from_secs(20)).refuse_resets();
//! let service = LongPollService::new(hub, Channels::from_path).options(options).max_channels(4);
//! # drop(service);
//! ```

mod answer;
mod options;
mod response_head;

use std::fmt;

pub use self::options::LongPollOptions;
use crate::{
    edge::{ReadService, read_service},
    hub::Hub,
    request::Resolver,
    store::{AnyStore, Start, Store},
};

/// Answers long polls at one URL. See the [module docs](self).
pub struct LongPollService<S = AnyStore>(ReadService<S, LongPollOptions>);

impl<S: Store> LongPollService<S> {
    /// Serves the channels that `resolver` names.
    pub fn new(hub: Hub<S>, resolver: impl Resolver) -> Self {
        Self(ReadService::new(hub, resolver, LongPollOptions::default()))
    }

    /// Sets the polls' options.
    #[must_use]
    pub fn options(self, options: LongPollOptions) -> Self {
        Self(self.0.with_responder(|responder| *responder = options))
    }

    /// Sets the most channels of one subscription, 1 to 255. Default 32. A cursor grows by some 30 bytes with each; from 65 on
    /// there is no place for it in a head, so that polls have to ask for `format=page`.
    #[must_use]
    pub fn max_channels(self, max_channels: usize) -> Self {
        Self(self.0.max_channels(max_channels))
    }

    /// Sets where a request begins that names no place, in its query or with `Last-Event-ID`. Default [`Start::Latest`].
    #[must_use]
    pub fn start(self, start: Start) -> Self {
        Self(self.0.start(start))
    }

    /// Has the next page's `Link` keep these parameters of the query, which the application needs to find its channels; by
    /// default it has our own only. Never a token: a link gets logged and shared.
    #[must_use]
    pub fn keep_parameters<N: Into<Box<str>>>(self, names: impl IntoIterator<Item = N>) -> Self {
        Self(self.0.keep_parameters(names))
    }
}

read_service!(LongPollService);

impl<S> fmt::Debug for LongPollService<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LongPollService").field("options", self.0.responder()).finish_non_exhaustive()
    }
}
