//! What an append, an init or a delete does within the writer's transaction. Decides in memory and writes rows; commits
//! nothing.

use std::collections::{HashMap, hash_map};

use rusqlite::Connection;

use super::{
    commit_error::OperationError,
    notify_file::Changed,
    error::from_sql,
    floors, format,
    entries::{find_key, insert_event, insert_unknown},
    channel_row::{ChannelRow, MAX_SEQ},
    retention,
    shared_retention::{OtherCommits, SharedRetention},
};
use crate::{
    channel::Channel,
    cursor::{Cursor, epoch_of},
    event::Event,
    store::{
        Append, Appended, Change, Entry, Expect, Head, Keep, Prints, Receipt, StoreError, floor, judge,
        resume::{self, Record},
    },
};

/// The writer's view of the database: as it is within the current transaction.
pub(super) struct TxState {
    pub(super) retention: SharedRetention,
    /// The place's epoch, and the floor that all names have at least.
    origin: (u64, u64),
    /// Floors of buckets of names; as the lines.
    floors: HashMap<u16, u64>,
    /// Rows as they are in the database or, when they are in `changed`, as they will be. Valid while no other connection
    /// has committed.
    rows: HashMap<Channel, Option<ChannelRow>>,
    changed: Vec<Channel>,
    /// What `PRAGMA data_version` was when all of this was read.
    data_version: Option<i64>,
    /// What to tell others when the transaction is committed, and those in this process.
    pub(super) notifications: Vec<Changed>,
    pub(super) changes: Vec<Change>,
    /// Whether removed channels left something behind.
    pub(super) left_garbage: bool,
}

impl TxState {
    pub(super) fn new(own: Keep) -> Self {
        let (floors, rows, changed, notifications, changes) = Default::default();
        let retention = SharedRetention::new(own);
        Self { retention, origin: (0, 0), floors, rows, changed, data_version: None, notifications, changes, left_garbage: false }
    }

    /// Begins with a transaction: takes notice of what others have committed, also of a newer format.
    pub(super) fn begin(&mut self, db: &Connection, now: u64) -> Result<OtherCommits, StoreError> {
        let data_version = self.read_data_version(db).map_err(from_sql)?;
        let same = self.data_version == Some(data_version);
        if !same || self.rows.len() > MAX_CACHED_ROWS {
            format::check_write(db)?;
            self.rows.clear();
            self.floors.clear();
            self.origin = floors::origin(db).map_err(from_sql)?;
            self.data_version = Some(data_version);
        }
        let other_commits = if same { OtherCommits::None } else { OtherCommits::Possible };
        self.retention.refresh(db, now, other_commits)?;
        Ok(other_commits)
    }

    fn read_data_version(&self, db: &Connection) -> rusqlite::Result<i64> {
        db.prepare_cached("PRAGMA data_version")?.query_row([], |row| row.get(0))
    }

    /// Writes what was changed in memory only.
    pub(super) fn flush(&mut self, db: &Connection) -> rusqlite::Result<()> {
        for channel in self.changed.drain(..) {
            if let Some(Some(row)) = self.rows.get(&channel) {
                row.update(db)?;
            }
        }
        Ok(())
    }

    /// Forgets what the transaction did: it was rolled back.
    pub(super) fn discard(&mut self) {
        self.clear_cache();
        self.notifications.clear();
        self.changes.clear();
    }

    /// Forgets what it knows of the rows: some of what it wrote was undone, and all that others wanted is in the database.
    pub(super) fn clear_cache(&mut self) {
        self.data_version = None;
        self.rows.clear();
        self.floors.clear();
        self.changed.clear();
    }

    pub(super) fn append(
        &mut self,
        db: &Connection,
        now: u64,
        to: &Channel,
        append: &Append,
    ) -> Result<Appended, OperationError> {
        let row = self.retained_row(db, now, to)?;
        let head = match &row {
            Some(row) => row.record.head,
            None => self.absent_head(db, to)?,
        };
        let stamp = row.as_ref().map_or(now, |row| now.max(row.newest));
        let prints = Prints::of(&append.events);
        let known = self.judge(db, now, row.as_ref(), &append.events, &prints)?;
        let has_new = known.iter().any(Option::is_none);
        // What changes nothing succeeds whatever was expected, so that a repeated append succeeds as the first did.
        if !has_new && (!append.close || head.closed) {
            return Ok(Appended { receipts: known.into_iter().flatten().collect(), entries: Vec::new(), head });
        }
        if has_new && head.closed {
            return Err(OperationError::Refused(StoreError::Closed { head }));
        }
        check_expectation(row.as_ref(), head, append.expect)?;
        let mut row = match row {
            Some(row) => row,
            None => self.insert(db, now, to, head.cursor)?,
        };
        let (receipts, entries) = insert_unknown(db, &mut row, to, &append.events, (&prints, known), stamp)?;
        row.record.head.closed |= append.close;
        let head = row.record.head;
        retention::trim(db, &mut row, &self.retention.keep, now, entries.len() as u64)?;
        // It was empty, and was to be forgotten later than its entries are to go.
        let next = retention::next_maintenance(&row, &self.retention.keep, now);
        if next < row.due {
            row.due = next;
            row.update_due(db)?;
        }
        self.record_changes(&row, to, &entries, append);
        self.store_row(to, row);
        Ok(Appended { receipts, entries, head })
    }

