//! The errors of stores.

use std::{error::Error, fmt, sync::Arc};

use super::page::Head;

/// The error of a driver or of the system below a store.
pub type Source = Box<dyn Error + Send + Sync>;

/// Why a store failed. [`StoreError::is_retryable`] says whether the same call can succeed later.
///
/// In an HTTP handler `?` converts it into a response: a handler returns `Result<_, http::Response<Body>>`, with this crate's
/// [`Body`](crate::Body). As an error of its own a handler cannot return it, because web frameworks do not know it.
#[derive(Debug)]
#[non_exhaustive]
pub enum StoreError {
    /// The store cannot be reached now. Nothing was changed: retry.
    Unavailable(Source),
    /// The store is full; reads still succeed. Retry when there is space.
    Full(Source),
    /// The append or init has more than the store accepts at once: make it smaller.
    TooLarge {
        /// The size of the append or init.
        size: u64,
        /// The maximum.
        max: u64,
        /// The unit of both.
        unit: Unit,
    },
    /// The key of an event was used before for a different event, in this channel or earlier in the same append. Nothing was
    /// appended. Use a key for one event only; to repeat an append, repeat it unchanged.
    KeyReused {
        /// The index in the append of the first event that differs from the one its key was used for.
        index: usize,
    },
    /// The `expect` of the append or init does not hold: read, then decide again.
    Conflict {
        /// The actual head.
        head: Head,
    },
    /// The channel is closed: only `init` reopens it.
    Closed {
        /// Its head.
        head: Head,
    },
    /// The events may have been appended: repeat the append with the same keys.
    Unknown(Source),
    /// The stored data cannot be read; this needs an operator.
    Corrupt(Source),
    /// A newer version of the library has raised the format of the stored data: upgrade this process. Nothing was changed.
    NewerFormat {
        /// The version of the stored format.
        stored: u32,
        /// The newest version that this process supports.
        supported: u32,
        /// What this process may therefore not do.
        denied: Use,
    },
}

impl StoreError {
    /// Whether the same call can succeed later without other action by the caller. Repeating an append that was
    /// [`Unknown`](Self::Unknown) is harmless only if its events have idempotency keys.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::Full(_) | Self::Unknown(_))
    }

    /// An error of the same kind with the same source, for one of several callers that share a result: a store that writes several
    /// appends at once answers each with it.
    #[must_use]
    pub fn shared(error: Arc<Self>) -> Self {
        match &*error {
            Self::TooLarge { size, max, unit } => Self::TooLarge { size: *size, max: *max, unit: *unit },
            Self::KeyReused { index } => Self::KeyReused { index: *index },
            Self::Conflict { head } => Self::Conflict { head: *head },
            Self::Closed { head } => Self::Closed { head: *head },
            Self::NewerFormat { stored, supported, denied } => {
                Self::NewerFormat { stored: *stored, supported: *supported, denied: *denied }
            }
            Self::Unavailable(_) => Self::Unavailable(Box::new(Shared(error))),
            Self::Full(_) => Self::Full(Box::new(Shared(error))),
            Self::Unknown(_) => Self::Unknown(Box::new(Shared(error))),
            Self::Corrupt(_) => Self::Corrupt(Box::new(Shared(error))),
        }
    }
}

/// The source of an error that several callers share. It displays as that source, not as the error around it.
#[derive(Debug)]
struct Shared(Arc<StoreError>);

impl fmt::Display for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.source() {
            Some(source) => fmt::Display::fmt(source, f),
            None => fmt::Display::fmt(&self.0, f),
        }
    }
}

impl Error for Shared {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source().and_then(Error::source)
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unavailable(_) => f.write_str("the event store is unavailable; retry later"),
            Self::Full(_) => f.write_str("the event store is full; retry when there is room"),
            Self::TooLarge { size, max, unit } => {
                write!(f, "the append has {size} {unit}; the event store takes at most {max} at once")
            }
            Self::KeyReused { index } => {
                write!(f, "the key of event {} was used for another event; nothing was appended", index + 1)
            }
            Self::Conflict { .. } => f.write_str("the channel is not in the expected state; read it and decide anew"),
            Self::Closed { .. } => f.write_str("the channel is closed"),
            Self::Unknown(_) => f.write_str("the events may have been appended; repeat with the same key"),
            Self::Corrupt(_) => f.write_str("the event store holds data that cannot be read"),
            Self::NewerFormat { stored, supported, denied } => write!(
                f,
                "the event store has format {stored}, which this version of the library, for format {supported}, may not \
                 {denied}: upgrade this process"
            ),
        }
    }
}

impl Error for StoreError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Unavailable(source) | Self::Full(source) | Self::Unknown(source) | Self::Corrupt(source) => {
                Some(source.as_ref())
            }
            Self::TooLarge { .. }
            | Self::KeyReused { .. }
            | Self::Conflict { .. }
            | Self::Closed { .. }
            | Self::NewerFormat { .. } => None,
        }
    }
}

/// The unit of a size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unit {
    /// Bytes, by [`Entry::size`](super::Entry::size), or as a server counts them.
    Bytes,
    /// Events.
    Events,
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bytes => "bytes",
            Self::Events => "events",
        })
    }
}

/// What a node wants to do with a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Use {
    /// Read.
    Read,
    /// Append, init or delete.
    Write,
}

impl fmt::Display for Use {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Read => "read",
            Self::Write => "write",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cursor::Cursor;

    /// One of each kind, and whether the same call can succeed later.
    fn every() -> [(StoreError, bool); 9] {
        let source = || Source::from("the disk is away");
        let head = Head { cursor: Cursor { epoch: 1, seq: 2, tag: 3 }, closed: true };
        [
            (StoreError::Unavailable(source()), true),
            (StoreError::Full(source()), true),
            (StoreError::Unknown(source()), true),
            (StoreError::Corrupt(source()), false),
            (StoreError::TooLarge { size: 2, max: 1, unit: Unit::Events }, false),
            (StoreError::KeyReused { index: 4 }, false),
            (StoreError::Conflict { head }, false),
            (StoreError::Closed { head }, false),
            (StoreError::NewerFormat { stored: 3, supported: 2, denied: Use::Write }, false),
        ]
    }

    #[test]
    fn a_call_is_worth_repeating_when_the_store_may_recover() {
        for (error, retryable) in every() {
            assert_eq!(error.is_retryable(), retryable, "{error:?}");
        }
    }

    #[test]
    fn all_who_share_an_error_see_what_happened() {
        for (error, retryable) in every() {
            let (text, debug, has_source) = (error.to_string(), format!("{error:?}"), error.source().is_some());
            let shared = StoreError::shared(Arc::new(error));
            assert_eq!((shared.to_string(), shared.is_retryable()), (text, retryable));
            match shared.source() {
                Some(source) => assert_eq!(source.to_string(), "the disk is away"),
                None => assert!(!has_source && format!("{shared:?}") == debug, "{shared:?}"),
            }
        }
    }

    #[test]
    fn the_source_of_a_shared_error_keeps_its_own_source() {
        let inner = StoreError::Unavailable("the disk is away".into());
        let shared = StoreError::shared(Arc::new(StoreError::Corrupt(Box::new(inner))));
        let source = shared.source().and_then(Error::source);
        assert_eq!(source.map(ToString::to_string).as_deref(), Some("the disk is away"));
    }
}
