//! The database: its tables and their versions.
//!
//! # Tables
//! `origin` has one row: the place's epoch, and the least floor of any name; `floors` has the floors of buckets of
//! names that have risen above it. `format` says which versions may use the file, and `users` the retention of the
//! processes that do. `channels` has a row per record, the only row that an append updates. Its ids are never reused,
//! so that rows which a removed channel left behind can be deleted later (`garbage`). `entries` are in the order in
//! which pages read them. Unsigned 64-bit numbers are stored as the signed numbers with the same bits.

use rusqlite::{Connection, OptionalExtension as _};

use super::{
    error::{from_open_sql, open_error},
    format::{self, FORMAT, SUPPORTED},
    paths::Paths,
};
use crate::store::{OpenError, OpenErrorKind, Source, StoreError, resume};

/// The version of the file's tables, or 0 if the file is empty.
pub(super) fn version(connection: &Connection, paths: &Paths) -> Result<usize, OpenError> {
    let failed = |error| from_open_sql(&paths.db, error);
    let number = |pragma| connection.query_row(pragma, [], |row| row.get::<_, i32>(0)).map_err(failed);
    let (application, version) = (number("PRAGMA application_id")?, number("PRAGMA user_version")?);
    let refused = |kind, why: Source| Err(open_error(&paths.db, kind, why));
    if application != APPLICATION {
        let table = connection.query_row("SELECT name FROM sqlite_schema LIMIT 1", [], |row| row.get::<_, String>(0));
        return match table.optional().map_err(failed)? {
            // Created by a process that ended before it created the tables, or by `touch`.
            None if application == 0 && version == 0 => Ok(0),
            None => refused(OpenErrorKind::Foreign, format!("its application id is {application:#x}").into()),
            Some(table) => refused(OpenErrorKind::Foreign, format!("it is a database with a table `{table}`").into()),
        };
    }
    match usize::try_from(version) {
        Ok(version) if (1..=MIGRATIONS.len()).contains(&version) => Ok(version),
        Ok(newer) if newer > MIGRATIONS.len() => {
            let stored = format::stored(connection, newer as u32);
            // A version that may only read opens it too; its writes are refused later.
            match stored.and_then(|format| format.may_read(SUPPORTED)) {
                Ok(()) => Ok(newer),
                Err(StoreError::NewerFormat { stored, supported, .. }) => Err(OpenError::new(
                    paths.db.display().to_string(),
                    OpenErrorKind::NewerFormat { stored, supported },
                )),
                Err(StoreError::Corrupt(source)) => refused(OpenErrorKind::Corrupt, source),
                Err(error) => refused(OpenErrorKind::Io, error.into()),
            }
        }
        _ => refused(OpenErrorKind::Corrupt, format!("its version is {version}").into()),
    }
}

/// Sets what cannot be changed once the first page is written.
pub(super) fn prepare(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch("PRAGMA page_size = 4096; PRAGMA auto_vacuum = INCREMENTAL;")
}

/// Upgrades the tables from `version` to the newest, in one transaction: a process that ends within it leaves them as
/// they were.
pub(super) fn upgrade(connection: &mut Connection, version: usize) -> rusqlite::Result<()> {
    migrate(connection, version, MIGRATIONS)
}

fn migrate(connection: &mut Connection, version: usize, migrations: &[&str]) -> rusqlite::Result<()> {
    if version >= migrations.len() {
        return Ok(());
    }
    let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    for migration in migrations.iter().skip(version) {
        transaction.execute_batch(migration)?;
    }
    if version == 0 {
        transaction
            .execute("INSERT INTO origin (id, epoch, floor) VALUES (0, ?1, 0)", [resume::fresh_epoch() as i64])?;
    }
    write_format(&transaction)?;
    transaction.pragma_update(None, "application_id", APPLICATION)?;
    transaction.pragma_update(None, "user_version", migrations.len() as i32)?;
    transaction.commit()
}

fn write_format(db: &Connection) -> rusqlite::Result<()> {
    let text = FORMAT.to_string();
    let mut numbers = text.split(' ').map(|number| number.parse().unwrap_or(i64::MAX));
    let [version, reader, writer] = std::array::from_fn(|_| numbers.next().unwrap_or(i64::MAX));
    let sql = "INSERT OR REPLACE INTO format (id, version, oldest_reader, oldest_writer) VALUES (0, ?1, ?2, ?3)";
    db.execute(sql, (version, reader, writer)).map(|_| ())
}

