//! Savepoints: work that can fail without failing the rest of its transaction.

use rusqlite::Connection;

use super::commit_error::OperationError;

/// What was rolled back after work has failed.
pub(super) enum SavepointError {
    /// That work alone; the transaction continues.
    RolledBack(OperationError),
    /// The whole transaction.
    TransactionLost(OperationError),
}

/// Does all of `work`, or none of it.
pub(super) fn in_savepoint<T>(
    db: &Connection,
    work: impl FnOnce() -> Result<T, OperationError>,
) -> Result<T, SavepointError> {
    let execute = |sql| db.prepare_cached(sql)?.execute([]);
    execute("SAVEPOINT guarded").map_err(|error| roll_back(db, error.into()))?;
    match work() {
        Ok(done) => match execute("RELEASE guarded") {
            Ok(_) => Ok(done),
            Err(error) => Err(roll_back(db, error.into())),
        },
        Err(error) => Err(roll_back(db, error)),
    }
}

fn roll_back(db: &Connection, error: OperationError) -> SavepointError {
    // In autocommit mode SQLite has rolled back the transaction; if the savepoint cannot be rolled back, the
    // transaction must be.
    let is_lost = db.is_autocommit() || db.execute_batch("ROLLBACK TO guarded; RELEASE guarded;").is_err();
    if is_lost { SavepointError::TransactionLost(error) } else { SavepointError::RolledBack(error) }
}
