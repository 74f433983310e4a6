//! Why a transaction was not committed, and whose work it was that failed.

use super::queue::Answer;
use crate::store::StoreError;

/// What became of each request of a transaction.
pub(super) type Answers = Vec<Result<Answer, StoreError>>;

/// Why a transaction was not committed.
pub(super) struct Fault {
    pub(super) origin: Origin,
    pub(super) error: StoreError,
}

/// Whose work failed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    Request,
    Janitor,
    Transaction,
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        Self { origin: Origin::Transaction, error }
    }
}

impl Fault {
    /// Whether it may be one request only that cannot be done.
    pub(super) fn is_one_requests(&self) -> bool {
        matches!((self.origin, &self.error), (_, StoreError::Full(_)) | (Origin::Request, StoreError::Corrupt(_)))
    }
}
