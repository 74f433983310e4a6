//! How a call fails, classified by whether it had an effect, and the [`StoreError`] that it becomes. Pure.

use std::{error::Error, fmt, time::Duration};

use redis::{RedisError, ServerErrorKind};

use super::primary;
use crate::store::{Source, StoreError};

/// Why a [`RedisStore`](super::RedisStore) could not be set up.
#[derive(Debug)]
#[non_exhaustive]
pub enum ConnectError {
    /// The URL is not that of a Redis server or needs a disabled feature (`rediss://`: `redis-tls`), or a certificate
    /// cannot be read.
    Url(Source),
    /// The prefix is empty, too long, or has characters other than `[A-Za-z0-9._:-]`.
    Prefix,
    /// The server did not answer, refused, or is a replica.
    Unreachable(Source),
    /// The server belongs to a cluster, and the keys of this prefix are on another server: connect to that one.
    Moved {
        /// Host and port, as the server reported them.
        to: String,
    },
    /// The server is older than 7.0.
    Version {
        /// The server's version.
        found: String,
    },
    /// What is stored has a format that this version of the library may not read
    /// ([`NewerFormat`](StoreError::NewerFormat)) or cannot parse.
    Format(StoreError),
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url(_) => f.write_str("not the URL of a Redis server"),
            Self::Prefix => f.write_str("the prefix must have 1 to 64 characters of A-Z, a-z, 0-9 and ._:-"),
            Self::Unreachable(_) => f.write_str("cannot reach the Redis server"),
            Self::Moved { to } => write!(f, "another server of the cluster has the keys of this prefix: {to}"),
            Self::Version { found } => write!(f, "the Redis server has version {found}; 7.0 or newer is required"),
            Self::Format(error) => error.fmt(f),
        }
    }
}

impl Error for ConnectError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Url(source) | Self::Unreachable(source) => Some(source.as_ref()),
            Self::Format(error) => error.source(),
            Self::Prefix | Self::Moved { .. } | Self::Version { .. } => None,
        }
    }
}

/// How a call failed.
#[derive(Debug)]
pub(super) enum CallError {
    /// It was never sent: nothing happened.
    NotSent(Source),
    /// It was sent, and no reply came: it may have happened, or may still happen.
    NoResponse(Source),
    /// The server replied with an error.
    Refused(RedisError),
}

impl CallError {
    /// The error of an append or an init.
    pub(super) fn into_write_error(self) -> StoreError {
        match self {
            Self::NoResponse(source) => StoreError::Unknown(source),
            // An error without a specific code may come from the middle of a script. A client that waits for replicas
            // is unblocked when the primary becomes a replica: what became of the append is then unknown.
            Self::Refused(error) if matches!(error.code(), Some("ERR" | "UNBLOCKED")) => {
                StoreError::Unknown(Box::new(error))
            }
            other => other.into_read_error(),
        }
    }

    /// The error of a call that can be repeated.
    pub(super) fn into_read_error(self) -> StoreError {
        match self {
            Self::NotSent(source) | Self::NoResponse(source) => StoreError::Unavailable(source),
            Self::Refused(error) => match error.code() {
                // Out of memory; or out of disk space, when the server is configured to stop writing if it cannot save
                // snapshots.
                Some("OOM" | "MISCONF") => StoreError::Full(Box::new(error)),
                Some("CORRUPT" | "WRONGTYPE") => StoreError::Corrupt(Box::new(error)),
                _ => StoreError::Unavailable(Box::new(error)),
            },
        }
    }

    /// A script's error for one channel while others succeeded; kind `U` means that it may have happened all the same.
    pub(super) fn channel_error(kind: u8, why: &[u8]) -> StoreError {
        let why = String::from_utf8_lossy(why).into_owned();
        let code = why.split(' ').next().unwrap_or_default();
        match (kind, code) {
            (b'U', _) => StoreError::Unknown(why.into()),
            (_, "OOM" | "MISCONF") => StoreError::Full(why.into()),
            (_, "CORRUPT" | "WRONGTYPE") => StoreError::Corrupt(why.into()),
            _ => StoreError::Unavailable(why.into()),
        }
    }

    /// The error of connecting.
    pub(super) fn into_source(self) -> Source {
        match self {
            Self::NotSent(source) | Self::NoResponse(source) => source,
            Self::Refused(error) => Box::new(error),
        }
    }

    /// Which server of the cluster has the keys, when this one does not.
    pub(super) fn moved_to(&self) -> Option<String> {
        match self {
            Self::Refused(error) => error.redirect_node().map(|(to, _)| to.to_owned()),
            Self::NotSent(_) | Self::NoResponse(_) => None,
        }
    }

    /// Whether the server does not have the script.
    pub(super) fn is_unknown_script(&self) -> bool {
        matches!(self, Self::Refused(error) if error.kind() == ServerErrorKind::NoScript.into())
    }

    /// Whether the connection is unusable from now on.
    pub(super) fn breaks_connection(&self) -> bool {
        match self {
            Self::NotSent(_) => false,
            Self::NoResponse(_) => true,
            Self::Refused(_) => self.is_from_replica(),
        }
    }

    /// Whether the server is no longer the primary.
    pub(super) fn is_from_replica(&self) -> bool {
        matches!(self, Self::Refused(error) if primary::is_replica_error(error))
    }
}

/// Which calls a server refuses that does answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RefusedCalls {
    /// Writes only.
    Writes,
    /// Every call that concerns these keys.
    All,
}

/// Which calls the server refuses until its state changes, according to this error.
pub(super) fn refused_calls(error: &StoreError) -> Option<RefusedCalls> {
    let StoreError::Unavailable(source) = error else { return None };
    match source.downcast_ref::<RedisError>()?.code()? {
        // Fewer replicas than `min-replicas-to-write`; a user without write permission.
        "NOREPLICAS" | "NOPERM" => Some(RefusedCalls::Writes),
        // Another server of the cluster has the keys, or they are being moved, or no server has them.
        "MOVED" | "ASK" | "TRYAGAIN" | "CLUSTERDOWN" => Some(RefusedCalls::All),
        _ => None,
    }
}

impl From<RedisError> for CallError {
    /// Of a command that was handed to a connection.
    fn from(error: RedisError) -> Self {
        if error.code().is_some() { Self::Refused(error) } else { Self::NoResponse(Box::new(error)) }
    }
}

/// No reply came in time.
#[derive(Debug)]
pub(super) struct TimedOut(pub(super) Duration);

impl fmt::Display for TimedOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the Redis server did not answer within {:?}", self.0)
    }
}

impl Error for TimedOut {}

/// A reply that no script gives.
pub(super) fn malformed(what: &'static str) -> StoreError {
    StoreError::Corrupt(format!("the Redis server's reply has no {what}").into())
}
