//! What is in the file, and how it is read. Knows neither hints nor threads.

use std::{error::Error, io::ErrorKind, ops::Bound};

use redb::{AccessGuard, DatabaseError, ReadTransaction, StorageError, TableDefinition, TableError, TransactionError};
use tower_events::{
    Channel, StoreError,
    store::{
        Entry, Head, Limit, Page, Start, floor,
        kit::{Keep, LogState, PageBuilder, decode_entry, listing_start},
        resume::Record,
    },
};

/// The epoch of the place, and the limits with which it was opened last.
pub(crate) const PLACE: TableDefinition<(), (u64, [u64; 5])> = TableDefinition::new("place");
/// By bucket of names.
pub(crate) const FLOORS: TableDefinition<u16, u64> = TableDefinition::new("floors");
/// By name: a [`LogState`].
pub(crate) const CHANNELS: TableDefinition<&str, [u64; 13]> = TableDefinition::new("channels");
/// By name and seq: an [`Entry`].
pub(crate) const ENTRIES: TableDefinition<(&str, u64), &[u8]> = TableDefinition::new("entries");
/// By name and key: the stamp of the append, and a [`Known`](tower_events::store::kit::Known).
pub(crate) const KEYS: TableDefinition<(&str, &str), (u64, [u64; 6])> = TableDefinition::new("keys");
/// The stamp, name and key of each append of a key, oldest first.
pub(crate) const KEY_ORDER: TableDefinition<(u64, &str, &str), ()> = TableDefinition::new("key order");
/// When retention is to be applied to each channel next, and its name.
pub(crate) const DUE: TableDefinition<(u64, &str), ()> = TableDefinition::new("due");

/// The file at one moment, and the limits and the time then.
pub(crate) struct Snapshot {
    pub(crate) read: ReadTransaction,
    pub(crate) limits: (Keep, u64),
}

impl Snapshot {
    /// Those of the channels to which retention is to be applied before they are read.
    pub(crate) fn stale(&self, of: &[Channel]) -> Result<Vec<Channel>> {
        let ((keep, now), channels, mut stale) = (self.limits, self.read.open_table(CHANNELS)?, Vec::new());
        for channel in of {
            let log = log(channels.get(channel.as_str())?);
            if log.is_some_and(|log| log.exceeds(&keep, now) || log.is_over(&keep, now)) {
                stale.push(channel.clone());
            }
        }
        Ok(stale)
    }

    pub(crate) fn page(&self, channel: &Channel, start: Start, limit: Limit) -> Result<Page> {
        let (record, entries) = (self.record(channel)?, self.read.open_table(ENTRIES)?);
        let entry_at = |seq| entry(channel, entries.get((channel.as_str(), seq))?);
        let mut page =
            PageBuilder::new(&record, start, limit, |seq| entry_at(seq).map(|entry| Some(entry.cursor.tag)))?;
        for seq in page.after().seq + 1..=record.head.cursor.seq {
            if page.take(entry_at(seq)?).is_break() {
                break;
            }
        }
        Ok(page.finish())
    }

    /// The record of a channel, whether or not it exists.
    pub(crate) fn record(&self, channel: &Channel) -> Result<Record> {
        if let Some(log) = log(self.read.open_table(CHANNELS)?.get(channel.as_str())?) {
            return Ok(log.record);
        }
        let (place, floors) = (self.read.open_table(PLACE)?, self.read.open_table(FLOORS)?);
        absent(channel, place.get(())?, floors.get(floor::bucket_of(channel))?)
    }

    pub(crate) fn list(&self, prefix: &str, after: Option<&Channel>, limit: usize) -> Result<Vec<(Channel, Head)>> {
        let ((keep, now), channels, mut listed) = (self.limits, self.read.open_table(CHANNELS)?, Vec::new());
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
}

/// What is found of a channel.
pub(crate) fn log(found: Option<AccessGuard<'_, [u64; 13]>>) -> Option<LogState> {
    found.map(|numbers| LogState::from_numbers(numbers.value()))
}

/// What is found of an entry that must be there.
pub(crate) fn entry(channel: &Channel, found: Option<AccessGuard<'_, &[u8]>>) -> Result<Entry> {
    let bytes = found.ok_or_else(|| corrupt("an entry is missing"))?;
    Ok(decode_entry(channel, bytes.value())?)
}

/// The record of a channel that does not exist, from what is found of the place and of the channel's floor.
pub(crate) fn absent(
    channel: &Channel,
    place: Option<AccessGuard<'_, (u64, [u64; 5])>>,
    floor: Option<AccessGuard<'_, u64>>,
) -> Result<Record> {
    let (epoch, _) = place.ok_or_else(|| corrupt("the place has no epoch"))?.value();
    Ok(Record::absent(epoch, floor.map_or(0, |floor| floor.value()), channel))
}

pub(crate) type Result<T> = std::result::Result<T, Failure>;

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
