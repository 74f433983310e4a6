//! How a channel's row is written and read back. Applies no rules, except to detect damage.

use rusqlite::{Connection, OptionalExtension as _, Row, Statement};

use super::{
    columns::read_u64,
    error::{corrupt, from_sql},
};
use crate::{
    channel::Channel,
    cursor::Cursor,
    store::{Head, StoreError, kit::LogState, resume::Record},
};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ChannelRow {
    /// 0 until it is inserted.
    pub(super) id: i64,
    pub(super) log: LogState,
}

impl AsRef<LogState> for ChannelRow {
    fn as_ref(&self) -> &LogState {
        &self.log
    }
}

impl AsMut<LogState> for ChannelRow {
    fn as_mut(&mut self) -> &mut LogState {
        &mut self.log
    }
}

impl ChannelRow {
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
        let epoch = read_u64(row, 1)?;
        let at =
            |seq, tag| -> rusqlite::Result<_> { Ok(Cursor { epoch, seq: read_u64(row, seq)?, tag: row.get(tag)? }) };
        let head = Head { cursor: at(2, 3)?, closed: row.get(4)? };
        let dropped_time = row.get::<_, Option<i64>>(7)?.map(|time| time as u64);
        let log = LogState {
            record: Record { head, earliest: at(5, 6)?, dropped_time },
            bytes: read_u64(row, 8)?,
            newest: read_u64(row, 9)?,
            oldest: read_u64(row, 10)?,
            empty_since: read_u64(row, 11)?,
            newest_key: None,
            due: read_u64(row, 12)?,
        };
        Ok(Self { id: row.get(0)?, log })
    }

    pub(super) fn validated(self) -> Result<Self, StoreError> {
        let (head, earliest) = (self.log.record.head.cursor, self.log.record.earliest);
        let is_beyond = head.seq > MAX_SEQ;
        if is_beyond || earliest.seq > head.seq || (earliest.seq == head.seq && earliest.tag != head.tag) {
            return Err(corrupt(format!("the record of channel {} is inconsistent", self.id)));
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
        statement.raw_bind_parameter(12, self.log.record.head.cursor.epoch as i64)?;
        statement.raw_bind_parameter(13, self.log.due as i64)?;
        statement.raw_execute()?;
        self.id = connection.last_insert_rowid();
        Ok(())
    }

    /// Writes the columns that an append changes. Other columns have statements of their own: SQLite also updates the
    /// index of each column named here, which would add a page to each commit.
    pub(super) fn update(&self, connection: &Connection) -> rusqlite::Result<()> {
        let sql = "UPDATE channels SET head_seq = ?1, head_tag = ?2, closed = ?3, earliest_seq = ?4, earliest_tag = ?5,
                   dropped_time = ?6, bytes = ?7, newest = ?8, oldest = ?9, empty_since = ?10 WHERE id = ?11";
        let mut statement = connection.prepare_cached(sql)?;
        self.bind_what_changes(&mut statement)?;
        statement.raw_bind_parameter(11, self.id)?;
        statement.raw_execute().map(|_| ())
    }

    /// Writes when the janitor maintains the channel next.
    pub(super) fn update_due(&self, connection: &Connection) -> rusqlite::Result<()> {
        let mut statement = connection.prepare_cached("UPDATE channels SET due = ?1 WHERE id = ?2")?;
        statement.execute((self.log.due as i64, self.id)).map(|_| ())
    }

    fn bind_what_changes(&self, statement: &mut Statement<'_>) -> rusqlite::Result<()> {
        let Record { head, earliest, dropped_time } = self.log.record;
        statement.raw_bind_parameter(1, head.cursor.seq as i64)?;
        statement.raw_bind_parameter(2, head.cursor.tag)?;
        statement.raw_bind_parameter(3, head.closed)?;
        statement.raw_bind_parameter(4, earliest.seq as i64)?;
        statement.raw_bind_parameter(5, earliest.tag)?;
        statement.raw_bind_parameter(6, dropped_time.map(|time| time as i64))?;
        statement.raw_bind_parameter(7, self.log.bytes as i64)?;
        statement.raw_bind_parameter(8, self.log.newest as i64)?;
        statement.raw_bind_parameter(9, self.log.oldest as i64)?;
        statement.raw_bind_parameter(10, self.log.empty_since as i64)
    }
}

/// The channel's name in a column; fails if it is not a valid name. A name can be damaged like the rest of a row, so it
/// is never read together with columns that must be read.
pub(super) fn read_name(row: &Row<'_>, column: usize) -> Result<Channel, StoreError> {
    let name = row.get_ref(column).map_err(from_sql)?;
    let name = name.as_str().map_err(|error| corrupt(format!("a channel's name: {error}")))?;
    Channel::new(name).map_err(|error| corrupt(format!("a channel's name: {error}")))
}

/// Names a channel whose name cannot be read.
pub(super) fn placeholder_name(id: i64) -> String {
    format!("number {id} (its name cannot be read)")
}

/// The columns that [`ChannelRow::from_row`] reads, in order.
pub(super) const CHANNEL_COLUMNS: &str =
    "id, epoch, head_seq, head_tag, closed, earliest_seq, earliest_tag, dropped_time, bytes,
    newest, oldest, empty_since, due";

/// No channel reaches a greater `seq`: a row with one is damaged.
pub(super) const MAX_SEQ: u64 = 1 << 62;
