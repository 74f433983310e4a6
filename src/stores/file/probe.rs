//! Trials of a file that failed: whether it can be read, and written to.

use std::{path::Path, time::Duration};

use rusqlite::{Connection, Transaction, TransactionBehavior};

use super::{connection, core::Core, error::from_sql, format};
use crate::store::StoreError;

/// Reads a little, over a connection that remembers nothing.
pub(super) fn read(core: &Core) -> Result<(), StoreError> {
    core.check()?;
    let db = connection::open_reader(&core.paths, Duration::ZERO).map_err(from_sql)?;
    format::check_read(&db)?;
    for sql in ["SELECT count(*) FROM origin", "SELECT count(*) FROM (SELECT 1 FROM channels LIMIT 1)"] {
        db.query_row(sql, [], |_| Ok(())).map_err(from_sql)?;
    }
    Ok(())
}

/// Commits a little that changes nothing, if there is room for more than that. The caller holds the lock.
pub(super) fn write(core: &Core, db: &Connection) -> Result<(), StoreError> {
    check_room(&core.paths.db)?;
    let transaction = Transaction::new_unchecked(db, TransactionBehavior::Immediate).map_err(from_sql)?;
    format::check_write(db)?;
    transaction.execute("UPDATE origin SET floor = floor", []).map_err(from_sql)?;
    transaction.commit().map_err(from_sql)
}

/// A disk with room for this little and no more would be full again with the next append.
#[cfg(unix)]
fn check_room(file: &Path) -> Result<(), StoreError> {
    let Ok(disk) = rustix::fs::statvfs(file) else { return Ok(()) };
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    if free < LEAST_ROOM { Err(StoreError::Full(format!("the disk has {free} bytes left").into())) } else { Ok(()) }
}

#[cfg(not(unix))]
fn check_room(_: &Path) -> Result<(), StoreError> {
    Ok(())
}

#[cfg(unix)]
const LEAST_ROOM: u64 = 256 << 10;
