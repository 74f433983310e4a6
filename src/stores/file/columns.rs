//! Columns that hold unsigned numbers.

use rusqlite::Row;

/// SQLite has signed numbers only: reads the one with the same bits.
pub(super) fn read_u64(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    row.get::<_, i64>(column).map(|number| number as u64)
}
