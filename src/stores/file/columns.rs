//! Columns that hold numbers without a sign.

use rusqlite::Row;

/// A number of ours, from the column with its bits.
pub(super) fn read_u64(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    row.get::<_, i64>(column).map(|number| number as u64)
}
