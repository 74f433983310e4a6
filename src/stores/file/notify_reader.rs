//! Turns other stores' notifications into changes for this one's watchers. If details are missing, the change is a
//! coarser one.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use rusqlite::{Connection, OptionalExtension as _, TransactionBehavior};

use super::{
    channel_row::{CHANNEL_COLUMNS, ChannelRow, placeholder_name, read_name},
    connection,
    core::Core,
    entry_row::{self, ENTRY_COLUMNS},
    error::from_sql,
    format,
    head_cache::unreadable_head,
    notify_file::{Changed, Notification, NotifyFile},
};
use crate::{
    channel::Channel,
    store::{Change, Entry, StoreError},
};

/// Reads the notify file of one store.
pub(super) struct NotifyReader {
    core: Weak<Core>,
    notify_file: Option<NotifyFile>,
    /// Opened when first needed.
    db: Option<Connection>,
    /// `PRAGMA data_version` at the last check.
    version: Option<i64>,
    /// Whether there were notifications since then.
    notified: bool,
}

impl NotifyReader {
    /// Reads notifications that are written from now on.
    pub(super) fn new(core: &Arc<Core>) -> Self {
        let notify_file = NotifyFile::open(&core.paths.notify_file).ok();
        Self { core: Arc::downgrade(core), notify_file, db: None, version: None, notified: false }
    }

    /// Reads new notifications, and notifies the watchers.
    pub(super) fn read_new(&mut self) {
        let Some(core) = self.core.upgrade() else { return };
        let read = self.notify_file.as_mut().map(NotifyFile::read_new);
        match read {
            Some(Ok(Some(notifications))) if notifications.is_empty() => {}
            Some(Ok(Some(notifications))) => {
                self.notified = true;
                let foreign: Vec<_> =
                    notifications.into_iter().filter(|notification| notification.writer != core.id).collect();
                if !foreign.is_empty() {
                    core.watchers.notify_all(&self.changes_of(&core, &foreign));
                }
            }
            Some(Ok(None)) => {
                self.notified = true;
                core.watchers.notify(|| Change::Resync);
            }
            Some(Err(_)) | None => {}
        }
    }

    /// Checks for missed commits: the notify file was replaced, or a process was killed between its commit and its
    /// notification. Returns whether the notify file is another one now.
    pub(super) fn check_missed(&mut self) -> bool {
        let Some(core) = self.core.upgrade() else { return false };
        // If the file was removed, no notify file may be created in its place.
        if core.check().is_err() {
            return false;
        }
        let replaced = match &mut self.notify_file {
            Some(notify_file) => notify_file.reopen_if_replaced().unwrap_or(false),
            none => {
                *none = NotifyFile::open(&core.paths.notify_file).ok();
                none.is_some()
            }
        };
        let version = self.data_version(&core);
        let has_unread_commits = version.is_none() || (self.version != version && !self.notified);
        // The first check has nothing to compare with; but the watchers have started with a resync.
        if replaced || (has_unread_commits && self.version.is_some()) {
            core.watchers.notify(|| Change::Resync);
        }
        self.version = version;
        self.notified = false;
        replaced
    }

    fn data_version(&mut self, core: &Core) -> Option<i64> {
        let version = self.db(core).ok()?.query_row("PRAGMA data_version", [], |row| row.get(0));
        if version.is_err() {
            self.db = None;
        }
        version.ok()
    }

    fn db(&mut self, core: &Core) -> rusqlite::Result<&mut Connection> {
        let db = match self.db.take() {
            Some(db) => db,
            // Without waiting: if the database is busy, the change is a resync.
            None => connection::open_reader(&core.paths, Duration::ZERO)?,
        };
        Ok(self.db.insert(db))
    }

    fn changes_of(&mut self, core: &Core, notifications: &[Notification]) -> Vec<Change> {
        let changes = self.db(core).map_err(from_sql).and_then(|db| read(core, db, notifications));
        changes.unwrap_or_else(|error| {
            tracing::debug!(%error, "cannot read the changes that notifications of an event file are about");
            self.db = None;
            vec![Change::Resync]
        })
    }
}

