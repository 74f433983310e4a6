//! How a call fails, classified by whether it had an effect, and the [`StoreError`] or [`OpenError`] that it becomes. Pure.

use std::{error::Error, fmt, sync::Arc, time::Duration};

use redis::{ErrorKind, RedisError, ServerErrorKind};

use super::primary;
use crate::store::{OpenError, OpenErrorKind, Source, StoreError};
#[cfg(feature = "redis-tls")]
use crate::stores::causes::causes;

/// Why a store cannot be opened.
pub(super) fn open_error(kind: OpenErrorKind, why: impl Into<Source>) -> OpenError {
    OpenError::new(SERVER, kind).because(why)
}

/// Converts the error of a call that opening needs.
pub(super) fn from_open_call(error: StoreError) -> OpenError {
    OpenError::from_call(SERVER, error, open_error_kind)
}

/// What is opened, as errors name it. Not the URL: it may hold a password.
const SERVER: &str = "the Redis server";

fn open_error_kind(source: &(dyn Error + 'static)) -> Option<OpenErrorKind> {
    let shared = source.downcast_ref::<Arc<RedisError>>().map(|error| &**error);
    let error = source.downcast_ref::<RedisError>().or(shared)?;
    if let Some((to, _)) = error.redirect_node() {
        return Some(OpenErrorKind::Moved { to: to.to_owned() });
    }
    match (error.kind(), error.code()) {
        (ErrorKind::AuthenticationFailed, _) | (_, Some("NOAUTH" | "WRONGPASS" | "NOPERM")) => {
            Some(OpenErrorKind::Denied)
        }
        (ErrorKind::InvalidClientConfig, _) => Some(OpenErrorKind::Settings),
        // The key of the place holds another type of value.
        (_, Some("WRONGTYPE")) => Some(OpenErrorKind::Foreign),
        _ => is_tls_error(error).then_some(OpenErrorKind::Tls),
    }
}

#[cfg(feature = "redis-tls")]
fn is_tls_error(error: &RedisError) -> bool {
    causes(error).any(|cause| cause.is::<rustls::Error>())
}

#[cfg(not(feature = "redis-tls"))]
fn is_tls_error(_: &RedisError) -> bool {
    false
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
