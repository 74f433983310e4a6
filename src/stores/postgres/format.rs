//! The version of the schema, and what it allows this version to do. It is stored in the place's row, which every
//! statement checks; only the evaluation is here.

use tokio_postgres::Row;

use crate::store::{Format, Source, StoreError, Use};

/// What this version may not do with a schema of that format, if anything.
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

/// The version of the schema that this version of the crate creates: see [`Format`].
pub(super) const VERSION: u32 = 3;
