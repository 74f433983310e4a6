//! The version of the file's tables, and who may use them: looked at in each transaction, for another process may raise it
//! while this one runs.
//!
//! # Upgrades
//! A process that opens an older file brings it up in one transaction, in which it also writes the new version and who may
//! read and write that. From that commit on, processes of older versions refuse: those that know a [`Format`] with
//! [`StoreError::NewerFormat`], the older ones because a table that they need has another name. None has written in between,
//! and none reads what it would misread.

use rusqlite::Connection;

use super::error::from_sql;
use crate::store::{Format, StoreError};

/// What this version of the crate writes.
pub(super) const FORMAT: Format = Format::new(SUPPORTED);

/// The newest version that it knows.
pub(super) const SUPPORTED: u32 = 3;

/// Fails when the file may not be read by this version. Within the transaction that reads.
pub(super) fn check_read(db: &Connection) -> Result<(), StoreError> {
    newer(db)?.map_or(Ok(()), |format| format.may_read(SUPPORTED))
}

/// Fails when the file may not be written by this version. Within the transaction that writes.
pub(super) fn check_write(db: &Connection) -> Result<(), StoreError> {
    newer(db)?.map_or(Ok(()), |format| format.may_write(SUPPORTED))
}

/// The file's format, when it is newer than what is known.
fn newer(db: &Connection) -> Result<Option<Format>, StoreError> {
    // In the header of the file, so that it costs no page.
    let mut version = db.prepare_cached("PRAGMA user_version").map_err(from_sql)?;
    let version: i64 = version.query_row([], |row| row.get(0)).map_err(from_sql)?;
    if version <= i64::from(SUPPORTED) {
        return Ok(None);
    }
    stored(db, version as u32).map(Some)
}

/// The format of a newer file; one that says nothing of who may use it is its own version's.
pub(super) fn stored(db: &Connection, version: u32) -> Result<Format, StoreError> {
    let sql = "SELECT version || ' ' || oldest_reader || ' ' || oldest_writer FROM format";
    let text: rusqlite::Result<String> = db.query_row(sql, [], |row| row.get(0));
    match text {
        Ok(text) => {
            let format = text.parse().unwrap_or(Format::new(version));
            Ok(if format.version() == version { format } else { Format::new(version) })
        }
        // It has no such table, or it is not as we know it.
        Err(error) if error.sqlite_error_code() == Some(rusqlite::ErrorCode::Unknown) => Ok(Format::new(version)),
        Err(error) => Err(from_sql(error)),
    }
}
