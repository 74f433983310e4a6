//! SQLite's checkpoints of the WAL.

use rusqlite::Connection;

#[derive(Clone, Copy)]
pub(super) enum CheckpointMode {
    /// Only counts frames.
    Inspect,
    /// Copies what it can without waiting.
    Passive,
    /// Copies everything, and truncates the WAL to no length.
    Truncate,
}

/// How many frames the WAL has, and how many of them are in the database file.
#[derive(Clone, Copy)]
pub(super) struct Frames {
    pub(super) total: u64,
    checkpointed: u64,
}

impl Frames {
    pub(super) fn pending(self) -> u64 {
        self.total.saturating_sub(self.checkpointed)
    }
}

pub(super) fn run(db: &Connection, mode: CheckpointMode) -> rusqlite::Result<Frames> {
    let sql = match mode {
        CheckpointMode::Inspect => "PRAGMA wal_checkpoint(NOOP)",
        CheckpointMode::Passive => "PRAGMA wal_checkpoint(PASSIVE)",
        CheckpointMode::Truncate => "PRAGMA wal_checkpoint(TRUNCATE)",
    };
    let mut statement = db.prepare_cached(sql)?;
    // Both are -1 if there is no WAL.
    let number = |row: &rusqlite::Row<'_>, column| row.get::<_, i64>(column).map(|number| number.max(0) as u64);
    statement.query_row([], |row| Ok(Frames { total: number(row, 1)?, checkpointed: number(row, 2)? }))
}
