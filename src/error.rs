//! Invalid names, events and cursors.
//!
//! Each error says what to correct; none of them can succeed by a retry.

use std::{error::Error, fmt};

/// Why a text is not a [`Channel`](crate::Channel).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum InvalidChannel {
    /// The name is empty.
    Empty,
    /// The name is longer than [`Channel::MAX_BYTES`](crate::Channel::MAX_BYTES).
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// The name holds a control character, such as a line break or NUL.
    ControlCharacter {
        /// Byte offset of the first one.
        at: usize,
    },
}

impl fmt::Display for InvalidChannel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("the channel name is empty"),
            Self::TooLong { bytes } => write!(f, "the channel name has {bytes} bytes; at most 255 are allowed"),
            Self::ControlCharacter { at } => write!(f, "the channel name has a control character at byte {at}"),
        }
    }
}

impl Error for InvalidChannel {}

/// Why some channels are not a [`Channels`](crate::Channels).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum InvalidChannels {
    /// No channel was named.
    Empty,
    /// More channels were named than are allowed.
    TooMany {
        /// The bound.
        max: usize,
    },
}

impl fmt::Display for InvalidChannels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("no channel is named"),
            Self::TooMany { max } => write!(f, "more than {max} channels are named"),
        }
    }
}

impl Error for InvalidChannels {}

/// Why something is not an [`Event`](crate::Event).
#[derive(Debug)]
#[non_exhaustive]
pub enum InvalidEvent {
    /// The data is not one JSON value, or cannot be serialised as one.
    Json(Box<dyn Error + Send + Sync>),
    /// The name is empty, longer than 255 bytes, or holds a control character.
    Name,
    /// The name begins with `stream-`, which is reserved for this crate's own events, or is `error` or `open`, which an
    /// `EventSource` fires itself.
    ReservedName,
    /// The idempotency key is empty, longer than 255 bytes, or holds a control character.
    Key,
    /// The time is above 8 640 000 000 000 000 ms, the last that JavaScript's `Date` can hold.
    Time,
}

impl fmt::Display for InvalidEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Json(_) => "the data are not one JSON value",
            Self::Name => "the event name must have 1 to 255 bytes and no control character",
            Self::ReservedName => {
                "event names that begin with `stream-` are reserved, and so are `error` and `open`, which EventSource fires \
                 itself"
            }
            Self::Key => "the idempotency key must have 1 to 255 bytes and no control character",
            Self::Time => "the time must be Unix milliseconds, at most 8640000000000000",
        })
    }
}

impl Error for InvalidEvent {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Json(source) => Some(&**source),
            _ => None,
        }
    }
}

/// The text is not a cursor of this crate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidCursor(pub(crate) ());

impl fmt::Display for InvalidCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a cursor: start from `earliest` or `latest`, or from a cursor that this service gave")
    }
}

impl Error for InvalidCursor {}
