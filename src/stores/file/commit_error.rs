//! Why an operation failed, or a transaction was not committed.

use super::error::from_sql;
use crate::store::StoreError;

pub(super) struct CommitError {
    pub(super) origin: ErrorOrigin,
    pub(super) error: StoreError,
}

/// What failed.
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
    /// Whether the transaction might succeed without one of its requests.
    pub(super) fn may_be_one_request(&self) -> bool {
        matches!((self.origin, &self.error), (_, StoreError::Full(_)) | (ErrorOrigin::Request, StoreError::Corrupt(_)))
    }
}

#[derive(Debug)]
pub(super) enum OperationError {
    /// By the contract: nothing was changed, and the transaction continues.
    Refused(StoreError),
    /// By the database: the transaction has to be rolled back.
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
            refused @ (StoreError::KeyReused { .. } | StoreError::Closed { .. } | StoreError::Conflict { .. }) => {
                Self::Refused(refused)
            }
            other => Self::Aborted(other),
        }
    }
}
