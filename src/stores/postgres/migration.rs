//! Creating the schema, or upgrading it to this version.

use tokio_postgres::types::Type;

use super::{
    database::Database,
    error::CallError,
    format::{self, VERSION},
};
use crate::store::{Format, StoreError};

/// Upgrades the schema to this version. Of several nodes that do so at once, one does the work and the others wait.
pub(super) async fn migrate(database: &Database, keep: &[i64; 5]) -> Result<(), StoreError> {
    // A node without the right to create anything can use a schema that another role created.
    if let Some(format) = stored(database).await? {
        if format.version() >= VERSION {
            return format.may_write(VERSION);
        }
    }
    let encoding = database.read("select current_setting('server_encoding')", &[] as &[(_, Type)]).await;
    let encoding = encoding.map_err(CallError::into_read_error)?;
    match encoding.first().and_then(|row| row.try_get::<_, &str>(0).ok()) {
        Some("UTF8") => {
            let sql = &database.sql;
            let conditions = [&*sql.is_there, &*sql.is_current];
            database
                .migrate(&sql.migration_lock(), conditions, &sql.migration(keep))
                .await
                .map_err(CallError::into_write_error)
        }
        other => Err(StoreError::Unavailable(format!("the database's encoding is {other:?}; UTF8 is required").into())),
    }
}

/// The stored format; `None` when there is no schema, its version did not store one, or it cannot be read.
pub(super) async fn stored(database: &Database) -> Result<Option<Format>, StoreError> {
    match database.read(&database.sql.format, &[]).await {
        Ok(rows) => rows.first().map(|row| format::format(row, 0)).transpose().map_err(StoreError::Corrupt),
        Err(CallError::Refused(_)) => Ok(None),
        Err(error) => Err(error.into_read_error()),
    }
}
