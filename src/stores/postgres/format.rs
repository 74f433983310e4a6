//! Which version of the schema there is, and what it leaves to this one. It stands in the place's row, and every statement that
//! reads or writes looks at it: here is only what becomes of that.

use tokio_postgres::Row;

use crate::store::{Format, Source, StoreError, Use};

/// What keeps this version from using a schema, when that is its format.
pub(super) fn denied(format: Format) -> Option<(u32, Use)> {
    match (format.may_read(VERSION), format.may_write(VERSION)) {
        (Err(StoreError::NewerFormat { stored, denied, .. }), _)
        | (_, Err(StoreError::NewerFormat { stored, denied, .. })) => Some((stored, denied)),
        _ => None,
    }
}

pub(super) fn format(row: &Row, at: usize) -> Result<Format, Source> {
    let number = |at: usize| -> Result<u32, Source> { Ok(u32::try_from(row.try_get::<_, i32>(at)?)?) };
    let (version, reader, writer) = (number(at)?, number(at + 1)?, number(at + 2)?);
    Ok(Format::new(version).writable_from(writer).readable_from(reader))
}

/// Of the schema, as this version makes it: see [`Format`](crate::store::Format).
pub(super) const VERSION: u32 = 3;
