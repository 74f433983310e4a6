//! How a store is, for those who watch over a process. Decides nothing: calls are made and fail all the same.

/// How a [`Store`](super::Store) is, as far as it knows without asking anybody.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Health {
    /// Calls are answered, and hints come.
    #[default]
    Ready,
    /// Calls are answered, but what other processes append is not heard of: readers get it when the hub compares heads, a
    /// few seconds later.
    Late,
    /// Reads are answered; publishing fails until what is wrong has ended: no room, a failed sync, a newer format.
    ReadOnly,
    /// The last call found the store away, or the connection to it is lost. Publishing fails; readers stay connected, wait,
    /// and catch up when it is back.
    Unavailable,
}

impl Health {
    /// As logs and health checks show it: `ready`, `late`, `read-only` or `unavailable`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Late => "late",
            Self::ReadOnly => "read-only",
            Self::Unavailable => "unavailable",
        }
    }
}
