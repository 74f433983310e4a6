//! Inserts new entries and their keys.

use std::collections::HashMap;

use rusqlite::{Connection, OptionalExtension as _};

use super::{channel_row::ChannelRow, columns::read_u64, commit_error::OperationError, entry_row};
use crate::{
    channel::Channel,
    cursor::Cursor,
    event::{Event, EventKey},
    store::{Entry, Known, Prints, Receipt, resume},
};

/// The append of a key, if it happened at `since` or later.
pub(super) fn find_key(
    db: &Connection,
    channel_row: &ChannelRow,
    key: &EventKey,
    since: u64,
) -> Result<Option<Known>, OperationError> {
    let sql = "SELECT seq, tag, time, print FROM keys WHERE channel = ?1 AND key = ?2 AND came >= ?3";
    let epoch = channel_row.record.head.cursor.epoch;
    let found = db.prepare_cached(sql)?.query_row((channel_row.id, key.as_str(), since as i64), |row| {
        let cursor = Cursor { epoch, seq: read_u64(row, 0)?, tag: row.get(1)? };
        let receipt = Receipt { cursor, time: read_u64(row, 2)?, duplicate: true };
        Ok(Known { receipt, print: row.get::<_, Option<i64>>(3)?.map(|print| print as u64) })
    });
    Ok(found.optional()?)
}

/// Appends the events that are not `known`.
pub(super) fn insert_unknown(
    db: &Connection,
    channel_row: &mut ChannelRow,
    channel: &Channel,
    events: &[Event],
    (prints, known): (&Prints, Vec<Option<Receipt>>),
    now: u64,
) -> Result<(Vec<Receipt>, Vec<Entry>), OperationError> {
    let (mut receipts, mut entries) = (Vec::with_capacity(events.len()), Vec::with_capacity(events.len()));
    let mut repeated: HashMap<&EventKey, Receipt> = HashMap::new();
    for (nth, (event, known)) in events.iter().zip(known).enumerate() {
        let known = known.or_else(|| repeated.get(event.key()?).copied());
        receipts.push(match known {
            Some(first) => first,
            None => {
                let entry = insert_event(db, channel_row, channel, event, now)?;
                let receipt = Receipt { cursor: entry.cursor, time: entry.time, duplicate: false };
                if let Some(key) = event.key() {
                    remember_key(db, channel_row.id, key, Known::new(receipt, Some(prints.at(nth))), now)?;
                    repeated.insert(key, Receipt { duplicate: true, ..receipt });
                }
                entries.push(entry);
                receipt
            }
        });
    }
    Ok((receipts, entries))
}

/// Appends an event, and counts it in the channel's row.
pub(super) fn insert_event(
    db: &Connection,
    channel_row: &mut ChannelRow,
    channel: &Channel,
    event: &Event,
    now: u64,
) -> Result<Entry, OperationError> {
    let prev = channel_row.record.head.cursor;
    let cursor = Cursor { seq: prev.seq + 1, tag: resume::fresh_tag(), ..prev };
    let time = event.time().unwrap_or(now);
    let (data, name) = event.clone().into_parts();
    let entry = Entry { channel: channel.clone(), cursor, prev_tag: prev.tag, appended: now, time, name, data };
    entry_row::insert(db, channel_row.id, &entry)?;
    if channel_row.count() == 0 {
        channel_row.oldest = now;
    }
    channel_row.newest = now;
    channel_row.bytes += entry.size() as u64;
    channel_row.record.head.cursor = cursor;
    Ok(entry)
}

fn remember_key(db: &Connection, id: i64, key: &EventKey, known: Known, now: u64) -> Result<(), OperationError> {
    // Replaces a key that has expired but is still stored.
    let sql =
        "INSERT OR REPLACE INTO keys (channel, key, seq, tag, time, came, print) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
    let Receipt { cursor: Cursor { seq, tag, .. }, time, .. } = known.receipt;
    let print = known.print.map(|print| print as i64);
    db.prepare_cached(sql)?.execute((id, key.as_str(), seq as i64, tag, time as i64, now as i64, print))?;
    Ok(())
}
