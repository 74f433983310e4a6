//! What a write transaction does to the tables. Knows neither hints nor threads.

use redb::{Database, ReadableTable as _, Table, WriteTransaction as Transaction};
use tower_events::{
    Channel, Cursor, EventKey, EventName, StoreError,
    store::{
        Change, Entry, Head, Receipt, floor,
        kit::{Keep, Known, LogState, WriteTransaction},
        resume,
    },
};

use super::tables::{
    CHANNELS, DUE, ENTRIES, EPOCH, EntryValue, FLOORS, Failure, KEY_ORDER, KEYS, KeyValue, LIMITS, absent, corrupt,
    entry, log,
};

/// A new place gets an epoch. Returns the limits with which the place was opened before.
pub(crate) fn open(database: &Database, own: Keep) -> Result<Keep, Failure> {
    let transaction = database.begin_write()?;
    if transaction.open_table(EPOCH)?.first()?.is_none() {
        transaction.open_table(EPOCH)?.insert((), resume::fresh_epoch())?;
    }
    let before = transaction.open_table(LIMITS)?.insert((), own.to_numbers())?.map(|found| found.value());
    Writes::new(&transaction, (own, 0))?;
    transaction.commit().map_err(|error| StoreError::Unavailable(error.into()))?;
    Ok(before.map_or(own, Keep::from_numbers))
}

/// The tables, in a write transaction.
pub(crate) struct Writes<'a> {
    limits: (Keep, u64),
    epoch: Table<'a, (), u64>,
    floors: Table<'a, u16, u64>,
    pub(crate) channels: Table<'a, &'static str, [u64; 13]>,
    pub(crate) entries: Table<'a, (&'static str, u64), EntryValue<'static>>,
    pub(crate) keys: Table<'a, (&'static str, &'static str), KeyValue>,
    pub(crate) key_order: Table<'a, (&'static str, u64), (u64, &'static str)>,
    due: Table<'a, (u64, &'static str), ()>,
    changes: Vec<Change>,
}

impl<'a> Writes<'a> {
    pub(crate) fn new(transaction: &'a Transaction, limits: (Keep, u64)) -> Result<Self, Failure> {
        Ok(Self {
            limits,
            epoch: transaction.open_table(EPOCH)?,
            floors: transaction.open_table(FLOORS)?,
            channels: transaction.open_table(CHANNELS)?,
            entries: transaction.open_table(ENTRIES)?,
            keys: transaction.open_table(KEYS)?,
            key_order: transaction.open_table(KEY_ORDER)?,
            due: transaction.open_table(DUE)?,
            changes: Vec::new(),
        })
    }

    /// What to tell once the transaction is committed.
    pub(crate) fn into_changes(self) -> Vec<Change> {
        self.changes
    }

    /// Applies retention to a few of the channels for which that is due, so that unused ones are forgotten, too.
    pub(crate) fn tidy(&mut self) -> Result<(), Failure> {
        for _ in 0..TIDIED_PER_WRITE {
            let first = self.due.first()?.map(|(key, _)| (key.value().0, key.value().1.to_owned()));
            let Some((due, name)) = first.filter(|(due, _)| *due <= self.limits.1) else { return Ok(()) };
            self.due.remove((due, name.as_str()))?;
            let channel = Channel::new(name).map_err(corrupt)?;
            if let Some(mut row) = self.retained(&channel)? {
                self.store(&channel, &mut row)?;
            }
        }
        Ok(())
    }

    fn expire_keys(&mut self, name: &str) -> Result<(), Failure> {
        let (keep, now) = self.limits;
        loop {
            let first = self.key_order.range((name, 0)..=(name, u64::MAX))?.next().transpose()?;
            let first = first.map(|(at, key)| (at.value().1, key.value().0, key.value().1.to_owned()));
            let Some((seq, _, key)) = first.filter(|(_, stamp, _)| *stamp < keep.oldest_key(now)) else {
                return Ok(());
            };
            self.key_order.remove((name, seq))?;
            // A key that was appended again stands for the later event.
            let is_latest = self.keys.get((name, key.as_str()))?.is_some_and(|found| found.value().0 == seq);
            if is_latest {
                self.keys.remove((name, key.as_str()))?;
            }
        }
    }
}

