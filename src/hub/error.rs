//! Why a subscription was refused or ended, and why a shared call to the store failed.

use std::{error::Error, fmt, sync::Arc, time::Duration};

use crate::{snapshot::SnapshotError, store::StoreError};

/// Why a subscription was refused, or ended before its channels did. All of these are temporary, except a [`StoreError`] that
/// cannot be retried.
#[derive(Debug)]
#[non_exhaustive]
pub enum SubscribeError {
    /// The store failed.
    Store(StoreError),
    /// The hub is draining; another process takes over.
    Draining {
        /// When to come back.
        retry: Duration,
    },
    /// There are as many readers as [`HubOptions::max_readers`](crate::HubOptions::max_readers) allows.
    TooManyReaders {
        /// When to come back.
        retry: Duration,
    },
    /// It would follow more channels than [`HubOptions::max_followed_channels`](crate::HubOptions::max_followed_channels)
    /// allows.
    TooManyChannels {
        /// When to come back.
        retry: Duration,
    },
    /// As many reads of the store wait as [`HubOptions::max_waiting_reads`](crate::HubOptions::max_waiting_reads) allows, or this
    /// one waited for [`HubOptions::read_queue_timeout`](crate::HubOptions::read_queue_timeout).
    Overloaded {
        /// When to come back: later, the more readers were refused before this one.
        retry: Duration,
    },
    /// There is no snapshot of a channel, and without one the reader cannot go on: see [`snapshot`](crate::snapshot).
    Snapshot {
        /// When to come back: later, the longer the provider has been failing.
        retry: Duration,
        /// What happened.
        error: SnapshotError,
    },
    /// The reader left a page untouched for [`HubOptions::stall_timeout`](crate::HubOptions::stall_timeout). It may resume from
    /// its position at once.
    Stalled,
    /// The signal of [`Updates::until`](crate::Updates::until) was ready.
    Ended,
}

impl SubscribeError {
    /// When to come back, where the hub has decided that: `None` after a failure of the store, for which
    /// [`Hub::failure_backoff`](crate::Hub::failure_backoff) grows while it lasts, and after [`SubscribeError::Ended`].
    #[must_use]
    pub fn retry(&self) -> Option<Duration> {
        match self {
            Self::Draining { retry }
            | Self::TooManyReaders { retry }
            | Self::TooManyChannels { retry }
            | Self::Overloaded { retry }
            | Self::Snapshot { retry, .. } => Some(*retry),
            Self::Stalled => Some(Duration::ZERO),
            Self::Store(_) | Self::Ended => None,
        }
    }
}

impl fmt::Display for SubscribeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Store(_) => f.write_str("the event store failed"),
            Self::Draining { .. } => f.write_str("the service is shutting down; retry later"),
            Self::TooManyReaders { .. } => f.write_str("there are too many readers; retry later"),
            Self::TooManyChannels { .. } => f.write_str("too many channels are followed; retry later"),
            Self::Stalled => f.write_str("the reader did not read for too long; resume from its last position"),
            Self::Ended => f.write_str("the reader's time is over; resume from its last position"),
            Self::Overloaded { .. } => f.write_str("too many readers are waiting for the event store; retry later"),
            Self::Snapshot { .. } => f.write_str("there is no snapshot of the channel's state; retry later"),
        }
    }
}

impl Error for SubscribeError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Store(source) => Some(source),
            Self::Snapshot { error, .. } => Some(error),
            _ => None,
        }
    }
}

impl From<StoreError> for SubscribeError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// When a reader beyond a limit should come back, drawn anew for each.
pub(super) fn limit_retry() -> Duration {
    Duration::from_millis(fastrand::u64(1_000..5_000))
}

/// Why a call to the store failed for all readers that share it.
#[derive(Clone, Debug)]
pub(super) enum ReadError {
    Store(Arc<StoreError>),
    /// It never began: too many calls are waiting.
    Overloaded {
        retry: Duration,
    },
    /// The page was revoked: the reader left it untouched for too long.
    Stalled,
    Snapshot {
        retry: Duration,
        error: SnapshotError,
    },
}

impl ReadError {
    /// The call cannot begin: its caller runs outside of a tokio runtime.
    pub(super) fn no_runtime() -> Self {
        StoreError::Unavailable("no tokio runtime is running".into()).into()
    }

    /// The error, if one channel's data is corrupt: that must not affect any other channel.
    pub(super) fn corrupt(&self) -> Option<&Arc<StoreError>> {
        match self {
            Self::Store(error) if matches!(**error, StoreError::Corrupt(_)) => Some(error),
            _ => None,
        }
    }
}

impl From<StoreError> for ReadError {
    fn from(error: StoreError) -> Self {
        Self::Store(Arc::new(error))
    }
}

impl From<ReadError> for SubscribeError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Store(error) => Self::Store(StoreError::shared(error)),
            // Many readers may have shared the refused read: spread them.
            ReadError::Overloaded { retry } => Self::Overloaded { retry: retry.mul_f64(1.0 + fastrand::f64() / 4.0) },
            ReadError::Stalled => Self::Stalled,
            ReadError::Snapshot { retry, error } => Self::Snapshot { retry, error },
        }
    }
}

impl From<ReadError> for StoreError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Store(error) => Self::shared(error),
            ReadError::Snapshot { error, .. } => Self::Unavailable(error.into()),
            ReadError::Overloaded { .. } | ReadError::Stalled => {
                Self::Unavailable("too many calls are waiting for it".into())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_that_shared_a_refused_read_come_back_spread_over_a_quarter() {
        let refused = ReadError::Overloaded { retry: Duration::from_secs(8) };
        let retries = (0..1000).map(|_| match SubscribeError::from(refused.clone()) {
            SubscribeError::Overloaded { retry } => retry.as_millis(),
            other => panic!("{other}"),
        });
        let quarters = retries.fold([0; 4], |mut quarters, retry| {
            quarters[usize::try_from(retry - 8_000).unwrap() / 500] += 1;
            quarters
        });
        assert!(quarters.iter().all(|count| *count > 150), "{quarters:?}");
    }

    #[test]
    fn the_stores_error_is_the_source_of_the_subscribers() {
        let error = SubscribeError::from(StoreError::Unavailable("no route".into()));
        assert_eq!(error.source().map(ToString::to_string), Some("the event store is unavailable; retry later".into()));
        assert!(SubscribeError::Stalled.source().is_none());
    }
}