    fn record_changes(&mut self, row: &ChannelRow, to: &Channel, entries: &[Entry], append: &Append) {
        if let (Some(first), Some(last)) = (entries.first(), entries.last()) {
            let (begin, end) = (first.cursor.seq, last.cursor.seq);
            match self.notifications.last_mut() {
                // Appends of one transaction to one channel are one piece.
                Some(Changed::Entries { channel, last, .. }) if *channel == row.id && *last + 1 == begin => *last = end,
                _ => self.notifications.push(Changed::Entries { channel: row.id, first: begin, last: end }),
            }
            self.changes.push(Change::Entries(entries.to_vec()));
        }
        if append.close {
            self.notifications.push(Changed::Head { channel: row.id });
            self.changes.push(Change::Head(to.clone(), row.record.head));
        }
    }

    pub(super) fn init(
        &mut self,
        db: &Connection,
        now: u64,
        of: &Channel,
        events: &[Event],
        expect: Expect,
    ) -> Result<Head, OperationError> {
        let (above, stamp) = match self.retained_row(db, now, of) {
            Ok(old) => {
                let head = match &old {
                    Some(row) => row.record.head,
                    None => self.absent_head(db, of)?,
                };
                check_expectation(old.as_ref(), head, expect)?;
                let stamp = old.as_ref().map_or(now, |row| now.max(row.newest));
                if let Some(old) = old {
                    self.remove(db, of, old.id)?;
                }
                (head.cursor.seq, stamp)
            }
            // Of what cannot be read, nothing can be expected.
            Err(OperationError::Aborted(StoreError::Corrupt(_))) if expect == Expect::Any => {
                (self.remove_damaged(db, of)?.max(self.floor(db, of)?), now)
            }
            Err(error) => return Err(error),
        };
        // Goes on above the old head, so that the floor covers the replaced log too when this one is forgotten.
        let start = Cursor { epoch: epoch_of(resume::fresh_epoch(), of), seq: above, tag: 0 };
        let mut row = self.insert(db, now, of, start)?;
        for event in events {
            insert_event(db, &mut row, of, event, stamp)?;
        }
        retention::trim(db, &mut row, &self.retention.keep, now, events.len() as u64)?;
        let head = row.record.head;
        self.notifications.push(Changed::Head { channel: row.id });
        self.changes.push(Change::Head(of.clone(), head));
        self.store_row(of, row);
        Ok(head)
    }

    pub(super) fn delete(&mut self, db: &Connection, now: u64, channel: &Channel) -> Result<(), OperationError> {
        match self.retained_row(db, now, channel) {
            Ok(None) => return Ok(()),
            Ok(Some(row)) => self.forget(db, channel, &row)?,
            Err(OperationError::Aborted(StoreError::Corrupt(_))) => {
                let above = self.remove_damaged(db, channel)?;
                self.raise_floor(db, channel, above)?;
            }
            Err(error) => return Err(error),
        }
        // A removed channel has no id for others to ask for.
        self.notifications.push(Changed::Anything);
        let head = self.absent_head(db, channel)?;
        self.changes.push(Change::Head(channel.clone(), head));
        Ok(())
    }

    /// Has the janitor look at one channel. Returns the id of the record that it had.
    pub(super) fn maintain(&mut self, db: &Connection, now: u64, channel: &Channel) -> Result<Option<i64>, OperationError> {
        let found = self.row(db, channel)?.map(|row| row.id);
        if let Some(mut row) = self.retained_row(db, now, channel)? {
            row.due = retention::next_maintenance(&row, &self.retention.keep, now);
            row.update_due(db)?;
            self.store_row(channel, row);
        }
        Ok(found)
    }

    /// The head of a channel that has no record.
    fn absent_head(&mut self, db: &Connection, channel: &Channel) -> Result<Head, OperationError> {
        let floor = self.floor(db, channel)?;
        Ok(Record::absent(self.origin.0, floor, channel).head)
    }

    fn floor(&mut self, db: &Connection, channel: &Channel) -> Result<u64, OperationError> {
        let floor = match self.floors.entry(floor::bucket_of(channel)) {
            hash_map::Entry::Occupied(known) => *known.get(),
            hash_map::Entry::Vacant(none) => *none.insert(floors::of_bucket(db, floor::bucket_of(channel))?),
        };
        Ok(floor.max(self.origin.1))
    }

