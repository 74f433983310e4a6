//! How connections to the database are set up.

use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use super::{
    error::{from_open_sql, open_error},
    options::Durability,
    paths::Paths,
    schema,
};
use crate::store::{OpenError, OpenErrorKind};

/// Opens the database for the writer; creates or upgrades it. The caller holds the lock file.
pub(super) fn open_writer(
    paths: &Paths,
    durability: Durability,
    busy_timeout: Duration,
) -> Result<Connection, OpenError> {
    let failed = |error| from_open_sql(&paths.db, error);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(&paths.db, flags).map_err(failed)?;
    connection.busy_timeout(busy_timeout).map_err(failed)?;
    // Before anything is written: the file may belong to another program.
    let version = schema::version(&connection, paths)?;
    if version == 0 {
        schema::prepare(&connection).map_err(failed)?;
    }
    let mode: String = connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0)).map_err(failed)?;
    if !mode.eq_ignore_ascii_case("wal") {
        let why = format!("its journal mode stays {mode}: WAL mode needs shared memory");
        return Err(open_error(&paths.db, OpenErrorKind::Io, why));
    }
    set_up_writer(&connection, durability).map_err(failed)?;
    schema::upgrade(&mut connection, version).map_err(failed)?;
    Ok(connection)
}

/// Opens the database for reads.
pub(super) fn open_reader(paths: &Paths, busy_timeout: Duration) -> rusqlite::Result<Connection> {
    // A reader in WAL mode writes to the shared memory, so it cannot be opened read-only.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(&paths.db, flags)?;
    connection.busy_timeout(busy_timeout)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    connection.execute_batch("PRAGMA query_only = ON; PRAGMA mmap_size = 0;")?;
    Ok(connection)
}

/// Opens the database for the writer again, since what the first connection has cached of the file may be wrong.
pub(super) fn reopen_writer(
    paths: &Paths,
    durability: Durability,
    busy_timeout: Duration,
) -> rusqlite::Result<Connection> {
    let connection = open_checkpointer(paths, durability)?;
    connection.busy_timeout(busy_timeout)?;
    Ok(connection)
}

/// Opens the database for checkpoints while the writer's connection is open.
pub(super) fn open_checkpointer(paths: &Paths, durability: Durability) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(&paths.db, flags)?;
    set_up_writer(&connection, durability)?;
    Ok(connection)
}

fn set_up_writer(connection: &Connection, durability: Durability) -> rusqlite::Result<()> {
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    // SQLite syncs the WAL only before a checkpoint: `durability` syncs it after commits, without a lock. Checkpoints
    // run between commits, not within them (see `wal`). With mapped memory a disk error would kill the process.
    connection.execute_batch(&format!(
        "PRAGMA synchronous = NORMAL;
         PRAGMA fullfsync = {};
         PRAGMA mmap_size = 0;
         PRAGMA journal_size_limit = {LARGEST_IDLE_WAL};
         PRAGMA wal_autocheckpoint = 0;",
        u8::from(durability == Durability::Power),
    ))
}

/// The bytes that the WAL is truncated to when it restarts.
const LARGEST_IDLE_WAL: u64 = 8 << 20;

/// Prepared statements cached per connection.
const STATEMENTS: usize = 64;
