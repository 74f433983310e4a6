//! What an append, an init or a delete does within the writer's transaction. Commits nothing.

use rusqlite::Connection;

use super::{
    channel_row::ChannelRow,
    commit_error::OperationError,
    entries::{find_key, insert_key},
    entry_row,
    notify_file::Changed,
    retention,
    row_cache::RowCache,
    shared_retention::{OtherCommits, SharedRetention},
};
use crate::{
    channel::Channel,
    event::EventKey,
    store::{
        Change, Entry, Head, StoreError,
        kit::{Keep, Known, LogState, WriteTransaction},
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

    /// The writes of the current transaction.
    pub(super) fn writes<'a>(&'a mut self, db: &'a Connection, now: u64) -> Writes<'a> {
        Writes { db, state: self, now }
    }
}

/// The writes of one transaction.
pub(super) struct Writes<'a> {
    db: &'a Connection,
    state: &'a mut TxState,
    now: u64,
}

impl Writes<'_> {
    /// Applies retention to one channel. Returns the id of its record, if it had one.
    pub(super) fn maintain(&mut self, channel: &Channel) -> Result<Option<i64>, OperationError> {
        let found = self.row(channel)?.map(|row| row.id);
        if let Some(mut row) = self.retained(channel)? {
            row.log.due = retention::next_maintenance(&row, &self.state.retention.keep, self.now);
            row.update_due(self.db)?;
            self.state.rows.store_row(channel, row);
        }
        Ok(found)
    }

    /// Notifies other processes.
    fn notify(&mut self, changed: Changed) {
        match (self.state.notifications.last_mut(), &changed) {
            // Consecutive appends of one transaction to one channel are one notification.
            (Some(Changed::Entries { channel, last, .. }), Changed::Entries { channel: same, first, last: end })
                if channel == same && *last + 1 == *first =>
            {
                *last = *end;
            }
            _ => self.state.notifications.push(changed),
        }
    }
}

impl WriteTransaction for Writes<'_> {
    type Row = ChannelRow;
    type Error = OperationError;

    fn limits(&self) -> (Keep, u64) {
        (self.state.retention.keep, self.now)
    }

    fn row(&mut self, channel: &Channel) -> Result<Option<ChannelRow>, OperationError> {
        self.state.rows.row(self.db, channel)
    }

    fn absent_head(&mut self, channel: &Channel) -> Result<Head, OperationError> {
        self.state.rows.absent_head(self.db, channel)
    }

    fn create(&mut self, channel: &Channel, log: LogState) -> Result<ChannelRow, OperationError> {
        let (mut row, keep) = (ChannelRow { id: 0, log }, &self.state.retention.keep);
        // Entries usually follow; if none do, the first maintenance finds nothing to do.
        row.log.due = retention::next_maintenance(&row, keep, self.now).min(retention::too_old_at(keep, self.now));
        row.insert(self.db, channel)?;
        Ok(row)
    }

    fn store(&mut self, channel: &Channel, row: &mut ChannelRow) -> Result<(), OperationError> {
        // A channel that was empty was to be maintained when its record expires, which may be later than its entries do.
        let next = retention::next_maintenance(row, &self.state.retention.keep, self.now);
        if next < row.log.due {
            row.log.due = next;
            row.update_due(self.db)?;
        }
        self.state.rows.store_row(channel, row.clone());
        Ok(())
    }

    fn remove(&mut self, channel: &Channel, row: ChannelRow) -> Result<(), OperationError> {
        self.state.rows.remove(self.db, channel, row.id)
    }

    fn remove_damaged(&mut self, channel: &Channel, error: OperationError) -> Result<u64, OperationError> {
        match error {
            OperationError::Aborted(StoreError::Corrupt(_)) => self.state.rows.remove_damaged(self.db, channel),
            error => Err(error),
        }
    }

    fn raise_floor(&mut self, channel: &Channel, seq: u64) -> Result<(), OperationError> {
        self.state.rows.raise_floor(self.db, channel, seq)
    }

    fn insert_entry(&mut self, row: &ChannelRow, entry: &Entry) -> Result<(), OperationError> {
        Ok(entry_row::insert(self.db, row.id, entry)?)
    }

    fn key(
        &mut self,
        _: &Channel,
        row: &ChannelRow,
        key: &EventKey,
        since: u64,
    ) -> Result<Option<Known>, OperationError> {
        find_key(self.db, row, key, since)
    }

    fn insert_key(
        &mut self,
        _: &Channel,
        row: &ChannelRow,
        key: &EventKey,
        known: Known,
        stamp: u64,
    ) -> Result<(), OperationError> {
        insert_key(self.db, row.id, key, known, stamp)
    }

    fn trim(&mut self, _: &Channel, row: &mut ChannelRow, added: usize) -> Result<bool, OperationError> {
        Ok(retention::trim(self.db, row, &self.state.retention.keep, self.now, added as u64)?)
    }

    fn has_keys(&mut self, _: &Channel, row: &ChannelRow, since: u64) -> Result<bool, OperationError> {
        Ok(retention::has_keys(self.db, row, since)?)
    }

    fn changed(&mut self, row: Option<&ChannelRow>, change: Change) {
        let changed = match (row, &change) {
            (Some(row), Change::Entries(entries)) => match (entries.first(), entries.last()) {
                (Some(first), Some(last)) => {
                    Changed::Entries { channel: row.id, first: first.cursor.seq, last: last.cursor.seq }
                }
                _ => return,
            },
            (Some(row), _) => Changed::Head { channel: row.id },
            // A removed channel has no id that other processes could look up.
            (None, _) => Changed::Anything,
        };
        self.notify(changed);
        self.state.changes.push(change);
    }
}
