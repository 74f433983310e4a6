//! Why an operation was not done, or a transaction not committed.

use super::error::from_sql;
use crate::store::StoreError;

/// Why a transaction was not committed.
pub(super) struct CommitError {
    pub(super) origin: ErrorOrigin,
    pub(super) error: StoreError,
}

/// Whose work failed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum ErrorOrigin {
    Request,
    Janitor,
    Transaction,
}

impl From<StoreError> for CommitError {
    fn from(error: StoreError) -> Self {
        Self { origin: ErrorOrigin::Transaction, error }
    }
}

impl CommitError {
    /// Whether it may be one request only that cannot be done.
    pub(super) fn may_be_one_request(&self) -> bool {
        matches!((self.origin, &self.error), (_, StoreError::Full(_)) | (ErrorOrigin::Request, StoreError::Corrupt(_)))
    }
}

/// Why an operation was not done.
#[derive(Debug)]
pub(super) enum OperationError {
    /// By the contract; it has changed nothing, and others of the transaction may go on.
    Refused(StoreError),
    /// By the database; the transaction is lost.
    Aborted(StoreError),
}

impl From<rusqlite::Error> for OperationError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Aborted(from_sql(error))
    }
}

impl From<StoreError> for OperationError {
    fn from(error: StoreError) -> Self {
        match error {
            reused @ StoreError::KeyReused { .. } => Self::Refused(reused),
            other => Self::Aborted(other),
        }
    }
}
