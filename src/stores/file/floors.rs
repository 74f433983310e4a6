//! How floors are read and written.

use rusqlite::{Connection, OptionalExtension as _};

use super::columns::read_u64;
use crate::{channel::Channel, store::floor};

/// The place's epoch, and the least floor of any name: versions before 3 had one floor for all.
pub(super) fn origin(db: &Connection) -> rusqlite::Result<(u64, u64)> {
    let mut origin = db.prepare_cached("SELECT epoch, floor FROM origin")?;
    origin.query_row([], |row| Ok((read_u64(row, 0)?, read_u64(row, 1)?)))
}

/// The floor of a bucket of names, without the least floor; 0 if it has not risen.
pub(super) fn of_bucket(db: &Connection, bucket: u16) -> rusqlite::Result<u64> {
    let mut floor = db.prepare_cached("SELECT floor FROM floors WHERE bucket = ?1")?;
    Ok(floor.query_row([bucket], |row| read_u64(row, 0)).optional()?.unwrap_or(0))
}

/// The place's epoch, and the floor of a channel.
pub(super) fn of_channel(db: &Connection, channel: &Channel) -> rusqlite::Result<(u64, u64)> {
    let (epoch, least) = origin(db)?;
    Ok((epoch, of_bucket(db, floor::bucket_of(channel))?.max(least)))
}

pub(super) fn write(db: &Connection, bucket: u16, floor: u64) -> rusqlite::Result<()> {
    let sql = "INSERT OR REPLACE INTO floors (bucket, floor) VALUES (?1, ?2)";
    db.prepare_cached(sql)?.execute((bucket, floor as i64)).map(|_| ())
}
