//! How a call fails, classified by whether it had an effect, and the [`StoreError`] or [`OpenError`] that it becomes.

use std::{error::Error, fmt};

use tokio_postgres::error::{DbError, Severity, SqlState};

use super::format::VERSION;
use crate::{
    store::{Health, OpenError, OpenErrorKind, Source, StoreError, Use},
    stores::causes::causes,
};

/// Invalid settings.
pub(super) fn invalid_settings(why: Source) -> OpenError {
    OpenError::new(SERVER, OpenErrorKind::Settings).because(why)
}

/// Converts the error of a call that opening needs.
pub(super) fn from_open_call(error: StoreError) -> OpenError {
    OpenError::from_call(SERVER, error, open_error_kind)
}

/// What is opened, as errors name it. Not the URL: it may hold a password.
const SERVER: &str = "PostgreSQL";

fn open_error_kind(source: &(dyn Error + 'static)) -> Option<OpenErrorKind> {
    let code = causes(source).find_map(|cause| cause.downcast_ref::<tokio_postgres::Error>()?.code());
    match code {
        // Class 28: invalid authorization, such as a wrong password or a missing client certificate.
        Some(code) if code.code().starts_with("28") || *code == SqlState::INSUFFICIENT_PRIVILEGE => {
            Some(OpenErrorKind::Denied)
        }
        // There is no such database.
        Some(code) if *code == SqlState::INVALID_CATALOG_NAME => Some(OpenErrorKind::Settings),
        _ => causes(source).any(|cause| cause.is::<rustls::Error>()).then_some(OpenErrorKind::Tls),
    }
}

/// How a call failed.
#[derive(Debug)]
pub(super) enum CallError {
    /// It was never sent.
    NotSent(Source),
    /// The server refused it; nothing was changed.
    Refused(tokio_postgres::Error),
    /// It was sent, and no response came.
    NoResponse(Source),
    /// The response is not one that this version understands.
    Malformed(Source),
    /// The schema has a newer version, which does not allow this version to do that.
    NewerFormat { stored: u32, denied: Use },
}

impl CallError {
    /// Classifies the error of a statement that was sent. When the server ends a connection in the middle of a
    /// statement it sends a fatal error, which says nothing about the statement.
    pub(super) fn after_send(error: tokio_postgres::Error) -> Self {
        match error.as_db_error() {
            Some(refusal) if refusal.code().code() == NEWER => Self::newer(refusal),
            Some(refusal) if !is_fatal(refusal) => Self::Refused(error),
            _ => Self::NoResponse(error.into()),
        }
    }

    fn newer(refusal: &DbError) -> Self {
        let stored = refusal.detail().and_then(|version| version.parse().ok()).unwrap_or_default();
        Self::NewerFormat { stored, denied: if refusal.hint() == Some("read") { Use::Read } else { Use::Write } }
    }

    /// Whether it names something that the schema lacks, because the schema is older or newer.
    pub(super) fn is_missing_schema_object(&self) -> bool {
        self.code().is_some_and(|code| MISSING.contains(&code) || *code == SqlState::UNDEFINED_COLUMN)
    }

    /// What it says about the store's health, if anything.
    pub(super) fn health(&self) -> Option<Health> {
        match self {
            Self::NewerFormat { denied: Use::Read, .. } => Some(Health::Unavailable),
            Self::NewerFormat { denied: Use::Write, .. } => Some(Health::ReadOnly),
            Self::Refused(_) if self.code().is_some_and(|code| CANNOT_WRITE.contains(&code)) => Some(Health::ReadOnly),
            other => other.affects_all_calls().then_some(Health::Unavailable),
        }
    }

    /// Whether repeating the call at once may succeed: a deadlock, or another transaction that came first.
    pub(super) fn is_serialization_conflict(&self) -> bool {
        const COLLISIONS: [&SqlState; 2] = [&SqlState::T_R_SERIALIZATION_FAILURE, &SqlState::T_R_DEADLOCK_DETECTED];
        self.code().is_some_and(|code| COLLISIONS.contains(&code))
    }

    /// Whether it took too long, by the server's limit or by the caller's.
    pub(super) fn is_timeout(&self) -> bool {
        self.code() == Some(&SqlState::QUERY_CANCELED)
            || matches!(self, Self::NoResponse(source) if source.is::<TimedOut>())
    }

    /// Whether the notification may have been refused: the role may not notify, or the server's queue is full.
    pub(super) fn may_be_of_notify(&self) -> bool {
        const REFUSALS: [&SqlState; 2] = [&SqlState::INSUFFICIENT_PRIVILEGE, &SqlState::PROGRAM_LIMIT_EXCEEDED];
        self.code().is_some_and(|code| REFUSALS.contains(&code))
    }

    /// Whether the connection is unusable from now on: it leads to a standby, or its prepared statements are gone.
    pub(super) fn breaks_connection(&self) -> bool {
        const UNUSABLE: [&SqlState; 3] = [
            &SqlState::READ_ONLY_SQL_TRANSACTION,
            &SqlState::INVALID_SQL_STATEMENT_NAME,
            &SqlState::FEATURE_NOT_SUPPORTED,
        ];
        !matches!(self, Self::Refused(_) | Self::NewerFormat { .. })
            || self.code().is_some_and(|code| UNUSABLE.contains(&code))
    }

    /// Whether the connection failed, and not the statement.
    pub(super) fn is_connection_lost(&self) -> bool {
        matches!(self, Self::NotSent(_) | Self::NoResponse(_))
    }

    /// Whether its connection was cut off, so that another one may work.
    pub(super) fn was_cut_off(&self) -> bool {
        matches!(self, Self::NoResponse(source) if !source.is::<TimedOut>())
    }

    /// Whether other calls will fail in the same way: no connection, no response, or no schema.
    fn affects_all_calls(&self) -> bool {
        let is_missing = self.code().is_some_and(|code| MISSING.contains(&code));
        matches!(self, Self::NotSent(_) | Self::NoResponse(_)) && !self.was_cut_off() || is_missing
    }

    fn code(&self) -> Option<&SqlState> {
        match self {
            Self::Refused(error) => error.code(),
            _ => None,
        }
    }

    /// The error for a call that changes nothing.
    pub(super) fn into_read_error(self) -> StoreError {
        match self {
            Self::NoResponse(source) => StoreError::Unavailable(source),
            other => other.into_write_error(),
        }
    }

    /// The error for a call that may have changed something.
    pub(super) fn into_write_error(self) -> StoreError {
        match self {
            Self::NotSent(source) => StoreError::Unavailable(source),
            Self::NoResponse(source) => StoreError::Unknown(source),
            Self::Malformed(source) => StoreError::Corrupt(source),
            Self::Refused(error) => refused_error(error),
            Self::NewerFormat { stored, denied } => StoreError::NewerFormat { stored, supported: VERSION, denied },
        }
    }
}

fn refused_error(error: tokio_postgres::Error) -> StoreError {
    const CORRUPT: [&SqlState; 2] = [&SqlState::DATA_CORRUPTED, &SqlState::INDEX_CORRUPTED];
    match error.code() {
        Some(code) if *code == SqlState::DISK_FULL => StoreError::Full(error.into()),
        Some(code) if CORRUPT.contains(&code) => StoreError::Corrupt(error.into()),
        Some(code) if MISSING.contains(&code) || *code == SqlState::UNDEFINED_COLUMN => {
            StoreError::Unavailable(Box::new(NotMigrated(error)))
        }
        _ => StoreError::Unavailable(error.into()),
    }
}

/// Raised by the schema's functions when the caller's version is too old: see `sql/common.sql`.
const NEWER: &str = "TE001";

/// The disk is full, or the server is read-only; reads still work.
const CANNOT_WRITE: [&SqlState; 2] = [&SqlState::DISK_FULL, &SqlState::READ_ONLY_SQL_TRANSACTION];

/// The schema is missing or too old.
const MISSING: [&SqlState; 3] =
    [&SqlState::UNDEFINED_FUNCTION, &SqlState::UNDEFINED_TABLE, &SqlState::INVALID_SCHEMA_NAME];

fn is_fatal(refusal: &DbError) -> bool {
    matches!(refusal.parsed_severity(), Some(Severity::Fatal | Severity::Panic))
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotSent(source) | Self::NoResponse(source) | Self::Malformed(source) => ErrorChain(&**source).fmt(f),
            Self::Refused(error) => ErrorChain(error).fmt(f),
            Self::NewerFormat { stored, denied } => {
                write!(f, "the schema has version {stored}, which version {VERSION} may not {denied}")
            }
        }
    }
}

/// An error with its sources, for logs: the driver's own text says no more than that the server refused.
pub(super) struct ErrorChain<'a>(pub(super) &'a (dyn Error + 'static));

impl fmt::Display for ErrorChain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut below = self.0.source();
        while let Some(error) = below {
            write!(f, ": {error}")?;
            below = error.source();
        }
        Ok(())
    }
}

/// A wait that timed out.
#[derive(Debug)]
pub(super) struct TimedOut(pub(super) &'static str);

impl fmt::Display for TimedOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PostgreSQL took too long to {}", self.0)
    }
}

impl Error for TimedOut {}

/// The schema is missing or too old.
#[derive(Debug)]
struct NotMigrated(tokio_postgres::Error);

impl fmt::Display for NotMigrated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the event store's schema is missing or out of date; run PostgresStore::migrate")
    }
}

impl Error for NotMigrated {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.0)
    }
}
