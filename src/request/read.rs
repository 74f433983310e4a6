//! A request to read, as plain values.

use std::sync::Arc;

use http::{Method, Version};

use super::accept::Transport;
use crate::{compaction::Compaction, hub::SubscriptionStart, store::Start};

/// What a request to read asks for, except for its channels, which a resolver names. What the client left out is `None`;
/// nothing is bounded yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ReadRequest {
    pub(crate) method: ReadMethod,
    pub(crate) version: Version,
    pub(crate) transport: Transport,
    pub(crate) begin: SubscriptionStart,
    /// The parameters that the URL of the next page repeats; empty for a stream, which has no next page.
    pub(crate) next_query: Box<[u8]>,
    pub(crate) wait: Option<Wait>,
    pub(crate) limit: Option<u64>,
    pub(crate) format: Option<Format>,
    pub(crate) shape: PollShape,
    pub(crate) heartbeat: Option<Heartbeat>,
}

/// The method of a request to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReadMethod {
    Get,
    Head,
}

impl ReadMethod {
    /// `Get` for every method but HEAD: refusals of other methods have content too.
    pub(crate) fn of(method: &Method) -> Self {
        if method == Method::HEAD { Self::Head } else { Self::Get }
    }
}

/// A service's settings for the requests that read from it.
#[derive(Clone, Debug)]
pub(crate) struct ReadSettings {
    /// Maximum number of channels of a request.
    pub(crate) max_channels: usize,
    /// Where a request starts if it does not say so.
    pub(crate) start: Start,
    /// The application's own parameters that the URL of the next page repeats.
    pub(crate) kept_parameters: Arc<[Box<str>]>,
    /// What readers that catch up need not receive.
    pub(crate) compaction: Option<Compaction>,
    /// How far readers may be behind.
    pub(crate) max_behind: Option<u64>,
}

impl Default for ReadSettings {
    fn default() -> Self {
        Self {
            max_channels: 32,
            start: Start::Latest,
            kept_parameters: Arc::new([]),
            compaction: None,
            max_behind: None,
        }
    }
}

/// The longest wait of a poll, in seconds, by what the client set it with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    Parameter(u64),
    Preferred(u64),
}

/// What the body of a long poll's response is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum PollShape {
    /// An array of events; everything else is in the headers.
    #[default]
    Array,
    /// One object with everything, for scripts that cannot see headers and positions that are too long for one.
    Page,
}

/// How the data of an SSE event is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Format {
    /// As it is: a string as its text, any other value as JSON. The default.
    #[default]
    Text,
    /// As the object of a long poll (`id`, `channel`, `time`, `name`, `data`), in an event without a name: made for several
    /// channels.
    Json,
}

/// What is sent on an SSE stream that has been silent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Heartbeat {
    /// A comment, which clients ignore. The default.
    #[default]
    Comment,
    /// An event `stream-ping`, which scripts can see; one is also sent at the start.
    Event,
}