/// Reads what the notifications are about, in one snapshot.
fn read(core: &Core, db: &mut Connection, notifications: &[Notification]) -> Result<Vec<Change>, StoreError> {
    let transaction = db.transaction_with_behavior(TransactionBehavior::Deferred).map_err(from_sql)?;
    format::check_read(&transaction)?;
    let mut changes = Vec::new();
    let mut bytes = 0;
    for changed in merge(notifications) {
        let (Changed::Entries { channel, .. } | Changed::Head { channel }) = changed else {
            return Ok(vec![Change::Resync]);
        };
        let Some((name, channel_row)) = load_row(&transaction, channel)? else { return Ok(vec![Change::Resync]) };
        let name = match name {
            Ok(name) => name,
            Err(error) => {
                // Its watchers cannot be notified, and a resync for each of its appends would disturb those of all
                // channels.
                core.quarantine.report(&core.paths.db, &placeholder_name(channel), &error);
                continue;
            }
        };
        let change = channel_row.and_then(|channel_row| change(&transaction, &name, &channel_row, changed, &mut bytes));
        changes.push(match change {
            Err(error @ StoreError::Corrupt(_)) => {
                // No resync, since other channels are not affected. The new head makes readers of this one find the
                // damage.
                core.quarantine.report(&core.paths.db, name.as_str(), &error);
                Change::Head(name, unreadable_head())
            }
            change => change?,
        });
    }
    transaction.commit().map_err(from_sql)?;
    Ok(changes)
}

fn change(
    db: &Connection,
    name: &Channel,
    channel_row: &ChannelRow,
    changed: Changed,
    bytes: &mut usize,
) -> Result<Change, StoreError> {
    let entries = match changed {
        Changed::Entries { first, last, .. } if last - first < MAX_ENTRIES => {
            entries(db, name, channel_row, first, last, bytes)?
        }
        _ => Vec::new(),
    };
    Ok(if entries.is_empty() {
        Change::Head(name.clone(), channel_row.log.record.head)
    } else {
        Change::Entries(entries)
    })
}

/// Merges consecutive entries of one channel, and repeated heads.
fn merge(notifications: &[Notification]) -> Vec<Changed> {
    let mut merged: Vec<Changed> = Vec::new();
    for Notification { changed, .. } in notifications {
        let same = match (merged.last_mut(), changed) {
            (Some(Changed::Entries { channel, last, .. }), Changed::Entries { channel: next, first, last: end })
                if channel == next && *last + 1 == *first =>
            {
                *last = *end;
                true
            }
            (Some(last), changed) => last == changed,
            (None, _) => false,
        };
        if !same {
            merged.push(*changed);
        }
    }
    merged
}

/// The channel's name and row, as far as they can be read.
type NameAndRow = (Result<Channel, StoreError>, Result<ChannelRow, StoreError>);

fn load_row(db: &Connection, id: i64) -> Result<Option<NameAndRow>, StoreError> {
    let sql = format!("SELECT {CHANNEL_COLUMNS}, name FROM channels WHERE id = ?1");
    let mut statement = db.prepare_cached(&sql).map_err(from_sql)?;
    let row = statement.query_row([id], |row| Ok((read_name(row, 13), ChannelRow::from_row(row))));
    let Some((name, channel_row)) = row.optional().map_err(from_sql)? else { return Ok(None) };
    Ok(Some((name, channel_row.map_err(from_sql).and_then(ChannelRow::validated))))
}

/// These entries; or none if some are gone, or too many bytes have been read.
fn entries(
    db: &Connection,
    name: &Channel,
    channel_row: &ChannelRow,
    first: u64,
    last: u64,
    bytes: &mut usize,
) -> Result<Vec<Entry>, StoreError> {
    let sql = format!("SELECT {ENTRY_COLUMNS} FROM entries WHERE channel = ?1 AND seq BETWEEN ?2 AND ?3 ORDER BY seq");
    let mut statement = db.prepare_cached(&sql).map_err(from_sql)?;
    let mut rows = statement.query((channel_row.id, first as i64, last as i64)).map_err(from_sql)?;
    let mut entries = Vec::new();
    while *bytes < MAX_BYTES {
        let Some(row) = rows.next().map_err(from_sql)? else { break };
        let entry = entry_row::read(row, name, channel_row.id, channel_row.log.record.head.cursor.epoch)?;
        *bytes += entry.size();
        entries.push(entry);
    }
    Ok(if entries.len() as u64 == last - first + 1 { entries } else { Vec::new() })
}

/// For more entries than this, the change is the head, and readers read pages. Reading this many takes less than a
/// millisecond, which is short enough for an async worker thread.
const MAX_ENTRIES: u64 = 256;
const MAX_BYTES: usize = 256 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn consecutive_notifications_of_one_channel_are_merged() {
        let entries = |channel, first, last| Changed::Entries { channel, first, last };
        let head = Changed::Head { channel: 1 };
        let notifications =
            [entries(1, 1, 2), entries(1, 3, 3), entries(2, 4, 4), entries(1, 4, 4), entries(1, 6, 6), head, head];
        let notifications = notifications.map(|changed| Notification { writer: 0, changed });
        let expected = [entries(1, 1, 3), entries(2, 4, 4), entries(1, 4, 4), entries(1, 6, 6), head];
        assert_eq!(merge(&notifications), expected);
    }
}
