//! What an append, an init or a delete does within the writer's transaction. Commits nothing.

use rusqlite::Connection;

use super::{
    channel_row::ChannelRow,
    commit_error::OperationError,
    entries::{find_key, insert_entry, insert_key},
    notify_file::Changed,
    retention,
    row_cache::RowCache,
    shared_retention::{OtherCommits, SharedRetention},
};
use crate::{
    channel::Channel,
    cursor::Cursor,
    event::{Event, EventKey},
    store::{
        Append, Appended, Change, Entry, Expect, Head, StoreError,
        kit::{Addition, Before, Decision, Fingerprints, Keep, Sequencer, init_start},
        resume,
    },
};

/// The database as it is within the current transaction, and what to tell watchers when it is committed.
pub(super) struct TxState {
    pub(super) retention: SharedRetention,
    rows: RowCache,
    /// For other processes.
    pub(super) notifications: Vec<Changed>,
    /// For watchers in this process.
    pub(super) changes: Vec<Change>,
}

impl TxState {
    pub(super) fn new(own: Keep) -> Self {
        let (rows, notifications, changes) = Default::default();
        Self { retention: SharedRetention::new(own), rows, notifications, changes }
    }

    /// At the start of a transaction: takes account of what other connections have committed.
    pub(super) fn begin(&mut self, db: &Connection, now: u64) -> Result<OtherCommits, StoreError> {
        let other_commits = self.rows.begin(db)?;
        self.retention.refresh(db, now, other_commits)?;
        Ok(other_commits)
    }

    /// Writes the rows that were only changed in memory.
    pub(super) fn flush(&mut self, db: &Connection) -> rusqlite::Result<()> {
        self.rows.flush(db)
    }

    /// The transaction was rolled back.
    pub(super) fn discard(&mut self) {
        self.rows.clear();
        self.notifications.clear();
        self.changes.clear();
    }

    /// A savepoint was rolled back: the rows of the requests are in the database, those in memory may be wrong.
    pub(super) fn clear_cache(&mut self) {
        self.rows.clear();
    }

    /// Whether removed channels have left entries or keys behind since the last call.
    pub(super) fn take_left_garbage(&mut self) -> bool {
        std::mem::take(&mut self.rows.left_garbage)
    }

    pub(super) fn append(
        &mut self,
        db: &Connection,
        now: u64,
        channel: &Channel,
        append: &Append,
    ) -> Result<Appended, OperationError> {
        let row = self.retained_row(db, now, channel)?;
        let before = self.before(db, channel, row.as_ref())?;
        let stamp = row.as_ref().map_or(now, |row| row.log.stamp(now));
        let since = self.retention.keep.oldest_key(now);
        let known = |key: &EventKey| match &row {
            Some(row) => find_key(db, row, key, since),
            None => Ok(None),
        };
        let draft = match before.decide(append, Fingerprints::of(&append.events), known)? {
            Decision::Unchanged(appended) => return Ok(appended),
            Decision::Write(draft) => draft,
        };
        let mut row = match row {
            Some(row) => row,
            None => self.insert_row(db, now, channel, before.head().cursor)?,
        };
        let Addition { appended, keys, .. } = draft.complete(channel, append.events.clone(), stamp, resume::fresh_tag);
        for entry in &appended.entries {
            insert_entry(db, &mut row, entry)?;
        }
        for (key, known) in keys {
            insert_key(db, row.id, &key, known, stamp)?;
        }
        row.log.record.head = appended.head;
        retention::trim(db, &mut row, &self.retention.keep, now, appended.entries.len() as u64)?;
        // A channel that was empty was to be maintained when its record expires, which may be later than its entries
        // do.
        let next = retention::next_maintenance(&row, &self.retention.keep, now);
        if next < row.due {
            row.due = next;
            row.update_due(db)?;
        }
        self.record_changes(&row, channel, &appended.entries, append);
        self.rows.store_row(channel, row);
        Ok(appended)
    }

    fn record_changes(&mut self, row: &ChannelRow, channel: &Channel, entries: &[Entry], append: &Append) {
        if let (Some(first), Some(last)) = (entries.first(), entries.last()) {
            let (begin, end) = (first.cursor.seq, last.cursor.seq);
            match self.notifications.last_mut() {
                // Consecutive appends of one transaction to one channel are one notification.
                Some(Changed::Entries { channel, last, .. }) if *channel == row.id && *last + 1 == begin => *last = end,
                _ => self.notifications.push(Changed::Entries { channel: row.id, first: begin, last: end }),
            }
            self.changes.push(Change::Entries(entries.to_vec()));
        }
        if append.close {
            self.record_head(row, channel);
        }
    }

