//! Tests whether a file that failed can be read, and written, again.

use std::{path::Path, time::Duration};

use rusqlite::{Connection, Transaction, TransactionBehavior};

use super::{connection, core::Core, error::from_sql, format};
use crate::store::StoreError;

/// Reads a few rows over a new connection, which has cached nothing.
pub(super) fn read(core: &Core) -> Result<(), StoreError> {
    core.check()?;
    let db = connection::open_reader(&core.paths, Duration::ZERO).map_err(from_sql)?;
    format::check_read(&db)?;
    for sql in ["SELECT count(*) FROM origin", "SELECT count(*) FROM (SELECT 1 FROM channels LIMIT 1)"] {
        db.query_row(sql, [], |_| Ok(())).map_err(from_sql)?;
    }
    Ok(())
}

/// Commits a change of nothing, if the disk has space for more than that. The caller holds the lock file.
pub(super) fn write(core: &Core, db: &Connection) -> Result<(), StoreError> {
    check_disk_space(&core.paths.db)?;
    let transaction = Transaction::new_unchecked(db, TransactionBehavior::Immediate).map_err(from_sql)?;
    format::check_write(db)?;
    transaction.execute("UPDATE origin SET floor = floor", []).map_err(from_sql)?;
    transaction.commit().map_err(from_sql)
}

/// On a disk with space for little more than the probe, the next append would fail again.
#[cfg(unix)]
fn check_disk_space(file: &Path) -> Result<(), StoreError> {
    let Ok(disk) = rustix::fs::statvfs(file) else { return Ok(()) };
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    if free < MIN_FREE_BYTES { Err(StoreError::Full(format!("the disk has {free} bytes left").into())) } else { Ok(()) }
}

#[cfg(not(unix))]
fn check_disk_space(_: &Path) -> Result<(), StoreError> {
    Ok(())
}

#[cfg(unix)]
const MIN_FREE_BYTES: u64 = 256 << 10;