    /// The channel's line as it is.
    fn row(&mut self, db: &Connection, channel: &Channel) -> Result<Option<ChannelRow>, OperationError> {
        let known = match self.rows.entry(channel.clone()) {
            hash_map::Entry::Occupied(known) => known.into_mut(),
            hash_map::Entry::Vacant(none) => none.insert(ChannelRow::load(db, channel)?),
        };
        Ok(known.clone())
    }

    /// The channel's line, after retention was applied to it.
    fn retained_row(&mut self, db: &Connection, now: u64, channel: &Channel) -> Result<Option<ChannelRow>, OperationError> {
        let Some(mut row) = self.row(db, channel)? else { return Ok(None) };
        // Judged by the clock of who asks, not by the stamps of others: one whose clock is ahead would have all others drop
        // what is young.
        if retention::trim(db, &mut row, &self.retention.keep, now, 0)? {
            self.store_row(channel, row.clone());
        }
        if retention::is_forgotten(db, &row, &self.retention.keep, now)? {
            self.forget(db, channel, &row)?;
            return Ok(None);
        }
        Ok(Some(row))
    }

    fn store_row(&mut self, channel: &Channel, row: ChannelRow) {
        self.rows.insert(channel.clone(), Some(row));
        if !self.changed.contains(channel) {
            self.changed.push(channel.clone());
        }
    }

    fn insert(&mut self, db: &Connection, now: u64, channel: &Channel, start: Cursor) -> Result<ChannelRow, OperationError> {
        let mut row = ChannelRow::new(start, now, 0);
        // Entries are to come; if none do, the first look is for nothing.
        row.due = retention::next_maintenance(&row, &self.retention.keep, now).min(retention::too_old_at(&self.retention.keep, now));
        row.insert(db, channel)?;
        Ok(row)
    }

    /// Removes the record and raises the floor.
    fn forget(&mut self, db: &Connection, channel: &Channel, row: &ChannelRow) -> Result<(), OperationError> {
        self.raise_floor(db, channel, row.record.head.cursor.seq)?;
        self.remove(db, channel, row.id)
    }

    /// Raises the floor of the channel's bucket above `seq`.
    fn raise_floor(&mut self, db: &Connection, channel: &Channel, seq: u64) -> Result<(), OperationError> {
        let raised = floor::raised(self.floor(db, channel)?, seq);
        floors::write(db, floor::bucket_of(channel), raised)?;
        self.floors.insert(floor::bucket_of(channel), raised);
        Ok(())
    }

    /// Removes the record; its entries and keys go later.
    fn remove(&mut self, db: &Connection, channel: &Channel, id: i64) -> Result<(), OperationError> {
        db.prepare_cached("DELETE FROM channels WHERE id = ?1")?.execute([id])?;
        db.prepare_cached("INSERT OR IGNORE INTO garbage (channel) VALUES (?1)")?.execute([id])?;
        self.left_garbage = true;
        self.rows.insert(channel.clone(), None);
        self.changed.retain(|changed| changed != channel);
        Ok(())
    }

    /// Removes a record that cannot be read. Returns to which `seq` its log may have come.
    fn remove_damaged(&mut self, db: &Connection, channel: &Channel) -> Result<u64, OperationError> {
        let sql = "SELECT id, head_seq, earliest_seq FROM channels WHERE name = ?1";
        let found = db
            .prepare_cached(sql)?
            .query_row([channel.as_str()], |row| Ok((row.get(0)?, [row.get::<_, i64>(1)?, row.get(2)?])));
        let (id, seqs) = found?;
        let sql = "SELECT max(seq) FROM entries WHERE channel = ?1";
        let last: Option<i64> = db.prepare_cached(sql)?.query_row([id], |row| row.get(0))?;
        self.remove(db, channel, id)?;
        Ok(seqs.into_iter().chain(last).map(|seq| seq as u64).filter(|seq| *seq <= MAX_SEQ).max().unwrap_or(0))
    }

    /// What each event's key was appended as before, if it was; also for keys that the batch itself repeats, with the
    /// receipt of [`push_all`] then.
    fn judge(
        &self,
        db: &Connection,
        now: u64,
        row: Option<&ChannelRow>,
        events: &[Event],
        prints: &Prints,
    ) -> Result<Vec<Option<Receipt>>, OperationError> {
        let since = self.retention.keep.oldest_key(now);
        judge(events, prints, |key| match row {
            Some(row) => find_key(db, row, key, since),
            None => Ok(None),
        })
    }
}

fn check_expectation(row: Option<&ChannelRow>, head: Head, expect: Expect) -> Result<(), OperationError> {
    let holds = match expect {
        Expect::Any => true,
        Expect::NeverUsed => row.is_none(),
        Expect::At(cursor) => cursor == head.cursor,
    };
    if holds { Ok(()) } else { Err(OperationError::Refused(StoreError::Conflict { head })) }
}

/// So many rows are remembered between transactions.
const MAX_CACHED_ROWS: usize = 4096;