impl WriteTransaction for Writes<'_> {
    type Row = LogState;
    type Error = Failure;

    fn limits(&self) -> (Keep, u64) {
        self.limits
    }

    fn row(&mut self, channel: &Channel) -> Result<Option<LogState>, Failure> {
        log(&self.channels, channel)
    }

    fn absent_head(&mut self, channel: &Channel) -> Result<Head, Failure> {
        Ok(absent(&self.epoch, &self.floors, channel)?.head)
    }

    fn create(&mut self, _: &Channel, log: LogState) -> Result<LogState, Failure> {
        Ok(log)
    }

    fn store(&mut self, channel: &Channel, row: &mut LogState) -> Result<(), Failure> {
        self.due.remove((row.due, channel.as_str()))?;
        row.due = row.next_due(&self.limits.0, self.limits.1);
        self.due.insert((row.due, channel.as_str()), ())?;
        self.channels.insert(channel.as_str(), row.to_numbers())?;
        Ok(())
    }

    fn remove(&mut self, channel: &Channel, row: LogState) -> Result<(), Failure> {
        let name = channel.as_str();
        // No name contains a control character, so this is after all of this channel and before the next.
        let end = format!("{name}\0");
        self.channels.remove(name)?;
        self.due.remove((row.due, name))?;
        self.entries.retain_in((name, 0)..(end.as_str(), 0), |_, _| false)?;
        self.key_order.retain_in((name, 0)..(end.as_str(), 0), |_, _| false)?;
        self.keys.retain_in((name, "")..(end.as_str(), ""), |_, _| false)?;
        Ok(())
    }

    fn raise_floor(&mut self, channel: &Channel, seq: u64) -> Result<(), Failure> {
        let bucket = floor::bucket_of(channel);
        let floor = self.floors.get(bucket)?.map_or(0, |floor| floor.value());
        self.floors.insert(bucket, floor::raised(floor, seq))?;
        Ok(())
    }

    fn insert_entry(&mut self, _: &LogState, entry: &Entry) -> Result<(), Failure> {
        let Entry { cursor, prev_tag, appended, time, name, data, .. } = entry;
        let (name, is_text) = (name.as_ref().map(EventName::as_str), data.as_text().is_some());
        let value = (cursor.tag, *prev_tag, *appended, *time, name, is_text, data.as_shown());
        self.entries.insert((entry.channel.as_str(), cursor.seq), value)?;
        Ok(())
    }

    fn key(&mut self, of: &Channel, row: &LogState, key: &EventKey, since: u64) -> Result<Option<Known>, Failure> {
        let Some(found) = self.keys.get((of.as_str(), key.as_str()))? else { return Ok(None) };
        let (seq, tag, time, stamp, print) = found.value();
        let cursor = Cursor { seq, tag, ..row.record.head.cursor };
        Ok((stamp >= since).then(|| Known::new(Receipt::duplicate(cursor, time), Some(print))))
    }

    fn insert_key(
        &mut self,
        channel: &Channel,
        _: &LogState,
        key: &EventKey,
        known: Known,
        stamp: u64,
    ) -> Result<(), Failure> {
        let (name, Receipt { cursor, time, .. }) = (channel.as_str(), known.receipt);
        let print = known.print.unwrap_or_default();
        self.keys.insert((name, key.as_str()), (cursor.seq, cursor.tag, time, stamp, print))?;
        self.key_order.insert((name, cursor.seq), (stamp, key.as_str()))?;
        Ok(())
    }

    fn trim(&mut self, channel: &Channel, row: &mut LogState, _: usize) -> Result<bool, Failure> {
        let ((keep, now), name, earliest) = (self.limits, channel.as_str(), row.record.earliest);
        self.expire_keys(name)?;
        while row.exceeds(&keep, now) {
            let at = Cursor { seq: row.record.earliest.seq + 1, ..earliest };
            let dropped = entry(&self.entries, channel, at)?;
            self.entries.remove((name, at.seq))?;
            row.drop_oldest(dropped.cursor, dropped.time, dropped.size() as u64, now);
            if let Some(next) = self.entries.get((name, at.seq + 1))? {
                row.oldest = next.value().2;
            }
        }
        Ok(row.record.earliest != earliest)
    }

    fn changed(&mut self, _: Option<&LogState>, change: Change) {
        self.changes.push(change);
    }
}

/// So that no write takes long.
const TIDIED_PER_WRITE: usize = 4;
