//! What a write transaction does to the tables. Knows neither hints nor threads.

use redb::{Database, ReadableTable as _, Table, WriteTransaction};
use tower_events::{
    Channel, Cursor, Event, EventKey, EventName, StoreError,
    store::{
        Append, Appended, Change, Entry, Expect, Head, Receipt, floor,
        kit::{Addition, Before, Decision, Fingerprints, Keep, Known, Sequencer, init_start},
        resume,
    },
};

use super::place::{
    CHANNELS, DUE, ENTRIES, EPOCH, EntryValue, FLOORS, Failure, KEY_ORDER, KEYS, KeyValue, LIMITS, Row, RowValue,
    absent, corrupt, entry_of, epoch, row_of,
};

/// A new place gets an epoch. Returns the limits with which the place was opened before.
pub(crate) fn open(database: &Database, own: &Keep) -> Result<Keep, Failure> {
    let transaction = database.begin_write()?;
    let mut before = *own;
    {
        let mut epoch = transaction.open_table(EPOCH)?;
        if epoch.first()?.is_none() {
            epoch.insert((), resume::fresh_epoch())?;
        }
        let mut limits = transaction.open_table(LIMITS)?;
        let numbers = [own.events, own.bytes, own.age, own.forget_after, own.key_window];
        if let Some(found) = limits.insert((), numbers)? {
            [before.events, before.bytes, before.age, before.forget_after, before.key_window] = found.value();
        }
    }
    Tables::open(&transaction)?;
    commit(transaction)?;
    Ok(before)
}

/// After an error it is not known whether the transaction was committed.
pub(crate) fn commit(transaction: WriteTransaction) -> Result<(), Failure> {
    transaction.commit().map_err(|error| Failure(StoreError::Unknown(Box::new(error))))
}

/// The tables, in a write transaction.
pub(crate) struct Tables<'a> {
    epoch: u64,
    floors: Table<'a, u16, u64>,
    channels: Table<'a, &'static str, RowValue>,
    entries: Table<'a, (&'static str, u64), EntryValue<'static>>,
    keys: Table<'a, (&'static str, &'static str), KeyValue>,
    key_order: Table<'a, (&'static str, u64), (u64, &'static str)>,
    due: Table<'a, (u64, &'static str), ()>,
}

impl<'a> Tables<'a> {
    pub(crate) fn open(transaction: &'a WriteTransaction) -> Result<Self, Failure> {
        Ok(Self {
            epoch: epoch(&transaction.open_table(EPOCH)?)?,
            floors: transaction.open_table(FLOORS)?,
            channels: transaction.open_table(CHANNELS)?,
            entries: transaction.open_table(ENTRIES)?,
            keys: transaction.open_table(KEYS)?,
            key_order: transaction.open_table(KEY_ORDER)?,
            due: transaction.open_table(DUE)?,
        })
    }

    pub(crate) fn append(
        &mut self,
        channel: &Channel,
        append: Append,
        prints: Fingerprints,
        (keep, now): (&Keep, u64),
    ) -> Result<(Appended, Vec<Change>), Failure> {
        let row = self.retained(channel, (keep, now))?;
        let before = self.before(channel, row.as_ref())?;
        let known = |key: &EventKey| match &row {
            Some(row) => self.known(channel, row, key, keep.oldest_key(now)),
            None => Ok(None),
        };
        let draft = match before.decide(&append, prints, known)? {
            Decision::Unchanged(appended) => return Ok((appended, Vec::new())),
            Decision::Write(draft) => draft,
        };
        let mut row = row.unwrap_or_else(|| Row::new(before.head().cursor, now));
        let stamp = row.log.stamp(now);
        let Addition { appended, keys, .. } = draft.complete(channel, append.events, stamp, resume::fresh_tag);
        for entry in &appended.entries {
            self.insert(entry)?;
            row.log.add(entry);
        }
        for (key, known) in keys {
            self.remember(channel, &key, known, stamp)?;
            row.keyed = stamp;
        }
        row.log.record.head = appended.head;
        self.trim_and_store(channel, row, (keep, now))?;
        let mut changes = Vec::new();
        if !appended.entries.is_empty() {
            changes.push(Change::Entries(appended.entries.clone()));
        }
        if append.close {
            changes.push(Change::Head(channel.clone(), appended.head));
        }
        Ok((appended, changes))
    }

