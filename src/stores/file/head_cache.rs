//! The heads of many channels, which followers read every few seconds. Rows are read again only if another connection
//! has committed since.

use std::collections::HashMap;

use rusqlite::{Connection, TransactionBehavior};

use super::{
    channel_row::ChannelRow,
    core::Core,
    error::from_sql,
    format,
    read::{self, StaleRecord},
    shared_retention::SnapshotRetention,
};
use crate::{
    channel::Channel,
    cursor::Cursor,
    store::{Head, StoreError, kit::Keep, resume},
};

/// A connection, and the rows that it has read; valid while no other connection commits.
pub(super) struct HeadCache {
    db: Connection,
    data_version: Option<i64>,
    rows: HashMap<Channel, ChannelRow>,
}

impl HeadCache {
    pub(super) fn new(db: Connection) -> Self {
        Self { db, data_version: None, rows: HashMap::new() }
    }

    /// The heads in one snapshot, and the channels whose records are stale. A damaged record does not fail the others:
    /// its channel gets a head that no cursor continues from, so that its readers read it and find the damage. If all
    /// are damaged, it fails.
    pub(super) fn read(
        &mut self,
        core: &Core,
        (now, stale): (u64, StaleRecord),
        channels: &[Channel],
    ) -> Result<(Vec<Head>, Vec<Channel>), StoreError> {
        let transaction = self.db.transaction_with_behavior(TransactionBehavior::Deferred).map_err(from_sql)?;
        format::check_read(&transaction)?;
        let limits = SnapshotRetention::new(&transaction, &core.keep, now);
        let data_version = read_data_version(&transaction).map_err(from_sql)?;
        if self.data_version != Some(data_version) || self.rows.len() > MAX_CACHED_ROWS {
            self.rows.clear();
            self.data_version = Some(data_version);
        }
        let (mut heads, mut stale_channels, mut errors) = (Vec::with_capacity(channels.len()), Vec::new(), Vec::new());
        for channel in channels {
            if let Some(row) = self.rows.get(channel) {
                if !limits.is_expired(|keep| Ok(!is_still_valid(keep, row, now)))? {
                    heads.push(row.log.record.head);
                    continue;
                }
            }
            heads.push(match read::find_row(&limits, stale, channel) {
                Ok(Some(row)) => {
                    let head = row.log.record.head;
                    self.rows.insert(channel.clone(), row);
                    head
                }
                Ok(None) => {
                    stale_channels.push(channel.clone());
                    unreadable_head()
                }
                Err(error @ StoreError::Corrupt(_)) => {
                    core.quarantine.report(&core.paths.db, channel.as_str(), &error);
                    errors.push(error);
                    unreadable_head()
                }
                Err(error) => return Err(error),
            });
        }
        transaction.commit().map_err(from_sql)?;
        match errors.pop() {
            // If all are damaged, it may be the file.
            Some(error) if errors.len() + 1 == channels.len() => Err(error),
            _ => Ok((heads, stale_channels)),
        }
    }
}

fn read_data_version(db: &Connection) -> rusqlite::Result<i64> {
    db.prepare_cached("PRAGMA data_version")?.query_row([], |row| row.get(0))
}

/// Whether the cached head is still valid: only time can have changed it, by expiring the record.
fn is_still_valid(keep: &Keep, row: &ChannelRow, now: u64) -> bool {
    row.id == 0 || !row.log.is_over(keep, now)
}

/// The head of a damaged channel: no cursor is in its epoch.
pub(super) fn unreadable_head() -> Head {
    Head { cursor: Cursor { epoch: resume::fresh_epoch(), seq: 0, tag: 0 }, closed: false }
}

/// The number of rows cached per connection.
const MAX_CACHED_ROWS: usize = 64 << 10;
