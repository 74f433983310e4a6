//! What went wrong with a call, and what it means for the caller: whether anything can have happened.

use std::{error::Error, fmt};

use tokio_postgres::error::{DbError, Severity, SqlState};

use crate::store::{Source, StoreError};

/// How a call failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// It was never sent.
    NotSent(Source),
    /// The server refused it; nothing was changed.
    Refused(tokio_postgres::Error),
    /// It was sent, and the answer is missing.
    Lost(Source),
    /// The answer is not what this version understands.
    Strange(Source),
}

impl Failure {
    /// Sorts an error of a statement that was sent. A connection that was ended by the server in the middle of a statement
    /// says so with a fatal error, which is no word about the statement.
    pub(super) fn of_sent(error: tokio_postgres::Error) -> Self {
        match error.as_db_error() {
            Some(refusal) if !is_fatal(refusal) => Self::Refused(error),
            _ => Self::Lost(error.into()),
        }
    }

    /// Whether the same call can succeed at once: a deadlock, or another transaction that came first.
    pub(super) fn is_collision(&self) -> bool {
        const COLLISIONS: [&SqlState; 2] = [&SqlState::T_R_SERIALIZATION_FAILURE, &SqlState::T_R_DEADLOCK_DETECTED];
        self.code().is_some_and(|code| COLLISIONS.contains(&code))
    }

    /// Whether it may be the notification that was refused: the role may not notify, or the server's queue is full.
    pub(super) fn can_be_of_notify(&self) -> bool {
        const REFUSALS: [&SqlState; 2] = [&SqlState::INSUFFICIENT_PRIVILEGE, &SqlState::PROGRAM_LIMIT_EXCEEDED];
        self.code().is_some_and(|code| REFUSALS.contains(&code))
    }

    /// Whether the connection is of no further use: it leads to a standby, or its prepared statements are not known.
    pub(super) fn spoils_connection(&self) -> bool {
        const SPOILT: [&SqlState; 3] = [
            &SqlState::READ_ONLY_SQL_TRANSACTION,
            &SqlState::INVALID_SQL_STATEMENT_NAME,
            &SqlState::FEATURE_NOT_SUPPORTED,
        ];
        !matches!(self, Self::Refused(_)) || self.code().is_some_and(|code| SPOILT.contains(&code))
    }

    /// Whether the connection, and not the statement, is what failed.
    pub(super) fn is_of_connection(&self) -> bool {
        matches!(self, Self::NotSent(_) | Self::Lost(_))
    }

    /// Whether its connection was cut in the middle, and another one may do.
    pub(super) fn is_of_cut(&self) -> bool {
        matches!(self, Self::Lost(source) if !source.is::<TooLong>())
    }

    /// Whether other calls will fail in the same way: no connection, no answer, no schema, or nothing to write to.
    pub(super) fn is_of_database(&self) -> bool {
        let of_all = |code: &SqlState| MISSING.contains(&code) || *code == SqlState::READ_ONLY_SQL_TRANSACTION;
        matches!(self, Self::NotSent(_) | Self::Lost(_)) && !self.is_of_cut() || self.code().is_some_and(of_all)
    }

    fn code(&self) -> Option<&SqlState> {
        match self {
            Self::Refused(error) => error.code(),
            _ => None,
        }
    }

    /// For the caller of something that changes nothing.
    pub(super) fn of_read(self) -> StoreError {
        match self {
            Self::Lost(source) => StoreError::Unavailable(source),
            other => other.of_write(),
        }
    }

    /// For the caller of something that may have changed something.
    pub(super) fn of_write(self) -> StoreError {
        match self {
            Self::NotSent(source) => StoreError::Unavailable(source),
            Self::Lost(source) => StoreError::Unknown(source),
            Self::Strange(source) => StoreError::Corrupt(source),
            Self::Refused(error) => refused(error),
        }
    }
}

fn refused(error: tokio_postgres::Error) -> StoreError {
    const CORRUPT: [&SqlState; 2] = [&SqlState::DATA_CORRUPTED, &SqlState::INDEX_CORRUPTED];
    match error.code() {
        Some(code) if *code == SqlState::DISK_FULL => StoreError::Full(error.into()),
        Some(code) if CORRUPT.contains(&code) => StoreError::Corrupt(error.into()),
        Some(code) if MISSING.contains(&code) => StoreError::Unavailable(Box::new(NotMigrated(error))),
        _ => StoreError::Unavailable(error.into()),
    }
}

/// The schema is not there, or is an older one.
const MISSING: [&SqlState; 3] =
    [&SqlState::UNDEFINED_FUNCTION, &SqlState::UNDEFINED_TABLE, &SqlState::INVALID_SCHEMA_NAME];

fn is_fatal(refusal: &DbError) -> bool {
    matches!(refusal.parsed_severity(), Some(Severity::Fatal | Severity::Panic))
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotSent(source) | Self::Lost(source) | Self::Strange(source) => source.fmt(f),
            Self::Refused(error) => error.fmt(f),
        }
    }
}

/// A wait that came to its end.
#[derive(Debug)]
pub(super) struct TooLong(pub(super) &'static str);

impl fmt::Display for TooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PostgreSQL took too long to {}", self.0)
    }
}

impl Error for TooLong {}

/// The schema is not there, or is an older one.
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
