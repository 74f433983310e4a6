//! The state of a store, for monitoring. It decides nothing: calls are made, and fail, whatever it says.

/// The state of a [`Store`](super::Store), as far as it knows without a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Health {
    /// Calls succeed, and hints arrive.
    #[default]
    Ready,
    /// Calls succeed, but no hints of other processes' appends arrive: readers get these when the hub compares heads, a few
    /// seconds later.
    Degraded,
    /// Reads succeed; publishing fails until the cause is gone: no space, a failed sync, a newer format.
    ReadOnly,
    /// The last call failed to reach the store, or the connection to it is lost. Publishing fails; readers stay connected, wait,
    /// and catch up once it is reachable again.
    Unavailable,
}

impl Health {
    /// The name for logs and health checks: `ready`, `degraded`, `read-only` or `unavailable`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Degraded => "degraded",
            Self::ReadOnly => "read-only",
            Self::Unavailable => "unavailable",
        }
    }
}
