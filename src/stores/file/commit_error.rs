//! Why a transaction was not committed, and whose work it was that failed.

use super::queue::Reply;
use crate::store::StoreError;

/// What became of each request of a transaction.
pub(super) type RequestResults = Vec<Result<Reply, StoreError>>;

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