    pub(crate) fn init(
        &mut self,
        channel: &Channel,
        events: Vec<Event>,
        expect: Expect,
        (keep, now): (&Keep, u64),
    ) -> Result<(Head, Vec<Change>), Failure> {
        let old = self.retained(channel, (keep, now))?;
        let before = self.before(channel, old.as_ref())?;
        before.check(expect)?;
        let stamp = old.map_or(now, |old| old.log.stamp(now));
        if let Some(old) = old {
            self.erase(channel, &old)?;
        }
        let start = init_start(channel, before.head().cursor.seq);
        let (mut row, mut log) = (Row::new(start, stamp), Sequencer::new(channel, start, stamp));
        for event in events {
            let entry = log.entry(event, resume::fresh_tag());
            self.insert(&entry)?;
            row.log.add(&entry);
        }
        self.trim_and_store(channel, row, (keep, now))?;
        Ok((row.head(), vec![Change::Head(channel.clone(), row.head())]))
    }

    pub(crate) fn delete(&mut self, channel: &Channel) -> Result<((), Vec<Change>), Failure> {
        let Some(row) = row_of(&self.channels, channel)? else { return Ok(((), Vec::new())) };
        self.forget(channel, &row)?;
        let head = self.before(channel, None)?.head();
        Ok(((), vec![Change::Head(channel.clone(), head)]))
    }

    /// Applies retention to a few of the channels for which that is due, so that unused ones are forgotten, too.
    pub(crate) fn tidy(&mut self, (keep, now): (&Keep, u64)) -> Result<(), Failure> {
        for _ in 0..TIDIED_PER_WRITE {
            let first = self.due.first()?.map(|(key, _)| (key.value().0, key.value().1.to_owned()));
            let Some((due, name)) = first.filter(|(due, _)| *due <= now) else { return Ok(()) };
            self.due.remove((due, name.as_str()))?;
            let channel = Channel::new(name).map_err(corrupt)?;
            if let Some(row) = self.retained(&channel, (keep, now))? {
                self.trim_and_store(&channel, row, (keep, now))?;
            }
        }
        Ok(())
    }

    /// The channel's row, after retention was applied to it.
    pub(crate) fn retained(&mut self, channel: &Channel, (keep, now): (&Keep, u64)) -> Result<Option<Row>, Failure> {
        let Some(row) = row_of(&self.channels, channel)? else { return Ok(None) };
        self.expire_keys(channel, keep.oldest_key(now))?;
        let row = if row.next_due(keep) <= now { self.trim_and_store(channel, row, (keep, now))? } else { row };
        if !row.is_forgotten(keep, now) {
            return Ok(Some(row));
        }
        self.forget(channel, &row)?;
        Ok(None)
    }

    /// Removes the last `n` entries, as a disk does that loses what it acknowledged.
    #[cfg(test)]
    pub(crate) fn lose_tail(&mut self, channel: &Channel, n: u64) -> Result<((), Vec<Change>), Failure> {
        let name = channel.as_str();
        let Some(mut row) = row_of(&self.channels, channel)? else { return Ok(((), Vec::new())) };
        for _ in 0..n.min(row.log.count()) {
            let head = row.head().cursor;
            let lost = entry_of(&self.entries, channel, head)?;
            self.entries.remove((name, head.seq))?;
            if let Some(key) = self.key_order.remove((name, head.seq))? {
                self.keys.remove((name, key.value().1))?;
            }
            row.log.bytes -= lost.size() as u64;
            row.log.record.head.cursor = lost.prev();
        }
        self.channels.insert(name, row.value())?;
        Ok(((), Vec::new()))
    }

