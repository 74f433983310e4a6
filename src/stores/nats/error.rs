//! How a request fails, classified by whether it had an effect, and the [`StoreError`] or [`OpenError`] that it becomes.
//! Knows no channel.

use std::{error::Error, fmt};

use async_nats::{ConnectError, ConnectErrorKind};

use crate::{
    store::{OpenError, OpenErrorKind, Source, StoreError, Use},
    stores::causes::causes,
};

/// How a request failed.
#[derive(Debug)]
pub(super) enum CallError {
    /// It was not sent: nothing happened.
    NotSent(String),
    /// It may have been received.
    NoResponse(String),
    /// The user lacks the permission for the request or its response: it was not executed.
    PermissionDenied(String),
    /// No responder: the stream does not exist, or has no leader now.
    NoResponders,
    /// The server refused it.
    Refused(ApiError),
    /// The response cannot be parsed.
    Malformed(&'static str),
}

/// A JetStream API error.
#[derive(Debug, serde::Deserialize)]
pub(super) struct ApiError {
    #[serde(default)]
    pub(super) code: u16,
    #[serde(default)]
    pub(super) err_code: u32,
    #[serde(default)]
    pub(super) description: String,
}

impl ApiError {
    /// The subject's last message is not the expected one.
    pub(super) fn is_conflict(&self) -> bool {
        matches!(self.err_code, 10_071 | 10_070 | 10_164)
    }

    pub(super) fn is_no_message(&self) -> bool {
        self.err_code == 10_037
    }

    pub(super) fn is_no_stream(&self) -> bool {
        self.err_code == 10_059
    }

    /// The limits of the stream or of the server are reached.
    pub(super) fn is_full(&self) -> bool {
        let words = ["maximum bytes", "maximum messages", "insufficient resources", "storage", "no space"];
        matches!(self.err_code, 10_023 | 10_028 | 10_047) || words.iter().any(|words| self.description.contains(words))
    }

    /// JetStream is not enabled, on the server or for the account.
    fn is_disabled(&self) -> bool {
        matches!(self.err_code, 10_039 | 10_076)
    }

    pub(super) fn is_too_large(&self) -> bool {
        self.err_code == 10_054
    }
}

impl CallError {
    /// The error of a request that changes nothing, or that certainly was not executed.
    pub(super) fn into_store_error(self) -> StoreError {
        match self {
            Self::Refused(api_error) if api_error.is_full() => StoreError::Full(Box::new(Self::Refused(api_error))),
            Self::Malformed(_) => StoreError::Corrupt(Box::new(self)),
            other => StoreError::Unavailable(Box::new(other)),
        }
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotSent(why) => write!(f, "not connected to NATS: {why}"),
            Self::NoResponse(why) => write!(f, "no response from NATS: {why}"),
            Self::PermissionDenied(what) => {
                write!(f, "NATS does not allow this user {what}: see the permissions in docs/stores/nats.md")
            }
            Self::NoResponders => f.write_str("no JetStream stream responds"),
            Self::Refused(api_error) => {
                write!(f, "JetStream refused: {} ({}, {})", api_error.description, api_error.code, api_error.err_code)
            }
            Self::Malformed(what) => write!(f, "cannot parse {what}"),
        }
    }
}

impl Error for CallError {}

/// Why a server or a stream that was found cannot be used.
#[derive(Debug)]
enum Unusable {
    /// The stream was not created by this crate, as this part of its configuration shows.
    Foreign(&'static str),
    /// The server is too old.
    UnsupportedServer(&'static str),
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Foreign(what) => write!(f, "the stream belongs to another application, as {what} shows"),
            Self::UnsupportedServer(why) => f.write_str(why),
        }
    }
}

impl Error for Unusable {}

/// The error for a stream that this crate did not create, as this part of its configuration shows.
pub(super) fn foreign(what: &'static str) -> StoreError {
    StoreError::Corrupt(Box::new(Unusable::Foreign(what)))
}

/// The error for a server that is too old for an option.
pub(super) fn unsupported_server(why: &'static str) -> StoreError {
    StoreError::Unavailable(Box::new(Unusable::UnsupportedServer(why)))
}

/// Why a store cannot be opened.
pub(super) fn open_error(kind: OpenErrorKind, why: impl Into<Source>) -> OpenError {
    OpenError::new(SERVER, kind).because(why)
}

/// Converts the error of a connection or a request that opening needs.
pub(super) fn from_open_call(error: StoreError) -> OpenError {
    OpenError::from_call(SERVER, error, open_error_kind)
}

/// What is opened, as errors name it. Not the URLs: they may hold passwords.
const SERVER: &str = "NATS";

fn open_error_kind(source: &(dyn Error + 'static)) -> Option<OpenErrorKind> {
    if let Some(error) = source.downcast_ref::<ConnectError>() {
        return match error.kind() {
            ConnectErrorKind::ServerParse => Some(OpenErrorKind::Settings),
            ConnectErrorKind::Authentication | ConnectErrorKind::AuthorizationViolation => Some(OpenErrorKind::Denied),
            ConnectErrorKind::Tls => Some(OpenErrorKind::Tls),
            _ => causes(error).any(|cause| cause.is::<async_nats::rustls::Error>()).then_some(OpenErrorKind::Tls),
        };
    }
    if let Some(error) = source.downcast_ref::<Unusable>() {
        return Some(match error {
            Unusable::Foreign(_) => OpenErrorKind::Foreign,
            Unusable::UnsupportedServer(_) => OpenErrorKind::UnsupportedVersion,
        });
    }
    match source.downcast_ref()? {
        CallError::PermissionDenied(_) => Some(OpenErrorKind::Denied),
        CallError::Refused(api_error) if api_error.is_disabled() => Some(OpenErrorKind::Misconfigured),
        _ => None,
    }
}

pub(super) fn corrupt(what: &'static str) -> StoreError {
    StoreError::Corrupt(Box::new(CallError::Malformed(what)))
}

pub(super) fn unavailable(why: &str) -> StoreError {
    StoreError::Unavailable(why.into())
}

/// Whether only writes are impossible now.
pub(super) fn refuses_only_writes(error: &StoreError) -> bool {
    matches!(error, StoreError::Full(_) | StoreError::NewerFormat { denied: Use::Write, .. })
}

/// Whether it failed for lack of a permission, so that retrying at once is pointless.
pub(super) fn is_permission_denied(error: &StoreError) -> bool {
    let StoreError::Unavailable(source) = error else { return false };
    matches!(source.downcast_ref(), Some(CallError::PermissionDenied(_)))
}