    fn record_head(&mut self, row: &ChannelRow, channel: &Channel) {
        self.notifications.push(Changed::Head { channel: row.id });
        self.changes.push(Change::Head(channel.clone(), row.log.record.head));
    }

    pub(super) fn init(
        &mut self,
        db: &Connection,
        now: u64,
        channel: &Channel,
        events: &[Event],
        expect: Expect,
    ) -> Result<Head, OperationError> {
        let (above, stamp) = match self.retained_row(db, now, channel) {
            Ok(old) => {
                let before = self.before(db, channel, old.as_ref())?;
                before.check(expect)?;
                let stamp = old.as_ref().map_or(now, |row| row.log.stamp(now));
                if let Some(old) = old {
                    self.rows.remove(db, channel, old.id)?;
                }
                (before.head().cursor.seq, stamp)
            }
            // Only `Expect::Any` can hold for a record that cannot be read.
            Err(OperationError::Aborted(StoreError::Corrupt(_))) if expect == Expect::Any => {
                (self.rows.remove_damaged(db, channel)?.max(self.rows.floor(db, channel)?), now)
            }
            Err(error) => return Err(error),
        };
        let start = init_start(channel, above);
        let mut row = self.insert_row(db, now, channel, start)?;
        let mut log = Sequencer::new(channel, start, stamp);
        for event in events {
            insert_entry(db, &mut row, &log.entry(event.clone(), resume::fresh_tag()))?;
        }
        retention::trim(db, &mut row, &self.retention.keep, now, events.len() as u64)?;
        let head = row.log.record.head;
        self.record_head(&row, channel);
        self.rows.store_row(channel, row);
        Ok(head)
    }

    pub(super) fn delete(&mut self, db: &Connection, now: u64, channel: &Channel) -> Result<(), OperationError> {
        match self.retained_row(db, now, channel) {
            Ok(None) => return Ok(()),
            Ok(Some(row)) => self.rows.forget(db, channel, &row)?,
            Err(OperationError::Aborted(StoreError::Corrupt(_))) => {
                let above = self.rows.remove_damaged(db, channel)?;
                self.rows.raise_floor(db, channel, above)?;
            }
            Err(error) => return Err(error),
        }
        // A removed channel has no id that other processes could look up.
        self.notifications.push(Changed::Anything);
        let head = self.rows.absent_head(db, channel)?;
        self.changes.push(Change::Head(channel.clone(), head));
        Ok(())
    }

    /// Applies retention to one channel. Returns the id of its record, if it had one.
    pub(super) fn maintain(
        &mut self,
        db: &Connection,
        now: u64,
        channel: &Channel,
    ) -> Result<Option<i64>, OperationError> {
        let found = self.rows.row(db, channel)?.map(|row| row.id);
        if let Some(mut row) = self.retained_row(db, now, channel)? {
            row.due = retention::next_maintenance(&row, &self.retention.keep, now);
            row.update_due(db)?;
            self.rows.store_row(channel, row);
        }
        Ok(found)
    }

    /// The channel's row, after retention was applied to it.
    fn retained_row(
        &mut self,
        db: &Connection,
        now: u64,
        channel: &Channel,
    ) -> Result<Option<ChannelRow>, OperationError> {
        let Some(mut row) = self.rows.row(db, channel)? else { return Ok(None) };
        // Age is judged by this process's clock, not by stamps: else a process whose clock is ahead would make all
        // others drop young entries.
        if retention::trim(db, &mut row, &self.retention.keep, now, 0)? {
            self.rows.store_row(channel, row.clone());
        }
        if retention::is_forgotten(db, &row, &self.retention.keep, now)? {
            self.rows.forget(db, channel, &row)?;
            return Ok(None);
        }
        Ok(Some(row))
    }

    fn insert_row(
        &mut self,
        db: &Connection,
        now: u64,
        channel: &Channel,
        start: Cursor,
    ) -> Result<ChannelRow, OperationError> {
        let mut row = ChannelRow::new(start, now, 0);
        // Entries usually follow; if none do, the first maintenance finds nothing to do.
        row.due = retention::next_maintenance(&row, &self.retention.keep, now)
            .min(retention::too_old_at(&self.retention.keep, now));
        row.insert(db, channel)?;
        Ok(row)
    }

    /// The channel with this row, or none.
    fn before(
        &mut self,
        db: &Connection,
        channel: &Channel,
        row: Option<&ChannelRow>,
    ) -> Result<Before, OperationError> {
        Ok(match row {
            Some(row) => Before::recorded(row.log.record.head),
            None => Before::absent(self.rows.absent_head(db, channel)?),
        })
    }
}