    fn before(&self, channel: &Channel, row: Option<&Row>) -> Result<Before, Failure> {
        Ok(match row {
            Some(row) => Before::recorded(row.head()),
            None => Before::absent(absent(self.epoch, &self.floors, channel)?.head),
        })
    }

    fn known(&self, channel: &Channel, row: &Row, key: &EventKey, since: u64) -> Result<Option<Known>, Failure> {
        let Some(found) = self.keys.get((channel.as_str(), key.as_str()))? else { return Ok(None) };
        let (seq, tag, time, stamp, print) = found.value();
        let cursor = Cursor { epoch: row.head().cursor.epoch, seq, tag };
        Ok((stamp >= since).then(|| Known::new(Receipt::duplicate(cursor, time), Some(print))))
    }

    fn remember(&mut self, channel: &Channel, key: &EventKey, known: Known, stamp: u64) -> Result<(), Failure> {
        let (name, Receipt { cursor, time, .. }) = (channel.as_str(), known.receipt);
        let print = known.print.unwrap_or_default();
        self.keys.insert((name, key.as_str()), (cursor.seq, cursor.tag, time, stamp, print))?;
        self.key_order.insert((name, cursor.seq), (stamp, key.as_str()))?;
        Ok(())
    }

    fn expire_keys(&mut self, channel: &Channel, since: u64) -> Result<(), Failure> {
        let name = channel.as_str();
        loop {
            let first = self.key_order.range((name, 0)..=(name, u64::MAX))?.next().transpose()?;
            let first = first.map(|(at, key)| (at.value().1, key.value().0, key.value().1.to_owned()));
            let Some((seq, _, key)) = first.filter(|(_, stamp, _)| *stamp < since) else { return Ok(()) };
            self.key_order.remove((name, seq))?;
            // A key that was appended again stands for the later event.
            let is_latest = self.keys.get((name, key.as_str()))?.is_some_and(|found| found.value().0 == seq);
            if is_latest {
                self.keys.remove((name, key.as_str()))?;
            }
        }
    }

    fn insert(&mut self, entry: &Entry) -> Result<(), Failure> {
        let Entry { cursor, prev_tag, appended, time, name, data, .. } = entry;
        let (name, is_text) = (name.as_ref().map(EventName::as_str), data.as_text().is_some());
        let value = (cursor.tag, *prev_tag, *appended, *time, name, is_text, data.as_shown());
        self.entries.insert((entry.channel.as_str(), entry.cursor.seq), value)?;
        Ok(())
    }

    fn trim_and_store(&mut self, channel: &Channel, mut row: Row, (keep, now): (&Keep, u64)) -> Result<Row, Failure> {
        let name = channel.as_str();
        while row.log.exceeds(keep, now) {
            let at = Cursor { seq: row.log.record.earliest.seq + 1, ..row.head().cursor };
            let dropped = entry_of(&self.entries, channel, at)?;
            self.entries.remove((name, at.seq))?;
            row.log.drop_oldest(dropped.cursor, dropped.time, dropped.size() as u64, now);
            if let Some(next) = self.entries.get((name, at.seq + 1))? {
                row.log.oldest = next.value().2;
            }
        }
        let due = row.next_due(keep);
        self.due.remove((row.due, name))?;
        self.due.insert((due, name), ())?;
        row.due = due;
        self.channels.insert(name, row.value())?;
        Ok(row)
    }

    /// Removes the channel, and raises the floor above it.
    fn forget(&mut self, channel: &Channel, row: &Row) -> Result<(), Failure> {
        self.erase(channel, row)?;
        let bucket = floor::bucket_of(channel);
        let floor = self.floors.get(bucket)?.map_or(0, |floor| floor.value());
        self.floors.insert(bucket, floor::raised(floor, row.head().cursor.seq))?;
        Ok(())
    }

    fn erase(&mut self, channel: &Channel, row: &Row) -> Result<(), Failure> {
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
}

/// So that no write takes long.
const TIDIED_PER_WRITE: usize = 4;
