//! How a call fails, by what is known of its effect, and what the contract calls that. Pure.

use std::{error::Error, fmt, time::Duration};

use redis::{RedisError, ServerErrorKind};

use super::primary;
use crate::store::{Source, StoreError};

/// Why a [`RedisStore`] could not be set up.
#[derive(Debug)]
#[non_exhaustive]
pub enum ConnectError {
    /// The URL is not one of a Redis server, or needs a feature that is off (`rediss://`: `redis-tls`), or a certificate to
    /// trust is none.
    Url(Source),
    /// The prefix is empty, too long, or has other characters than `[A-Za-z0-9._:-]`.
    Prefix,
    /// The server did not answer, or refused, or is a replica.
    Unreachable(Source),
    /// The server belongs to a cluster, and another one has the keys of this prefix: connect to that.
    Moved {
        /// Host and port, as the server says.
        to: String,
    },
    /// The server is older than 7.0.
    Version {
        /// Its version, as it says.
        found: String,
    },
    /// What is stored has a format that this version of the library may not read
    /// ([`NewerFormat`](StoreError::NewerFormat)), or cannot make out.
    Format(StoreError),
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url(_) => f.write_str("not the URL of a Redis server"),
            Self::Prefix => f.write_str("the prefix must have 1 to 64 characters of A-Z, a-z, 0-9 and ._:-"),
            Self::Unreachable(_) => f.write_str("the Redis server cannot be reached"),
            Self::Moved { to } => write!(f, "the keys of this prefix are on another server of the cluster: {to}"),
            Self::Version { found } => write!(f, "the Redis server is {found}; 7.0 or newer is needed"),
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
    /// Never sent: nothing happened.
    NotSent(Source),
    /// Sent, and no answer came: it may have happened, now or later.
    NoResponse(Source),
    /// The server said no.
    Refused(RedisError),
}

impl CallError {
    /// What an append or init failed with.
    pub(super) fn into_write_error(self) -> StoreError {
        match self {
            Self::NoResponse(source) => StoreError::Unknown(source),
            // An error of no particular kind may come from the middle of a script. Who waited for replicas while the primary
            // became one itself is not told what became of the append.
            Self::Refused(error) if matches!(error.code(), Some("ERR" | "UNBLOCKED")) => {
                StoreError::Unknown(Box::new(error))
            }
            other => other.into_read_error(),
        }
    }

    /// What a call failed with that can be repeated.
    pub(super) fn into_read_error(self) -> StoreError {
        match self {
            Self::NotSent(source) | Self::NoResponse(source) => StoreError::Unavailable(source),
            Self::Refused(error) => match error.code() {
                // Of memory; of disk, for a server that is told not to write on without snapshots.
                Some("OOM" | "MISCONF") => StoreError::Full(Box::new(error)),
                Some("CORRUPT" | "WRONGTYPE") => StoreError::Corrupt(Box::new(error)),
                _ => StoreError::Unavailable(Box::new(error)),
            },
        }
    }

    /// What a script says of one channel that failed while others did not: `U` when it may have happened all the same.
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

    /// What connecting failed with.
    pub(super) fn into_source(self) -> Source {
        match self {
            Self::NotSent(source) | Self::NoResponse(source) => source,
            Self::Refused(error) => Box::new(error),
        }
    }

    /// Which server of a cluster has the keys, when this one does not.
    pub(super) fn moved_to(&self) -> Option<String> {
        match self {
            Self::Refused(error) => error.redirect_node().map(|(to, _)| to.to_owned()),
            Self::NotSent(_) | Self::NoResponse(_) => None,
        }
    }

    /// Whether the server does not know the script that was called.
    pub(super) fn is_unknown_script(&self) -> bool {
        matches!(self, Self::Refused(error) if error.kind() == ServerErrorKind::NoScript.into())
    }

    /// Whether the connection is of no more use.
    pub(super) fn breaks_connection(&self) -> bool {
        match self {
            Self::NotSent(_) => false,
            Self::NoResponse(_) => true,
            Self::Refused(_) => self.is_from_replica(),
        }
    }

    /// Whether the server is not the primary any more.
    pub(super) fn is_from_replica(&self) -> bool {
        matches!(self, Self::Refused(error) if primary::is_replica_error(error))
    }
}

/// What a server that answers refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RefusedCalls {
    /// Writes alone.
    Writes,
    /// Every call about these keys.
    All,
}

/// What the server refuses that made a call fail with this, as long as nothing changes there.
pub(super) fn refused_calls(error: &StoreError) -> Option<RefusedCalls> {
    let StoreError::Unavailable(source) = error else { return None };
    match source.downcast_ref::<RedisError>()?.code()? {
        // Fewer replicas than it is told to have; a user who may only read.
        "NOREPLICAS" | "NOPERM" => Some(RefusedCalls::Writes),
        // The keys are on another server of the cluster, on their way to it, or on none.
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

/// Nothing came in time.
#[derive(Debug)]
pub(super) struct TimedOut(pub(super) Duration);

impl fmt::Display for TimedOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the Redis server did not answer within {:?}", self.0)
    }
}

impl Error for TimedOut {}

/// An answer that none of the scripts gives.
pub(super) fn malformed(what: &'static str) -> StoreError {
    StoreError::Corrupt(format!("the Redis server's answer has no {what}").into())
}
