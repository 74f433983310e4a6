//! Savepoints: work within a transaction whose failure costs nobody else of it anything.

use rusqlite::Connection;

use super::commit_error::OperationError;

/// What became of guarded work that failed.
pub(super) enum SavepointError {
    /// It alone is undone, and the transaction goes on.
    RolledBack(OperationError),
    /// The database has rolled the whole transaction back.
    TransactionLost(OperationError),
}

/// Does `work` whole or not at all.
pub(super) fn in_savepoint<T>(db: &Connection, work: impl FnOnce() -> Result<T, OperationError>) -> Result<T, SavepointError> {
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
    // Without a transaction there is nothing left to undo; a savepoint that cannot be undone takes all with it.
    let is_lost = db.is_autocommit() || db.execute_batch("ROLLBACK TO guarded; RELEASE guarded;").is_err();
    if is_lost { SavepointError::TransactionLost(error) } else { SavepointError::RolledBack(error) }
}