/// The step from each version to the next. Published steps never change.
const MIGRATIONS: &[&str] = &[
    "
    CREATE TABLE place (
        id INTEGER PRIMARY KEY CHECK (id = 0),
        epoch INTEGER NOT NULL,
        floor INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE channels (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        name TEXT NOT NULL UNIQUE,
        epoch INTEGER NOT NULL,
        head_seq INTEGER NOT NULL,
        head_tag INTEGER NOT NULL,
        closed INTEGER NOT NULL,
        earliest_seq INTEGER NOT NULL,
        earliest_tag INTEGER NOT NULL,
        dropped_time INTEGER,
        bytes INTEGER NOT NULL,
        newest INTEGER NOT NULL,
        oldest INTEGER NOT NULL,
        empty_since INTEGER NOT NULL,
        due INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX channels_due ON channels (due);
    CREATE TABLE entries (
        channel INTEGER NOT NULL,
        seq INTEGER NOT NULL,
        tag INTEGER NOT NULL,
        prev_tag INTEGER NOT NULL,
        appended INTEGER NOT NULL,
        time INTEGER NOT NULL,
        kind INTEGER NOT NULL,
        name TEXT,
        data BLOB NOT NULL,
        sum INTEGER NOT NULL,
        PRIMARY KEY (channel, seq)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE keys (
        channel INTEGER NOT NULL,
        key TEXT NOT NULL,
        seq INTEGER NOT NULL,
        tag INTEGER NOT NULL,
        time INTEGER NOT NULL,
        came INTEGER NOT NULL,
        PRIMARY KEY (channel, key)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX keys_came ON keys (came);
    CREATE TABLE garbage (channel INTEGER PRIMARY KEY) STRICT;
",
    "
    ALTER TABLE keys ADD print INTEGER;
",
    // The table is renamed so that running processes of older versions can no longer read or write: they would raise
    // one floor for all names.
    "
    ALTER TABLE place RENAME TO origin;
    CREATE TABLE floors (
        bucket INTEGER PRIMARY KEY,
        floor INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE format (
        id INTEGER PRIMARY KEY CHECK (id = 0),
        version INTEGER NOT NULL,
        oldest_reader INTEGER NOT NULL,
        oldest_writer INTEGER NOT NULL
    ) STRICT;
",
];

/// `TwEv`, in the header of the file: identifies it to `file(1)` and to this crate.
const APPLICATION: i32 = 0x5477_4576;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn older_tables_are_upgraded_step_by_step() {
        let mut connection = Connection::open_in_memory().unwrap();
        migrate(&mut connection, 0, MIGRATIONS).unwrap();
        connection.execute("UPDATE origin SET epoch = 42", []).unwrap();
        let more = ["ALTER TABLE origin ADD b INTEGER; UPDATE origin SET b = 1;", "UPDATE origin SET b = b + 1;"];
        let newer = [MIGRATIONS, &more].concat();
        let (from, to) = (MIGRATIONS.len(), newer.len());
        for version in from..=to {
            migrate(&mut connection, version, &newer[..(version + 1).min(to)]).unwrap();
        }
        let row = connection.query_row("SELECT epoch, b FROM origin", [], |row| Ok((row.get(0)?, row.get(1)?)));
        assert_eq!(row.unwrap(), (42_i64, 2_i64));
        let version: i32 = connection.query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap();
        assert_eq!(version as usize, to);
    }

    #[test]
    fn an_upgrade_that_fails_leaves_what_was_there() {
        let mut connection = Connection::open_in_memory().unwrap();
        migrate(&mut connection, 0, MIGRATIONS).unwrap();
        let broken = [MIGRATIONS, &["ALTER TABLE origin ADD b INTEGER;", "nonsense;"]].concat();
        assert!(migrate(&mut connection, MIGRATIONS.len(), &broken).is_err());
        let version: i32 = connection.query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap();
        assert_eq!(version as usize, MIGRATIONS.len());
        assert!(connection.prepare("SELECT b FROM origin").is_err());
    }
}
