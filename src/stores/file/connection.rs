//! How connections to the database are set up.

use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use super::{
    error::{OpenError, OpenErrorKind},
    options::Durability,
    paths::Paths,
    schema,
};

/// Opens the database for the writer; makes or upgrades it. The caller holds the write lock.
pub(super) fn open_writer(
    paths: &Paths,
    durability: Durability,
    busy_timeout: Duration,
) -> Result<Connection, OpenError> {
    let failed = |error| OpenError::sql(&paths.db, error);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(&paths.db, flags).map_err(failed)?;
    connection.busy_timeout(busy_timeout).map_err(failed)?;
    // Looked at before anything is written: it may be somebody else's.
    let version = schema::version(&connection, paths)?;
    if version == 0 {
        schema::prepare(&connection).map_err(failed)?;
    }
    let mode: String = connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0)).map_err(failed)?;
    if !mode.eq_ignore_ascii_case("wal") {
        let why = format!("its journal mode stays {mode}; the log needs shared memory");
        return Err(OpenError::new(&paths.db, OpenErrorKind::Io, why));
    }
    set_up_writer(&connection, durability).map_err(failed)?;
    schema::upgrade(&mut connection, version).map_err(failed)?;
    Ok(connection)
}

/// Opens the database for reads.
pub(super) fn open_reader(paths: &Paths, busy_timeout: Duration) -> rusqlite::Result<Connection> {
    // A reader of a log writes to the shared memory, so it cannot be opened read-only.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(&paths.db, flags)?;
    connection.busy_timeout(busy_timeout)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    connection.execute_batch("PRAGMA query_only = ON; PRAGMA mmap_size = 0;")?;
    Ok(connection)
}

/// Opens the database for the writer once more, for what the first connection remembers of the file may be wrong.
pub(super) fn reopen_writer(
    paths: &Paths,
    durability: Durability,
    busy_timeout: Duration,
) -> rusqlite::Result<Connection> {
    let connection = open_checkpointer(paths, durability)?;
    connection.busy_timeout(busy_timeout)?;
    Ok(connection)
}

/// Opens the database for checkpoints beside the writer.
pub(super) fn open_checkpointer(paths: &Paths, durability: Durability) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(&paths.db, flags)?;
    set_up_writer(&connection, durability)?;
    Ok(connection)
}

fn set_up_writer(connection: &Connection, durability: Durability) -> rusqlite::Result<()> {
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    // The log is synced outside the commits (see `promise`), here only before a checkpoint copies it. Checkpoints are our own business (see `log`): beside the commits, not within them. Mapped memory would turn a disk
    // error into the end of the process.
    connection.execute_batch(&format!(
        "PRAGMA synchronous = NORMAL;
         PRAGMA fullfsync = {};
         PRAGMA mmap_size = 0;
         PRAGMA journal_size_limit = {LARGEST_IDLE_LOG};
         PRAGMA wal_autocheckpoint = 0;",
        u8::from(durability == Durability::Power),
    ))
}

/// To so many bytes the log is cut when it begins anew.
const LARGEST_IDLE_LOG: u64 = 8 << 20;

const STATEMENTS: usize = 64;
