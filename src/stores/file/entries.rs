//! Finds and inserts keys.

use rusqlite::{Connection, OptionalExtension as _};

use super::{channel_row::ChannelRow, columns::read_u64, commit_error::OperationError};
use crate::{
    cursor::Cursor,
    event::EventKey,
    store::{Receipt, kit::Known},
};

/// The append of a key, if it happened at `since` or later.
pub(super) fn find_key(
    db: &Connection,
    channel_row: &ChannelRow,
    key: &EventKey,
    since: u64,
) -> Result<Option<Known>, OperationError> {
    let sql = "SELECT seq, tag, time, print FROM keys WHERE channel = ?1 AND key = ?2 AND came >= ?3";
    let epoch = channel_row.log.record.head.cursor.epoch;
    let found = db.prepare_cached(sql)?.query_row((channel_row.id, key.as_str(), since as i64), |row| {
        let cursor = Cursor { epoch, seq: read_u64(row, 0)?, tag: row.get(1)? };
        let receipt = Receipt { cursor, time: read_u64(row, 2)?, duplicate: true };
        Ok(Known { receipt, print: row.get::<_, Option<i64>>(3)?.map(|print| print as u64) })
    });
    Ok(found.optional()?)
}

/// Remembers a key that was appended at `stamp`.
pub(super) fn insert_key(
    db: &Connection,
    id: i64,
    key: &EventKey,
    known: Known,
    stamp: u64,
) -> Result<(), OperationError> {
    // Replaces a key that has expired but is still stored.
    let sql =
        "INSERT OR REPLACE INTO keys (channel, key, seq, tag, time, came, print) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
    let Receipt { cursor: Cursor { seq, tag, .. }, time, .. } = known.receipt;
    let print = known.print.map(|print| print as i64);
    db.prepare_cached(sql)?.execute((id, key.as_str(), seq as i64, tag, time as i64, stamp as i64, print))?;
    Ok(())
}
