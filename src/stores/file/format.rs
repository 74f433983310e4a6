//! The version of the file's tables, and which versions of this crate may use them. Checked in each transaction, since
//! another process may upgrade the file while this one runs.
//!
//! # Upgrades
//! A process that opens an older file upgrades it in one transaction, which also stores the new [`Format`]. From that
//! commit on, processes of older versions fail: with [`StoreError::NewerFormat`] if they know formats, otherwise
//! because a table that they need was renamed. So none of them writes to the new tables, and none misreads them.

use rusqlite::Connection;

use super::error::from_sql;
use crate::store::{Format, StoreError};

/// The format that this version of the crate writes.
pub(super) const FORMAT: Format = Format::new(SUPPORTED);

/// The newest version that this version of the crate knows.
pub(super) const SUPPORTED: u32 = 3;

/// Fails if this version may not read the file. Called within the transaction that reads.
pub(super) fn check_read(db: &Connection) -> Result<(), StoreError> {
    newer(db)?.map_or(Ok(()), |format| format.may_read(SUPPORTED))
}

/// Fails if this version may not write the file. Called within the transaction that writes.
pub(super) fn check_write(db: &Connection) -> Result<(), StoreError> {
    newer(db)?.map_or(Ok(()), |format| format.may_write(SUPPORTED))
}

/// The file's format, if it is newer than [`SUPPORTED`].
fn newer(db: &Connection) -> Result<Option<Format>, StoreError> {
    // Stored in the header of the file, so this reads no page.
    let mut version = db.prepare_cached("PRAGMA user_version").map_err(from_sql)?;
    let version: i64 = version.query_row([], |row| row.get(0)).map_err(from_sql)?;
    if version <= i64::from(SUPPORTED) {
        return Ok(None);
    }
    stored(db, version as u32).map(Some)
}

/// The format of a newer file. If it does not say which versions may use it, only its own may.
pub(super) fn stored(db: &Connection, version: u32) -> Result<Format, StoreError> {
    let sql = "SELECT version || ' ' || oldest_reader || ' ' || oldest_writer FROM format";
    let text: rusqlite::Result<String> = db.query_row(sql, [], |row| row.get(0));
    match text {
        Ok(text) => {
            let format = text.parse().unwrap_or(Format::new(version));
            Ok(if format.version() == version { format } else { Format::new(version) })
        }
        // There is no such table, or it has other columns.
        Err(error) if error.sqlite_error_code() == Some(rusqlite::ErrorCode::Unknown) => Ok(Format::new(version)),
        Err(error) => Err(from_sql(error)),
    }
}
