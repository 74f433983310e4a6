//! Turns the bell's news of other stores into hints for this one's watchers. What it cannot tell exactly becomes a coarser
//! hint.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use rusqlite::{Connection, OptionalExtension as _, TransactionBehavior};

use super::{
    connection,
    notify_file::{NotifyFile, Notification, Changed},
    core::Core,
    error::from_sql,
    format,
    head_cache::unreadable_head,
    channel_row::{CHANNEL_COLUMNS, ChannelRow, placeholder_name, read_name},
    entry_row::{self, ENTRY_COLUMNS},
};
use crate::{
    channel::Channel,
    store::{Change, Entry, StoreError},
};

/// One store's ear at its bell.
pub(super) struct NotifyReader {
    core: Weak<Core>,
    notify_file: Option<NotifyFile>,
    /// Opened when there is something to read.
    db: Option<Connection>,
    /// What `PRAGMA data_version` was last time.
    version: Option<i64>,
    /// Whether the bell was rung since then.
    notified: bool,
}

impl NotifyReader {
    /// Listens from now on.
    pub(super) fn new(core: &Arc<Core>) -> Self {
        let notify_file = NotifyFile::open(&core.paths.notify_file).ok();
        Self { core: Arc::downgrade(core), notify_file, db: None, version: None, notified: false }
    }

    /// Looks for news, and tells the watchers.
    pub(super) fn read_new(&mut self) {
        let Some(core) = self.core.upgrade() else { return };
        let read = self.notify_file.as_mut().map(NotifyFile::read_new);
        match read {
            Some(Ok(Some(notifications))) if notifications.is_empty() => {}
            Some(Ok(Some(notifications))) => {
                self.notified = true;
                let foreign: Vec<_> = notifications.into_iter().filter(|notification| notification.writer != core.id).collect();
                if !foreign.is_empty() {
                    core.notify_watchers(self.changes_of(&core, &foreign));
                }
            }
            Some(Ok(None)) => {
                self.notified = true;
                core.notify_watchers([Change::Resync]);
            }
            Some(Err(_)) | None => {}
        }
    }

    /// Looks whether something went by unheard: a bell that was removed, or a commit whose process was killed before it
    /// rang. Says whether the bell is another than before.
    pub(super) fn check_missed(&mut self) -> bool {
        let Some(core) = self.core.upgrade() else { return false };
        // The files were removed: nothing is to be made where they were.
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
        // The first time there is nothing to compare with; the watchers have begun with a resync.
        if replaced || (has_unread_commits && self.version.is_some()) {
            core.notify_watchers([Change::Resync]);
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
            // Nobody waits here: what is busy now is told as a coarser hint.
            None => connection::open_reader(&core.paths, Duration::ZERO)?,
        };
        Ok(self.db.insert(db))
    }

    fn changes_of(&mut self, core: &Core, notifications: &[Notification]) -> Vec<Change> {
        let changes = self.db(core).map_err(from_sql).and_then(|db| read(core, db, notifications));
        changes.unwrap_or_else(|error| {
            tracing::debug!(%error, "the notifications of an event file cannot be read");
            self.db = None;
            vec![Change::Resync]
        })
    }
}

/// Reads what the news are of, in one snapshot.
fn read(core: &Core, db: &mut Connection, notifications: &[Notification]) -> Result<Vec<Change>, StoreError> {
    let transaction = db.transaction_with_behavior(TransactionBehavior::Deferred).map_err(from_sql)?;
    format::check_read(&transaction)?;
    let mut changes = Vec::new();
    let mut bytes = 0;
    for changed in merge(notifications) {
        let (Changed::Entries { channel, .. } | Changed::Head { channel }) = changed else { return Ok(vec![Change::Resync]) };
        let Some((name, channel_row)) = load_row(&transaction, channel)? else { return Ok(vec![Change::Resync]) };
        let name = match name {
            Ok(name) => name,
            Err(error) => {
                // Nobody knows whom to tell; a resync with each of its appends would cost all others.
                core.quarantine.report(&core.paths.db, &placeholder_name(channel), &error);
                continue;
            }
        };
        let change = channel_row.and_then(|channel_row| change(&transaction, &name, &channel_row, changed, &mut bytes));
        changes.push(match change {
            Err(error @ StoreError::Corrupt(_)) => {
                // It is nobody else's gap; whoever reads it is told.
                core.quarantine.report(&core.paths.db, name.as_str(), &error);
                Change::Head(name, unreadable_head())
            }
            change => change?,
        });
    }
    transaction.commit().map_err(from_sql)?;
    Ok(changes)
}

fn change(db: &Connection, name: &Channel, channel_row: &ChannelRow, changed: Changed, bytes: &mut usize) -> Result<Change, StoreError> {
    let entries = match changed {
        Changed::Entries { first, last, .. } if last - first < MAX_ENTRIES => {
            entries(db, name, channel_row, first, last, bytes)?
        }
        _ => Vec::new(),
    };
    Ok(if entries.is_empty() { Change::Head(name.clone(), channel_row.record.head) } else { Change::Entries(entries) })
}

/// The news, with consecutive entries of one channel as one piece, and each head once.
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

/// The channel's name and its line, if they can be read.
type NameAndRow = (Result<Channel, StoreError>, Result<ChannelRow, StoreError>);

fn load_row(db: &Connection, id: i64) -> Result<Option<NameAndRow>, StoreError> {
    let sql = format!("SELECT {CHANNEL_COLUMNS}, name FROM channels WHERE id = ?1");
    let mut statement = db.prepare_cached(&sql).map_err(from_sql)?;
    let row = statement.query_row([id], |row| Ok((read_name(row, 13), ChannelRow::from_row(row))));
    let Some((name, channel_row)) = row.optional().map_err(from_sql)? else { return Ok(None) };
    Ok(Some((name, channel_row.map_err(from_sql).and_then(ChannelRow::validated))))
}

/// These entries, or none when they are no longer all there, or are more than fit.
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
        let entry = entry_row::read(row, name, channel_row.id, channel_row.record.head.cursor.epoch)?;
        *bytes += entry.size();
        entries.push(entry);
    }
    Ok(if entries.len() as u64 == last - first + 1 { entries } else { Vec::new() })
}

/// More entries at once than these are told as a head: who wants them reads them in pages. So many take less than a
/// millisecond, which a runtime's own threads can spare.
const MAX_ENTRIES: u64 = 256;
const MAX_BYTES: usize = 256 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn news_of_one_channel_are_one_piece() {
        let entries = |channel, first, last| Changed::Entries { channel, first, last };
        let head = Changed::Head { channel: 1 };
        let notifications =
            [entries(1, 1, 2), entries(1, 3, 3), entries(2, 4, 4), entries(1, 4, 4), entries(1, 6, 6), head, head];
        let notifications = notifications.map(|changed| Notification { writer: 0, changed });
        let expected = [entries(1, 1, 3), entries(2, 4, 4), entries(1, 4, 4), entries(1, 6, 6), head];
        assert_eq!(merge(&notifications), expected);
    }
}
