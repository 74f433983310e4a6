//! What is in the file: the tables, and how they are read. Knows neither hints nor threads.

use std::ops::Bound;

use redb::{ReadTransaction, ReadableTable, StorageError, TableDefinition, TableError, TransactionError};
use tower_events::{
    Channel, Cursor, Data, EventName, StoreError,
    store::{
        Entry, Head, Limit, Page, Start, floor,
        kit::{Keep, LogState, PageBuilder, listing_start},
        resume::Record,
    },
};

/// The epoch of the place.
pub(crate) const EPOCH: TableDefinition<(), u64> = TableDefinition::new("epoch");
/// The limits with which the place was opened last.
pub(crate) const LIMITS: TableDefinition<(), [u64; 5]> = TableDefinition::new("limits");
/// By bucket of names.
pub(crate) const FLOORS: TableDefinition<u16, u64> = TableDefinition::new("floors");
/// By name: see [`Row`].
pub(crate) const CHANNELS: TableDefinition<&str, RowValue> = TableDefinition::new("channels");
/// By name and seq: tag, predecessor's tag, append stamp, time, name, whether the data are a text, data.
pub(crate) const ENTRIES: TableDefinition<(&str, u64), EntryValue<'static>> = TableDefinition::new("entries");
/// By name and key: seq, tag, time, append stamp, fingerprint.
pub(crate) const KEYS: TableDefinition<(&str, &str), KeyValue> = TableDefinition::new("keys");
/// The same keys in the order of their appends, by name and seq: append stamp, key.
pub(crate) const KEY_ORDER: TableDefinition<(&str, u64), (u64, &str)> = TableDefinition::new("key order");
/// When something of each channel is to be dropped next, and its name.
pub(crate) const DUE: TableDefinition<(u64, &str), ()> = TableDefinition::new("due");

/// Head, earliest position, dropped time, and the numbers of a [`Row`].
pub(crate) type RowValue = ((u64, u64, u32, bool), (u64, u32), Option<u64>, [u64; 6]);
pub(crate) type KeyValue = (u64, u32, u64, u64, u64);
pub(crate) type EntryValue<'a> = (u32, u32, u64, u64, Option<&'a str>, bool, &'a str);

/// A channel: the state of its log, the append stamp of its newest key (0 if there was none), and when something of it is to be
/// dropped next, as stored in [`DUE`].
#[derive(Clone, Copy)]
pub(crate) struct Row {
    pub(crate) log: LogState,
    pub(crate) keyed: u64,
    pub(crate) due: u64,
}

impl Row {
    pub(crate) fn new(start: Cursor, now: u64) -> Self {
        Self { log: LogState::new(start, now), keyed: 0, due: 0 }
    }

    pub(crate) fn head(&self) -> Head {
        self.log.record.head
    }

    /// When the oldest entry, or else the record, has outlived its time.
    pub(crate) fn next_due(&self, keep: &Keep) -> u64 {
        let keys = if self.keyed == 0 { 0 } else { self.keyed.saturating_add(keep.key_window) };
        let end = match self.log.count() {
            0 => self.log.empty_since.saturating_add(keep.forget_after).max(keys),
            _ => self.log.oldest.saturating_add(keep.age),
        };
        end.saturating_add(1)
    }

    pub(crate) fn is_forgotten(&self, keep: &Keep, now: u64) -> bool {
        self.log.is_over(keep, now) && (self.keyed == 0 || self.keyed < keep.oldest_key(now))
    }

    pub(crate) fn value(&self) -> RowValue {
        let LogState { record, bytes, newest, oldest, empty_since, .. } = self.log;
        let Cursor { epoch, seq, tag } = record.head.cursor;
        let (head, earliest) = ((epoch, seq, tag, record.head.closed), (record.earliest.seq, record.earliest.tag));
        (head, earliest, record.dropped_time, [bytes, newest, oldest, empty_since, self.keyed, self.due])
    }

    fn of(((epoch, seq, tag, closed), earliest, dropped, numbers): RowValue) -> Self {
        let cursor = Cursor { epoch, seq, tag };
        let head = if closed { Head::closed(cursor) } else { Head::open(cursor) };
        let earliest = Cursor { epoch, seq: earliest.0, tag: earliest.1 };
        let (mut log, [bytes, newest, oldest, empty_since, keyed, due]) = (LogState::new(cursor, 0), numbers);
        log.record = Record::new(head, earliest).dropped(dropped);
        (log.bytes, log.newest, log.oldest, log.empty_since) = (bytes, newest, oldest, empty_since);
        Self { log, keyed, due }
    }
}

/// Those of the channels to which retention is to be applied before they are read.
pub(crate) fn due<'a>(
    read: &ReadTransaction,
    of: &'a [Channel],
    (keep, now): (&Keep, u64),
) -> Result<Vec<&'a Channel>, Failure> {
    let (channels, mut due) = (read.open_table(CHANNELS)?, Vec::new());
    for channel in of {
        if row_of(&channels, channel)?.is_some_and(|row| row.next_due(keep) <= now) {
            due.push(channel);
        }
    }
    Ok(due)
}

