//! The retention that all processes with the file open share: of each setting, the largest applies. Each distinct
//! retention has a row, whose time a process with that retention updates regularly.

use std::cell::OnceCell;

use rusqlite::{Connection, ErrorCode, Transaction, TransactionBehavior};

use super::{columns::read_u64, error::from_sql, format};
use crate::store::{StoreError, kit::Keep};

/// The shared retention, as last read.
pub(super) struct SharedRetention {
    own: Keep,
    /// The largest of each setting.
    pub(super) keep: Keep,
    /// When a process with the same retention as this one last announced it.
    announced: Option<u64>,
    /// When the first row of another retention expires, unless it is renewed.
    next_expiry: u64,
}

impl SharedRetention {
    /// Before anything is read: only this process's retention applies.
    pub(super) fn new(own: Keep) -> Self {
        Self { own, keep: own, announced: None, next_expiry: u64::MAX }
    }

    /// Reads the rows within a transaction. If they are damaged, only this process's own retention applies, and reads
    /// and writes continue.
    pub(super) fn load(db: &Connection, own: &Keep, now: u64) -> Result<Self, StoreError> {
        let mut shared = Self::new(*own);
        let Err(error) = shared.read_rows(db, now) else { return Ok(shared) };
        // The table does not exist yet.
        if error.sqlite_error_code() == Some(ErrorCode::Unknown) {
            return Ok(shared);
        }
        match from_sql(error) {
            StoreError::Corrupt(_) => Ok(shared),
            error => Err(error),
        }
    }

    /// Reads the rows again, if they may have changed or expired.
    pub(super) fn refresh(&mut self, db: &Connection, now: u64, other_commits: OtherCommits) -> Result<(), StoreError> {
        if other_commits == OtherCommits::Possible || now >= self.next_expiry {
            *self = Self::load(db, &self.own, now)?;
        }
        Ok(())
    }

    fn read_rows(&mut self, db: &Connection, now: u64) -> rusqlite::Result<()> {
        let sql = "SELECT events, bytes, age, forget_after, key_window, said FROM users";
        let mut statement = db.prepare_cached(sql)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let number = |column| read_u64(row, column);
            let keep = Keep::from_numbers([number(0)?, number(1)?, number(2)?, number(3)?, number(4)?]);
            let announced = read_u64(row, 5)?;
            if keep == self.own {
                self.announced = Some(announced);
            } else if now.saturating_sub(announced) <= VALID_FOR {
                self.keep = self.keep.largest(&keep);
                self.next_expiry = self.next_expiry.min(announced.saturating_add(VALID_FOR + 1));
            }
        }
        Ok(())
    }

    /// When this process has to announce its retention, or a row expires.
    pub(super) fn due(&self) -> u64 {
        self.announce_due().min(self.next_expiry)
    }

    fn announce_due(&self) -> u64 {
        self.announced.map_or(0, |announced| announced.saturating_add(ANNOUNCE_EVERY))
    }

    /// Announces this process's retention, unless that was done recently.
    pub(super) fn announce(&mut self, db: &Connection, now: u64) -> rusqlite::Result<()> {
        if now < self.announce_due() {
            return Ok(());
        }
        db.execute_batch(TABLE)?;
        db.execute("DELETE FROM users WHERE said < ?1", [now.saturating_sub(DELETE_AFTER) as i64])?;
        let [events, bytes, age, forget_after, key_window] = self.own.to_numbers();
        let row = [events, bytes, age, forget_after, key_window, now].map(|number| number as i64);
        db.execute("INSERT OR REPLACE INTO users VALUES (?1, ?2, ?3, ?4, ?5, ?6)", row)?;
        self.announced = Some(now);
        Ok(())
    }
}

/// The shared retention in the snapshot of a read. It is read only if something has expired by this process's own
/// retention.
pub(super) struct SnapshotRetention<'a> {
    pub(super) db: &'a Connection,
    own: &'a Keep,
    pub(super) now: u64,
    largest: OnceCell<Keep>,
}

impl<'a> SnapshotRetention<'a> {
    pub(super) fn new(db: &'a Connection, own: &'a Keep, now: u64) -> Self {
        Self { db, own, now, largest: OnceCell::new() }
    }

    /// Whether something has expired by the retention of all processes.
    pub(super) fn is_expired(&self, by: impl Fn(&Keep) -> rusqlite::Result<bool>) -> Result<bool, StoreError> {
        Ok(by(self.own).map_err(from_sql)? && by(self.largest()?).map_err(from_sql)?)
    }

    /// The largest of each setting.
    pub(super) fn largest(&self) -> Result<&Keep, StoreError> {
        if let Some(largest) = self.largest.get() {
            return Ok(largest);
        }
        let largest = SharedRetention::load(self.db, self.own, self.now)?.keep;
        Ok(self.largest.get_or_init(|| largest))
    }
}

/// Announces the retention of a process that opens the file, before it reads or writes. The caller holds the lock file.
pub(super) fn announce_on_open(db: &Connection, own: &Keep, now: u64) -> Result<(), StoreError> {
    if now < SharedRetention::load(db, own, now)?.due() {
        return Ok(());
    }
    let transaction = Transaction::new_unchecked(db, TransactionBehavior::Immediate).map_err(from_sql)?;
    format::check_write(db)?;
    SharedRetention::load(db, own, now)?.announce(db, now).map_err(from_sql)?;
    transaction.commit().map_err(from_sql)
}

/// Whether other connections have committed since the last transaction here.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum OtherCommits {
    Possible,
    None,
}

/// Not one of the migrations, so that it is also created in files that already have the newest version.
const TABLE: &str = "
    CREATE TABLE IF NOT EXISTS users (
        events INTEGER NOT NULL,
        bytes INTEGER NOT NULL,
        age INTEGER NOT NULL,
        forget_after INTEGER NOT NULL,
        key_window INTEGER NOT NULL,
        said INTEGER NOT NULL,
        PRIMARY KEY (events, bytes, age, forget_after, key_window)
    ) STRICT, WITHOUT ROWID;
";

/// How long a process's retention applies after it was last announced, in milliseconds.
const VALID_FOR: u64 = 5 * 60 * 1000;

/// How often a process announces its retention, in milliseconds.
const ANNOUNCE_EVERY: u64 = VALID_FOR / 4;

/// After how long a row is deleted, in milliseconds: much later than it expires, since the clocks of processes may
/// differ.
const DELETE_AFTER: u64 = 24 * 60 * 60 * 1000;
