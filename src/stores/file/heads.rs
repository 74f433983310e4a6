//! The heads of many channels, which followers ask for every few seconds: what nobody has changed since the last time is
//! not read again.

use std::collections::HashMap;

use rusqlite::{Connection, TransactionBehavior};

use super::{
    core::Core,
    error::from_sql,
    format,
    read::{self, Stale},
    channel_row::ChannelRow,
    shared_retention::SnapshotRetention,
};
use crate::{
    channel::Channel,
    cursor::Cursor,
    store::{Head, Keep, StoreError, resume},
};

/// A connection, and the lines that it has read: valid while no other has committed.
pub(super) struct Heads {
    db: Connection,
    version: Option<i64>,
    rows: HashMap<Channel, ChannelRow>,
}

impl Heads {
    pub(super) fn new(db: Connection) -> Self {
        Self { db, version: None, rows: HashMap::new() }
    }

    /// The heads, from one snapshot, and the channels whose records are stale. A channel whose record is damaged costs no
    /// other its head: among others it is given one that nothing continues from, so that whoever reads it is told; alone, it
    /// fails.
    pub(super) fn of(
        &mut self,
        core: &Core,
        (now, stale): (u64, Stale),
        channels: &[Channel],
    ) -> Result<(Vec<Head>, Vec<Channel>), StoreError> {
        let transaction = self.db.transaction_with_behavior(TransactionBehavior::Deferred).map_err(from_sql)?;
        format::check_read(&transaction)?;
        let limits = SnapshotRetention::new(&transaction, &core.keep, now);
        let version = data_version(&transaction).map_err(from_sql)?;
        if self.version != Some(version) || self.rows.len() > MOST_LINES {
            self.rows.clear();
            self.version = Some(version);
        }
        let (mut heads, mut stales, mut damage) = (Vec::with_capacity(channels.len()), Vec::new(), Vec::new());
        for channel in channels {
            if let Some(row) = self.rows.get(channel) {
                if !limits.is_expired(|keep| Ok(!may_be_kept(keep, row, now)))? {
                    heads.push(row.record.head);
                    continue;
                }
            }
            heads.push(match read::find(&limits, stale, channel) {
                Ok(Some(row)) => {
                    let head = row.record.head;
                    self.rows.insert(channel.clone(), row);
                    head
                }
                Ok(None) => {
                    stales.push(channel.clone());
                    unreadable()
                }
                Err(error @ StoreError::Corrupt(_)) => {
                    core.quarantine.say(&core.paths.db, channel.as_str(), &error);
                    damage.push(error);
                    unreadable()
                }
                Err(error) => return Err(error),
            });
        }
        transaction.commit().map_err(from_sql)?;
        match damage.pop() {
            // Then it may be the file.
            Some(error) if damage.len() + 1 == channels.len() => Err(error),
            _ => Ok((heads, stales)),
        }
    }
}

fn data_version(db: &Connection) -> rusqlite::Result<i64> {
    db.prepare_cached("PRAGMA data_version")?.query_row([], |row| row.get(0))
}

/// Whether nothing but time could have changed what is known, and that has not.
fn may_be_kept(keep: &Keep, row: &ChannelRow, now: u64) -> bool {
    row.id == 0 || row.count() > 0 || row.empty_since >= keep.oldest_record(now)
}

/// The head that a damaged channel is given: no cursor is in its epoch.
pub(super) fn unreadable() -> Head {
    Head { cursor: Cursor { epoch: resume::fresh_epoch(), seq: 0, tag: 0 }, closed: false }
}

/// So many lines are remembered.
const MOST_LINES: usize = 64 << 10;