pub(crate) fn page(read: &ReadTransaction, channel: &Channel, start: Start, limit: Limit) -> Result<Page, Failure> {
    let (record, entries, name) = (record(read, channel)?, read.open_table(ENTRIES)?, channel.as_str());
    let tag_at = |seq| Ok::<_, Failure>(entries.get((name, seq))?.map(|entry| entry.value().0));
    let mut page = PageBuilder::new(&record, start, limit, tag_at)?;
    for seq in page.after().seq + 1..=record.head.cursor.seq {
        let entry = entry_of(&entries, channel, Cursor { seq, ..record.head.cursor })?;
        if page.take(entry).is_break() {
            break;
        }
    }
    Ok(page.finish())
}

/// The record of a channel, whether or not it exists.
pub(crate) fn record(read: &ReadTransaction, channel: &Channel) -> Result<Record, Failure> {
    match row_of(&read.open_table(CHANNELS)?, channel)? {
        Some(row) => Ok(row.log.record),
        None => absent(epoch(&read.open_table(EPOCH)?)?, &read.open_table(FLOORS)?, channel),
    }
}

pub(crate) fn list(
    read: &ReadTransaction,
    (prefix, after, limit): (&str, Option<&Channel>, usize),
    (keep, now): (&Keep, u64),
) -> Result<Vec<(Channel, Head)>, Failure> {
    let (channels, mut listed) = (read.open_table(CHANNELS)?, Vec::new());
    for found in channels.range::<&str>((listing_start(prefix, after), Bound::Unbounded))? {
        let (name, row) = found?;
        if listed.len() >= limit || !name.value().starts_with(prefix) {
            break;
        }
        let row = Row::of(row.value());
        if !row.is_forgotten(keep, now) {
            listed.push((Channel::new(name.value()).map_err(corrupt)?, row.log.record.head));
        }
    }
    Ok(listed)
}

pub(crate) fn epoch(table: &impl ReadableTable<(), u64>) -> Result<u64, Failure> {
    let epoch = table.get(())?.ok_or_else(|| corrupt("the place has no epoch"))?;
    Ok(epoch.value())
}

pub(crate) fn absent(epoch: u64, floors: &impl ReadableTable<u16, u64>, channel: &Channel) -> Result<Record, Failure> {
    let floor = floors.get(floor::bucket_of(channel))?.map_or(0, |floor| floor.value());
    Ok(Record::absent(epoch, floor, channel))
}

pub(crate) fn row_of(
    channels: &impl ReadableTable<&'static str, RowValue>,
    channel: &Channel,
) -> Result<Option<Row>, Failure> {
    Ok(channels.get(channel.as_str())?.map(|row| Row::of(row.value())))
}

/// The entry at this seq and in this epoch.
pub(crate) fn entry_of(
    entries: &impl ReadableTable<(&'static str, u64), EntryValue<'static>>,
    channel: &Channel,
    at: Cursor,
) -> Result<Entry, Failure> {
    let found = entries.get((channel.as_str(), at.seq))?.ok_or_else(|| corrupt("an entry is missing"))?;
    let (tag, prev_tag, appended, time, name, is_text, data) = found.value();
    let data = if is_text { Data::text(data) } else { Data::from_json(data).map_err(corrupt)? };
    let name = name.map(EventName::new).transpose().map_err(corrupt)?;
    let entry = Entry::new(channel.clone(), Cursor { tag, ..at }, data).after(prev_tag);
    Ok(entry.appended(appended).at(time).named(name))
}

/// Why a transaction ended without effect.
pub(crate) struct Failure(pub(crate) StoreError);

pub(crate) fn corrupt(what: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Failure {
    Failure(StoreError::Corrupt(what.into()))
}

impl From<StoreError> for Failure {
    fn from(refused: StoreError) -> Self {
        Self(refused)
    }
}

impl From<redb::Error> for Failure {
    fn from(error: redb::Error) -> Self {
        Self(match error {
            redb::Error::Io(error) if error.kind() == std::io::ErrorKind::StorageFull => StoreError::Full(error.into()),
            redb::Error::Corrupted(_) => StoreError::Corrupt(error.into()),
            _ => StoreError::Unavailable(error.into()),
        })
    }
}

impl From<StorageError> for Failure {
    fn from(error: StorageError) -> Self {
        redb::Error::from(error).into()
    }
}

impl From<TableError> for Failure {
    fn from(error: TableError) -> Self {
        redb::Error::from(error).into()
    }
}

impl From<TransactionError> for Failure {
    fn from(error: TransactionError) -> Self {
        redb::Error::from(error).into()
    }
}
