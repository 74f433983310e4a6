//! What an append, an init or a delete does within the writer's transaction. Commits nothing.

use rusqlite::Connection;

use super::{
    channel_row::ChannelRow,
    commit_error::OperationError,
    entries::{find_key, insert_event, insert_unknown},
    notify_file::Changed,
    retention,
    row_cache::RowCache,
    shared_retention::{OtherCommits, SharedRetention},
};
use crate::{
    channel::Channel,
    cursor::{Cursor, epoch_of},
    event::Event,
    store::{Append, Appended, Change, Entry, Expect, Head, Keep, Prints, Receipt, StoreError, judge, resume},
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
        let head = match &row {
            Some(row) => row.record.head,
            None => self.rows.absent_head(db, channel)?,
        };
        let stamp = row.as_ref().map_or(now, |row| now.max(row.newest));
        let prints = Prints::of(&append.events);
        let known = self.judge(db, now, row.as_ref(), &append.events, &prints)?;
        let has_new = known.iter().any(Option::is_none);
        // An append that changes nothing succeeds whatever it expects, so that a repeated append succeeds as the first
        // did.
        if !has_new && (!append.close || head.closed) {
            return Ok(Appended { receipts: known.into_iter().flatten().collect(), entries: Vec::new(), head });
        }
        if has_new && head.closed {
            return Err(OperationError::Refused(StoreError::Closed { head }));
        }
        check_expectation(row.as_ref(), head, append.expect)?;
        let mut row = match row {
            Some(row) => row,
            None => self.insert_row(db, now, channel, head.cursor)?,
        };
        let (receipts, entries) = insert_unknown(db, &mut row, channel, &append.events, (&prints, known), stamp)?;
        row.record.head.closed |= append.close;
        let head = row.record.head;
        retention::trim(db, &mut row, &self.retention.keep, now, entries.len() as u64)?;
        // A channel that was empty was to be maintained when its record expires, which may be later than its entries
        // do.
        let next = retention::next_maintenance(&row, &self.retention.keep, now);
        if next < row.due {
            row.due = next;
            row.update_due(db)?;
        }
        self.record_changes(&row, channel, &entries, append);
        self.rows.store_row(channel, row);
        Ok(Appended { receipts, entries, head })
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
        self.changes.push(Change::Head(channel.clone(), row.record.head));
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
                let head = match &old {
                    Some(row) => row.record.head,
                    None => self.rows.absent_head(db, channel)?,
                };
                check_expectation(old.as_ref(), head, expect)?;
                let stamp = old.as_ref().map_or(now, |row| now.max(row.newest));
                if let Some(old) = old {
                    self.rows.remove(db, channel, old.id)?;
                }
                (head.cursor.seq, stamp)
            }
            // Only `Expect::Any` can hold for a record that cannot be read.
            Err(OperationError::Aborted(StoreError::Corrupt(_))) if expect == Expect::Any => {
                (self.rows.remove_damaged(db, channel)?.max(self.rows.floor(db, channel)?), now)
            }
            Err(error) => return Err(error),
        };
        // Continues above the old head, so that forgetting the new log raises the floor above the old one too.
        let start = Cursor { epoch: epoch_of(resume::fresh_epoch(), channel), seq: above, tag: 0 };
        let mut row = self.insert_row(db, now, channel, start)?;
        for event in events {
            insert_event(db, &mut row, channel, event, stamp)?;
        }
        retention::trim(db, &mut row, &self.retention.keep, now, events.len() as u64)?;
        let head = row.record.head;
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

    /// For each event the receipt of the append that first had its key, if there was one. For a key that the batch
    /// itself repeats, [`insert_unknown`] finds the receipt.
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
