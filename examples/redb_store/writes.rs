//! What a write transaction does to the tables. Knows neither hints nor threads.

use redb::{Database, ReadableTable as _, WriteTransaction as Transaction};
use tower_events::{
    Channel, EventKey, StoreError,
    store::{
        Change, Entry, Head, floor,
        kit::{Keep, Known, LogState, WriteTransaction, encode_entry},
        resume,
    },
};

use super::tables::{
    CHANNELS, DUE, ENTRIES, FLOORS, Failure, KEY_ORDER, KEYS, PLACE, Result, absent, corrupt, entry, log,
};

/// Makes a new file a place. Returns the limits with which it was opened before.
pub(crate) fn open(database: &Database, own: Keep) -> Result<Keep> {
    let transaction = database.begin_write()?;
    let found = transaction.open_table(PLACE)?.get(())?.map(|place| place.value());
    let (epoch, before) = found.unwrap_or_else(|| (resume::fresh_epoch(), own.to_numbers()));
    transaction.open_table(PLACE)?.insert((), (epoch, own.to_numbers()))?;
    // A table that does not exist cannot be read.
    transaction.open_table(FLOORS)?;
    transaction.open_table(CHANNELS)?;
    transaction.open_table(ENTRIES)?;
    transaction.commit().map_err(|error| StoreError::Unavailable(error.into()))?;
    Ok(Keep::from_numbers(before))
}

/// What one transaction writes.
pub(crate) struct Writes<'a> {
    pub(crate) transaction: &'a Transaction,
    pub(crate) limits: (Keep, u64),
    /// What to tell once the transaction is committed.
    pub(crate) changes: Vec<Change>,
}

impl Writes<'_> {
    /// Removes a few of the keys that have expired, and applies retention to a few of the channels for which that is due, so that
    /// unused ones are forgotten, too.
    pub(crate) fn tidy(&mut self) -> Result<()> {
        self.expire_keys()?;
        for channel in self.take_due()? {
            if let Some(mut row) = self.retained(&channel)? {
                self.store(&channel, &mut row)?;
            }
        }
        Ok(())
    }

    fn expire_keys(&self) -> Result<()> {
        let (mut order, mut keys) = (self.transaction.open_table(KEY_ORDER)?, self.transaction.open_table(KEYS)?);
        let (keep, now) = self.limits;
        for expired in order.extract_from_if(..(keep.oldest_key(now), "", ""), |_, ()| true)?.take(MAX_KEYS_TIDIED) {
            let (at, _) = expired?;
            let (stamp, name, key) = at.value();
            // A key that was appended again stands for the later event.
            keys.retain_in((name, key)..=(name, key), |_, (latest, _)| latest > stamp)?;
        }
        Ok(())
    }

    fn take_due(&self) -> Result<Vec<Channel>> {
        let (mut due, after_now) = (self.transaction.open_table(DUE)?, self.limits.1.saturating_add(1));
        let due = due.extract_from_if(..(after_now, ""), |_, ()| true)?.take(MAX_CHANNELS_TIDIED);
        due.map(|taken| Channel::new(taken?.0.value().1).map_err(corrupt)).collect()
    }
}

impl WriteTransaction for Writes<'_> {
    type Row = LogState;
    type Error = Failure;

    fn limits(&self) -> (Keep, u64) {
        self.limits
    }

    fn row(&mut self, channel: &Channel) -> Result<Option<LogState>> {
        Ok(log(self.transaction.open_table(CHANNELS)?.get(channel.as_str())?))
    }

    fn absent_head(&mut self, channel: &Channel) -> Result<Head> {
        let (place, floors) = (self.transaction.open_table(PLACE)?, self.transaction.open_table(FLOORS)?);
        Ok(absent(channel, place.get(())?, floors.get(floor::bucket_of(channel))?)?.head)
    }

    fn create(&mut self, _: &Channel, log: LogState) -> Result<LogState> {
        Ok(log)
    }

    fn store(&mut self, channel: &Channel, row: &mut LogState) -> Result<()> {
        let (mut due, name, (keep, now)) = (self.transaction.open_table(DUE)?, channel.as_str(), self.limits);
        due.remove((row.due, name))?;
        row.due = row.next_due(&keep, now);
        due.insert((row.due, name), ())?;
        self.transaction.open_table(CHANNELS)?.insert(name, row.to_numbers())?;
        Ok(())
    }

    fn remove(&mut self, channel: &Channel, row: LogState) -> Result<()> {
        let name = channel.as_str();
        // No name contains a control character, so this is after all of this channel and before the next.
        let end = format!("{name}\0");
        self.transaction.open_table(CHANNELS)?.remove(name)?;
        self.transaction.open_table(DUE)?.remove((row.due, name))?;
        self.transaction.open_table(ENTRIES)?.retain_in((name, 0)..(&*end, 0), |_, _| false)?;
        self.transaction.open_table(KEYS)?.retain_in((name, "")..(&*end, ""), |_, _| false)?;
        Ok(())
    }

    fn raise_floor(&mut self, channel: &Channel, seq: u64) -> Result<()> {
        let (mut floors, bucket) = (self.transaction.open_table(FLOORS)?, floor::bucket_of(channel));
        let floor = floors.get(bucket)?.map_or(0, |floor| floor.value());
        floors.insert(bucket, floor::raised(floor, seq))?;
        Ok(())
    }

    fn insert_entry(&mut self, _: &LogState, entry: &Entry) -> Result<()> {
        let (at, bytes) = ((entry.channel.as_str(), entry.cursor.seq), encode_entry(entry));
        self.transaction.open_table(ENTRIES)?.insert(at, &*bytes)?;
        Ok(())
    }

    fn key(&mut self, of: &Channel, _: &LogState, key: &EventKey, since: u64) -> Result<Option<Known>> {
        let keys = self.transaction.open_table(KEYS)?;
        let found = keys.get((of.as_str(), key.as_str()))?.map(|found| found.value());
        Ok(found.filter(|(stamp, _)| *stamp >= since).map(|(_, known)| Known::from_numbers(known)))
    }

    fn insert_key(&mut self, of: &Channel, _: &LogState, key: &EventKey, known: Known, stamp: u64) -> Result<()> {
        let (name, key) = (of.as_str(), key.as_str());
        self.transaction.open_table(KEYS)?.insert((name, key), (stamp, known.to_numbers()))?;
        self.transaction.open_table(KEY_ORDER)?.insert((stamp, name, key), ())?;
        Ok(())
    }

    fn trim(&mut self, channel: &Channel, row: &mut LogState, _: usize) -> Result<bool> {
        let ((keep, now), name, earliest) = (self.limits, channel.as_str(), row.record.earliest);
        let mut entries = self.transaction.open_table(ENTRIES)?;
        while row.exceeds(&keep, now) {
            let dropped = entry(channel, entries.remove((name, row.record.earliest.seq + 1))?)?;
            row.drop_oldest(dropped.cursor, dropped.time, dropped.size() as u64, now);
            if row.count() > 0 {
                row.oldest = entry(channel, entries.get((name, dropped.cursor.seq + 1))?)?.appended;
            }
        }
        Ok(row.record.earliest != earliest)
    }

    fn changed(&mut self, _: Option<&LogState>, change: Change) {
        self.changes.push(change);
    }
}

/// How many channels and keys one write looks after, so that none takes long.
const MAX_CHANNELS_TIDIED: usize = 4;
const MAX_KEYS_TIDIED: usize = 1_000;
