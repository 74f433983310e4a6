//! A channel's row, and an entry's: how they are written and read back. Knows no rule but what damage looks like.

use rusqlite::{Connection, OptionalExtension as _, Row, Statement};

use super::{
    error::{corrupt, from_sql},
    checksum::Checksum,
    retention,
};
use crate::{
    channel::Channel,
    cursor::Cursor,
    event::{Data, EventName, MAX_TIME},
    store::{Entry, Head, Keep, StoreError, resume::Record},
};

/// A channel's row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ChannelRow {
    /// 0 until it is inserted.
    pub(super) id: i64,
    pub(super) record: Record,
    /// What the retained entries count, in bytes.
    pub(super) bytes: u64,
    /// The append stamp of the newest entry ever: the next one's is no less.
    pub(super) newest: u64,
    /// The append stamp of the oldest retained entry; meaningless when there is none.
    pub(super) oldest: u64,
    /// When the last entry went, or the record was made; meaningless while there are entries.
    pub(super) empty_since: u64,
    /// When the janitor looks at the channel next.
    pub(super) due: u64,
}

impl ChannelRow {
    /// An empty, open log that goes on above `start`.
    pub(super) fn new(start: Cursor, now: u64, due: u64) -> Self {
        let record = Record { head: Head { cursor: start, closed: false }, earliest: start, dropped_time: None };
        Self { id: 0, record, bytes: 0, newest: now, oldest: now, empty_since: now, due }
    }

    /// How many entries are retained: they are dense.
    pub(super) fn count(&self) -> u64 {
        self.record.head.cursor.seq.saturating_sub(self.record.earliest.seq)
    }

    /// When the janitor should look at the channel: when its oldest entry is too old, or its record has been without entries
    /// for long enough. No sooner, for each look is written down.
    pub(super) fn next_look(&self, keep: &Keep, now: u64) -> u64 {
        match self.count() {
            0 => {
                let forgotten = self.empty_since.saturating_add(keep.forget_after).saturating_add(1);
                // A key that is remembered holds it.
                if forgotten > now { forgotten } else { now.saturating_add(keep.key_window).saturating_add(1) }
            }
            _ => retention::too_old_at(keep, self.oldest),
        }
    }

    pub(super) fn load(connection: &Connection, channel: &Channel) -> Result<Option<Self>, StoreError> {
        let sql = format!("SELECT {CHANNEL_COLUMNS} FROM channels WHERE name = ?1");
        let mut statement = connection.prepare_cached(&sql).map_err(from_sql)?;
        statement
            .query_row([channel.as_str()], Self::from_row)
            .optional()
            .map_err(from_sql)?
            .map(Self::validated)
            .transpose()
    }

    pub(super) fn from_row(row: &Row<'_>) -> rusqlite::Result<Self> {
        let epoch = number(row, 1)?;
        let at = |seq, tag| -> rusqlite::Result<_> { Ok(Cursor { epoch, seq: number(row, seq)?, tag: row.get(tag)? }) };
        let head = Head { cursor: at(2, 3)?, closed: row.get(4)? };
        let dropped_time = row.get::<_, Option<i64>>(7)?.map(|time| time as u64);
        Ok(Self {
            id: row.get(0)?,
            record: Record { head, earliest: at(5, 6)?, dropped_time },
            bytes: number(row, 8)?,
            newest: number(row, 9)?,
            oldest: number(row, 10)?,
            empty_since: number(row, 11)?,
            due: number(row, 12)?,
        })
    }

    pub(super) fn validated(self) -> Result<Self, StoreError> {
        let (head, earliest) = (self.record.head.cursor, self.record.earliest);
        let is_beyond = head.seq > MAX_SEQ;
        if is_beyond || earliest.seq > head.seq || (earliest.seq == head.seq && earliest.tag != head.tag) {
            return Err(corrupt(format!("the record of channel {} contradicts itself", self.id)));
        }
        Ok(self)
    }

