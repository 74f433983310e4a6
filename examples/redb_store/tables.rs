//! What is in the file, and how it is read. Knows neither hints nor threads.

use std::{error::Error, io::ErrorKind, ops::Bound};

use redb::{
    DatabaseError, ReadTransaction, ReadableTable, StorageError, TableDefinition, TableError, TransactionError,
};
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
/// By name: a [`LogState`].
pub(crate) const CHANNELS: TableDefinition<&str, [u64; 13]> = TableDefinition::new("channels");
/// By name and seq: tag, predecessor's tag, append stamp, time, name, whether the data are a text, data.
pub(crate) const ENTRIES: TableDefinition<(&str, u64), EntryValue<'static>> = TableDefinition::new("entries");
/// By name and key: seq, tag, time, append stamp, fingerprint.
pub(crate) const KEYS: TableDefinition<(&str, &str), KeyValue> = TableDefinition::new("keys");
/// The same keys in the order of their appends, by name and seq: append stamp, key.
pub(crate) const KEY_ORDER: TableDefinition<(&str, u64), (u64, &str)> = TableDefinition::new("key order");
/// When retention is to be applied to each channel next, and its name.
pub(crate) const DUE: TableDefinition<(u64, &str), ()> = TableDefinition::new("due");

pub(crate) type EntryValue<'a> = (u32, u32, u64, u64, Option<&'a str>, bool, &'a str);
pub(crate) type KeyValue = (u64, u32, u64, u64, u64);

/// Those of the channels to which retention is to be applied before they are read.
pub(crate) fn stale<'a>(
    read: &ReadTransaction,
    of: &'a [Channel],
    (keep, now): (Keep, u64),
) -> Result<Vec<&'a Channel>, Failure> {
    let (channels, mut stale) = (read.open_table(CHANNELS)?, Vec::new());
    for channel in of {
        if log(&channels, channel)?.is_some_and(|log| log.exceeds(&keep, now) || log.is_over(&keep, now)) {
            stale.push(channel);
        }
    }
    Ok(stale)
}

pub(crate) fn page(read: &ReadTransaction, channel: &Channel, start: Start, limit: Limit) -> Result<Page, Failure> {
    let (record, entries, name) = (record(read, channel)?, read.open_table(ENTRIES)?, channel.as_str());
    let tag_at = |seq| Ok::<_, Failure>(entries.get((name, seq))?.map(|entry| entry.value().0));
    let mut page = PageBuilder::new(&record, start, limit, tag_at)?;
    for seq in page.after().seq + 1..=record.head.cursor.seq {
        if page.take(entry(&entries, channel, Cursor { seq, ..record.head.cursor })?).is_break() {
            break;
        }
    }
    Ok(page.finish())
}

/// The record of a channel, whether or not it exists.
pub(crate) fn record(read: &ReadTransaction, channel: &Channel) -> Result<Record, Failure> {
    match log(&read.open_table(CHANNELS)?, channel)? {
        Some(log) => Ok(log.record),
        None => absent(&read.open_table(EPOCH)?, &read.open_table(FLOORS)?, channel),
    }
}

pub(crate) fn list(
    read: &ReadTransaction,
    (prefix, after, limit): (&str, Option<&Channel>, usize),
    (keep, now): (Keep, u64),
) -> Result<Vec<(Channel, Head)>, Failure> {
    let (channels, mut listed) = (read.open_table(CHANNELS)?, Vec::new());
    for found in channels.range::<&str>((listing_start(prefix, after), Bound::Unbounded))? {
        let (name, numbers) = found?;
        if listed.len() >= limit || !name.value().starts_with(prefix) {
            break;
        }
        let log = LogState::from_numbers(numbers.value());
        if !log.is_over(&keep, now) {
            listed.push((Channel::new(name.value()).map_err(corrupt)?, log.record.head));
        }
    }
    Ok(listed)
}

pub(crate) fn absent(
    epoch: &impl ReadableTable<(), u64>,
    floors: &impl ReadableTable<u16, u64>,
    channel: &Channel,
) -> Result<Record, Failure> {
    let epoch = epoch.get(())?.ok_or_else(|| corrupt("the place has no epoch"))?;
    let floor = floors.get(floor::bucket_of(channel))?.map_or(0, |floor| floor.value());
    Ok(Record::absent(epoch.value(), floor, channel))
}

pub(crate) fn log(
    channels: &impl ReadableTable<&'static str, [u64; 13]>,
    channel: &Channel,
) -> Result<Option<LogState>, Failure> {
    Ok(channels.get(channel.as_str())?.map(|numbers| LogState::from_numbers(numbers.value())))
}

/// The entry at this seq and in this epoch.
pub(crate) fn entry(
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

pub(crate) fn corrupt(what: impl Into<Box<dyn Error + Send + Sync>>) -> Failure {
    Failure(StoreError::Corrupt(what.into()))
}

impl From<StoreError> for Failure {
    fn from(refused: StoreError) -> Self {
        Self(refused)
    }
}

macro_rules! from_redb {
    ($($error:ty),*) => {
        $(impl From<$error> for Failure {
            fn from(error: $error) -> Self {
                Self(match redb::Error::from(error) {
                    redb::Error::Io(error) if error.kind() == ErrorKind::StorageFull => StoreError::Full(error.into()),
                    error @ redb::Error::Corrupted(_) => StoreError::Corrupt(error.into()),
                    error => StoreError::Unavailable(error.into()),
                })
            }
        })*
    };
}

from_redb!(DatabaseError, StorageError, TableError, TransactionError);
