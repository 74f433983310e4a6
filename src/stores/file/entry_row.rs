//! How an entry's row is written and read back. Applies no rules, except to detect damage.

use rusqlite::{Connection, Row};

use super::{
    columns::read_u64,
    error::{corrupt, from_sql},
};
use crate::{
    channel::Channel,
    cursor::Cursor,
    event::{Data, EventName, MAX_TIME},
    store::{Entry, StoreError, checksum::Checksum},
};

/// The columns that [`read`] reads, in order.
pub(super) const ENTRY_COLUMNS: &str = "seq, tag, prev_tag, appended, time, kind, name, data, sum";

pub(super) fn insert(connection: &Connection, id: i64, entry: &Entry) -> rusqlite::Result<()> {
    let sql = "INSERT INTO entries (channel, seq, tag, prev_tag, appended, time, kind, name, data, sum)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)";
    let kind = kind_of(&entry.data);
    connection.prepare_cached(sql)?.execute((
        id,
        entry.cursor.seq as i64,
        entry.cursor.tag,
        entry.prev_tag,
        entry.appended as i64,
        entry.time as i64,
        kind,
        entry.name.as_ref().map(EventName::as_str),
        entry.data.as_shown().as_bytes(),
        checksum(id, entry, kind) as i64,
    ))?;
    Ok(())
}

/// Fails if the entry is not what was written.
pub(super) fn read(row: &Row<'_>, channel: &Channel, id: i64, epoch: u64) -> Result<Entry, StoreError> {
    let columns = || -> rusqlite::Result<_> {
        let cursor = Cursor { epoch, seq: read_u64(row, 0)?, tag: row.get(1)? };
        let (name, data) = (row.get::<_, Option<String>>(6)?, row.get_ref(7)?.as_blob()?);
        Ok((cursor, row.get(2)?, read_u64(row, 3)?, read_u64(row, 4)?, row.get(5)?, name, data, read_u64(row, 8)?))
    };
    let (cursor, prev_tag, appended, time, kind, name, data, expected) = columns().map_err(from_sql)?;
    let damaged = || corrupt(format!("entry {} of channel {id} is not what was stored", cursor.seq));
    let name = name.map(EventName::new).transpose().map_err(|_| damaged())?;
    let data = match kind {
        TEXT => Data::text_from_utf8(data).map_err(|_| damaged())?,
        JSON => Data::from_json(data).map_err(|_| damaged())?,
        _ => return Err(damaged()),
    };
    let entry = Entry { channel: channel.clone(), cursor, prev_tag, appended, time, name, data };
    if checksum(id, &entry, kind) != expected || time > MAX_TIME.max(appended) {
        return Err(damaged());
    }
    Ok(entry)
}

fn kind_of(data: &Data) -> i64 {
    if data.as_text().is_some() { TEXT } else { JSON }
}

/// Detects flipped bits within a row, which SQLite does not. Stored, so it never changes.
fn checksum(id: i64, entry: &Entry, kind: i64) -> u64 {
    let Cursor { seq, tag, epoch } = entry.cursor;
    let numbers = [id as u64, epoch, seq, u64::from(tag), u64::from(entry.prev_tag), entry.appended, entry.time];
    let checksum =
        numbers.iter().fold(Checksum::new(), |checksum, number| checksum.number(*number)).number(kind as u64);
    let name = entry.name.as_ref().map_or("", EventName::as_str);
    checksum.bytes(name.as_bytes()).bytes(entry.data.as_shown().as_bytes()).finish()
}

const TEXT: i64 = 0;
const JSON: i64 = 1;
