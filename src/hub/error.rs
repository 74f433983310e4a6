//! Why a subscription was refused.

use std::{error::Error, fmt, time::Duration};

use crate::store::StoreError;

/// Why a subscription was refused. The last two pass by themselves.
#[derive(Debug)]
#[non_exhaustive]
pub enum SubscribeError {
    /// The store failed.
    Store(StoreError),
    /// The hub is draining: another process serves.
    Draining {
        /// When to come back.
        retry: Duration,
    },
    /// There are as many readers as [`HubOptions::readers`](crate::HubOptions::readers) allows.
    TooManyReaders {
        /// When to come back.
        retry: Duration,
    },
}

impl fmt::Display for SubscribeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Store(_) => f.write_str("the event store failed"),
            Self::Draining { .. } => f.write_str("the service is shutting down; come back later"),
            Self::TooManyReaders { .. } => f.write_str("there are too many readers; come back later"),
        }
    }
}

impl Error for SubscribeError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Store(source) => Some(source),
            _ => None,
        }
    }
}

impl From<StoreError> for SubscribeError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}
