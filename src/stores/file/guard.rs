//! Savepoints: work within a transaction whose failure costs nobody else of it anything.

use rusqlite::Connection;

use super::transaction::OperationError;

/// What became of guarded work that failed.
pub(super) enum Undone {
    /// It alone is undone, and the transaction goes on.
    Alone(OperationError),
    /// The database has rolled the whole transaction back.
    All(OperationError),
}

/// Does `work` whole or not at all.
pub(super) fn guarded<T>(db: &Connection, work: impl FnOnce() -> Result<T, OperationError>) -> Result<T, Undone> {
    let execute = |sql| db.prepare_cached(sql)?.execute([]);
    execute("SAVEPOINT guarded").map_err(|error| undone(db, error.into()))?;
    match work() {
        Ok(done) => match execute("RELEASE guarded") {
            Ok(_) => Ok(done),
            Err(error) => Err(undone(db, error.into())),
        },
        Err(error) => Err(undone(db, error)),
    }
}

fn undone(db: &Connection, error: OperationError) -> Undone {
    // Without a transaction there is nothing left to undo; a savepoint that cannot be undone takes all with it.
    let is_lost = db.is_autocommit() || db.execute_batch("ROLLBACK TO guarded; RELEASE guarded;").is_err();
    if is_lost { Undone::All(error) } else { Undone::Alone(error) }
}
