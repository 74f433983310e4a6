//! New entries and their keys, as rows.

use std::collections::HashMap;

use rusqlite::{Connection, OptionalExtension as _};

use super::{
    apply::Failed,
    record::{self, Line, number},
};
use crate::{
    channel::Channel,
    cursor::Cursor,
    event::{Event, EventKey},
    store::{Entry, Known, Prints, Receipt, resume},
};

/// What is remembered of a key, if it came no earlier than `since`.
pub(super) fn find_key(db: &Connection, line: &Line, key: &EventKey, since: u64) -> Result<Option<Known>, Failed> {
    let sql = "SELECT seq, tag, time, print FROM keys WHERE channel = ?1 AND key = ?2 AND came >= ?3";
    let epoch = line.record.head.cursor.epoch;
    let found = db.prepare_cached(sql)?.query_row((line.id, key.as_str(), since as i64), |row| {
        let cursor = Cursor { epoch, seq: number(row, 0)?, tag: row.get(1)? };
        let receipt = Receipt { cursor, time: number(row, 2)?, duplicate: true };
        Ok(Known { receipt, print: row.get::<_, Option<i64>>(3)?.map(|print| print as u64) })
    });
    Ok(found.optional()?)
}

/// Appends the events that are not known.
pub(super) fn push_all(
    db: &Connection,
    line: &mut Line,
    channel: &Channel,
    events: &[Event],
    (prints, known): (&Prints, Vec<Option<Receipt>>),
    now: u64,
) -> Result<(Vec<Receipt>, Vec<Entry>), Failed> {
    let (mut receipts, mut entries) = (Vec::with_capacity(events.len()), Vec::with_capacity(events.len()));
    let mut repeated: HashMap<&EventKey, Receipt> = HashMap::new();
    for (nth, (event, known)) in events.iter().zip(known).enumerate() {
        let known = known.or_else(|| repeated.get(event.key()?).copied());
        receipts.push(match known {
            Some(first) => first,
            None => {
                let entry = push(db, line, channel, event, now)?;
                let receipt = Receipt { cursor: entry.cursor, time: entry.time, duplicate: false };
                if let Some(key) = event.key() {
                    remember(db, line.id, key, Known::new(receipt, Some(prints.at(nth))), now)?;
                    repeated.insert(key, Receipt { duplicate: true, ..receipt });
                }
                entries.push(entry);
                receipt
            }
        });
    }
    Ok((receipts, entries))
}

/// Appends an event, and counts it in the line.
pub(super) fn push(
    db: &Connection,
    line: &mut Line,
    channel: &Channel,
    event: &Event,
    now: u64,
) -> Result<Entry, Failed> {
    let prev = line.record.head.cursor;
    let cursor = Cursor { seq: prev.seq + 1, tag: resume::fresh_tag(), ..prev };
    let time = event.time().unwrap_or(now);
    let (data, name) = event.clone().into_parts();
    let entry = Entry { channel: channel.clone(), cursor, prev_tag: prev.tag, appended: now, time, name, data };
    record::insert_entry(db, line.id, &entry)?;
    if line.count() == 0 {
        line.oldest = now;
    }
    line.newest = now;
    line.bytes += entry.size() as u64;
    line.record.head.cursor = cursor;
    Ok(entry)
}

fn remember(db: &Connection, id: i64, key: &EventKey, known: Known, now: u64) -> Result<(), Failed> {
    // A key whose window is over may still be there.
    let sql =
        "INSERT OR REPLACE INTO keys (channel, key, seq, tag, time, came, print) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
    let Receipt { cursor: Cursor { seq, tag, .. }, time, .. } = known.receipt;
    let print = known.print.map(|print| print as i64);
    db.prepare_cached(sql)?.execute((id, key.as_str(), seq as i64, tag, time as i64, now as i64, print))?;
    Ok(())
}