    pub(super) fn insert(&mut self, connection: &Connection, channel: &Channel) -> rusqlite::Result<()> {
        let sql = "INSERT INTO channels (head_seq, head_tag, closed, earliest_seq, earliest_tag, dropped_time, bytes,
                   newest, oldest, empty_since, name, epoch, due)
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)";
        let mut statement = connection.prepare_cached(sql)?;
        self.bind_what_changes(&mut statement)?;
        statement.raw_bind_parameter(11, channel.as_str())?;
        statement.raw_bind_parameter(12, self.record.head.cursor.epoch as i64)?;
        statement.raw_bind_parameter(13, self.due as i64)?;
        statement.raw_execute()?;
        self.id = connection.last_insert_rowid();
        Ok(())
    }

    /// Writes what an append changes. The rest has statements of its own: a column that is named here is written to its
    /// index too, which is a page more to be logged with each commit.
    pub(super) fn update(&self, connection: &Connection) -> rusqlite::Result<()> {
        let sql = "UPDATE channels SET head_seq = ?1, head_tag = ?2, closed = ?3, earliest_seq = ?4, earliest_tag = ?5,
                   dropped_time = ?6, bytes = ?7, newest = ?8, oldest = ?9, empty_since = ?10 WHERE id = ?11";
        let mut statement = connection.prepare_cached(sql)?;
        self.bind_what_changes(&mut statement)?;
        statement.raw_bind_parameter(11, self.id)?;
        statement.raw_execute().map(|_| ())
    }

    /// Writes when the janitor looks next.
    pub(super) fn update_due(&self, connection: &Connection) -> rusqlite::Result<()> {
        let mut statement = connection.prepare_cached("UPDATE channels SET due = ?1 WHERE id = ?2")?;
        statement.execute((self.due as i64, self.id)).map(|_| ())
    }

    fn bind_what_changes(&self, statement: &mut Statement<'_>) -> rusqlite::Result<()> {
        let Record { head, earliest, dropped_time } = self.record;
        statement.raw_bind_parameter(1, head.cursor.seq as i64)?;
        statement.raw_bind_parameter(2, head.cursor.tag)?;
        statement.raw_bind_parameter(3, head.closed)?;
        statement.raw_bind_parameter(4, earliest.seq as i64)?;
        statement.raw_bind_parameter(5, earliest.tag)?;
        statement.raw_bind_parameter(6, dropped_time.map(|time| time as i64))?;
        statement.raw_bind_parameter(7, self.bytes as i64)?;
        statement.raw_bind_parameter(8, self.newest as i64)?;
        statement.raw_bind_parameter(9, self.oldest as i64)?;
        statement.raw_bind_parameter(10, self.empty_since as i64)
    }
}

/// A channel's name, from a column; fails when it cannot be one. A row's name is damaged as easily as all else of it, so it is
/// never read with others that must not fail.
pub(super) fn read_name(row: &Row<'_>, column: usize) -> Result<Channel, StoreError> {
    let name = row.get_ref(column).map_err(from_sql)?;
    let name = name.as_str().map_err(|error| corrupt(format!("a channel's name: {error}")))?;
    Channel::new(name).map_err(|error| corrupt(format!("a channel's name: {error}")))
}

/// What a channel is called of which nobody can read the name.
pub(super) fn placeholder_name(id: i64) -> String {
    format!("number {id} (its name cannot be read)")
}

/// A number of ours, from the column with its bits.
pub(super) fn number(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    row.get::<_, i64>(column).map(|number| number as u64)
}

/// The columns that [`Line::from_row`] reads, in its order.
pub(super) const CHANNEL_COLUMNS: &str =
    "id, epoch, head_seq, head_tag, closed, earliest_seq, earliest_tag, dropped_time, bytes,
    newest, oldest, empty_since, due";

/// No channel comes to a greater `seq`: it is damaged.
pub(super) const MAX_SEQ: u64 = 1 << 62;

/// The columns that [`read_entry`] reads, in its order.
pub(super) const ENTRY_COLUMNS: &str = "seq, tag, prev_tag, appended, time, kind, name, data, sum";

pub(super) fn insert_entry(connection: &Connection, id: i64, entry: &Entry) -> rusqlite::Result<()> {
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

/// Reads an entry back; fails when it is not what was written.
pub(super) fn read_entry(row: &Row<'_>, channel: &Channel, id: i64, epoch: u64) -> Result<Entry, StoreError> {
    let read = || -> rusqlite::Result<_> {
        let cursor = Cursor { epoch, seq: number(row, 0)?, tag: row.get(1)? };
        let (name, data) = (row.get::<_, Option<String>>(6)?, row.get_ref(7)?.as_blob()?);
        Ok((cursor, row.get(2)?, number(row, 3)?, number(row, 4)?, row.get(5)?, name, data, number(row, 8)?))
    };
    let (cursor, prev_tag, appended, time, kind, name, data, expected) = read().map_err(from_sql)?;
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

/// SQLite does not notice a flipped bit within a row; this does. Stored, so it never changes.
fn checksum(id: i64, entry: &Entry, kind: i64) -> u64 {
    let Cursor { seq, tag, epoch } = entry.cursor;
    let numbers = [id as u64, epoch, seq, u64::from(tag), u64::from(entry.prev_tag), entry.appended, entry.time];
    let checksum = numbers.iter().fold(Checksum::new(), |checksum, number| checksum.number(*number)).number(kind as u64);
    let name = entry.name.as_ref().map_or("", EventName::as_str);
    checksum.bytes(name.as_bytes()).bytes(entry.data.as_shown().as_bytes()).finish()
}

const TEXT: i64 = 0;
const JSON: i64 = 1;
