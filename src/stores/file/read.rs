//! Reads of a page, each in one short snapshot. Expired entries are skipped here too, since no writer may have dropped
//! them yet.

use rusqlite::{Connection, Params, TransactionBehavior};

use super::{
    channel_row::ChannelRow,
    entry_row::{self, ENTRY_COLUMNS},
    error::{corrupt, from_sql},
    floors, format, retention,
    shared_retention::SnapshotRetention,
};
use crate::{
    channel::Channel,
    cursor::Cursor,
    store::{
        Limit, Page, Start, StoreError,
        kit::{Keep, LogState, PageBuilder},
        resume::Record,
    },
};

/// What to do about a record that has expired, but is still stored.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum StaleRecord {
    /// Report it: the writer has to forget it first, since that raises the floor by an unpredictable step.
    Report,
    /// Read as if it were forgotten: the writer could not do it. The position read is valid until it does.
    TreatAsForgotten,
}

/// A page of one channel; `None` if its record is stale.
pub(super) fn page(
    db: &mut Connection,
    (own, now, stale): (&Keep, u64, StaleRecord),
    channel: &Channel,
    start: Start,
    limit: Limit,
) -> Result<Option<Page>, StoreError> {
    let transaction = db.transaction_with_behavior(TransactionBehavior::Deferred).map_err(from_sql)?;
    format::check_read(&transaction)?;
    let limits = SnapshotRetention::new(&transaction, own, now);
    let Some(row) = find_row(&limits, stale, channel)? else { return Ok(None) };
    let page = ChannelSnapshot::new(&limits, channel, &row)?.page(start, limit)?;
    // Only ends the snapshot: nothing was written.
    transaction.commit().map_err(from_sql)?;
    Ok(Some(page))
}

/// The channel's row, or one that stands for an absent channel. `None` if it is stale.
pub(super) fn find_row(
    limits: &SnapshotRetention<'_>,
    stale: StaleRecord,
    channel: &Channel,
) -> Result<Option<ChannelRow>, StoreError> {
    let (db, mut forgotten_seq) = (limits.db, 0);
    if let Some(row) = ChannelRow::load(db, channel)? {
        if !limits.is_expired(|keep| retention::is_forgotten(db, &row, keep, limits.now))? {
            return Ok(Some(row));
        }
        if stale == StaleRecord::Report {
            return Ok(None);
        }
        forgotten_seq = row.log.record.head.cursor.seq;
    }
    let (epoch, floor) = floors::of_channel(db, channel).map_err(from_sql)?;
    let start = Record::absent(epoch, floor.max(forgotten_seq), channel).head.cursor;
    Ok(Some(ChannelRow { id: 0, log: LogState::new(start, 0) }))
}

/// A channel in one snapshot.
struct ChannelSnapshot<'a> {
    db: &'a Connection,
    channel: &'a Channel,
    id: i64,
    record: Record,
}

impl<'a> ChannelSnapshot<'a> {
    fn new(limits: &SnapshotRetention<'a>, channel: &'a Channel, row: &ChannelRow) -> Result<Self, StoreError> {
        let mut snapshot = Self { db: limits.db, channel, id: row.id, record: row.log.record };
        if limits.is_expired(|keep| Ok(row.log.count() > 0 && row.log.oldest < keep.oldest(limits.now)))? {
            snapshot.skip_older(limits.largest()?.oldest(limits.now))?;
        }
        Ok(snapshot)
    }

    /// Moves the earliest position past entries that were appended before `oldest`.
    fn skip_older(&mut self, oldest: u64) -> Result<(), StoreError> {
        let head = self.record.head.cursor;
        let (mut too_old, mut retained) = (self.record.earliest.seq, head.seq + 1);
        // A binary search: stamps never decrease, and entries are dense.
        while retained - too_old > 1 {
            let middle = too_old + (retained - too_old) / 2;
            let stamp = self.column_at(middle, "appended")?.ok_or_else(|| self.missing_entry(middle))?;
            if stamp < oldest { too_old = middle } else { retained = middle }
        }
        if too_old > self.record.earliest.seq {
            let sql = "SELECT max(min(time, appended)) FROM entries WHERE channel = ?1 AND seq > ?2 AND seq <= ?3";
            let earliest = self.record.earliest.seq;
            let dropped = self.query_number(sql, (self.id, earliest as i64, too_old as i64))?;
            self.record.dropped_time = self.record.dropped_time.max(dropped);
            self.record.earliest = self.position(too_old)?;
        }
        Ok(())
    }

    fn page(&self, start: Start, limit: Limit) -> Result<Page, StoreError> {
        let tag_at = |seq| self.position(seq).map(|position| Some(position.tag));
        let mut page = PageBuilder::new(&self.record, start, limit, tag_at)?;
        match start {
            Start::Time(time) => self.take_above(time, limit, &mut page)?,
            _ => self.take_following(limit, &mut page)?,
        }
        Ok(page.finish())
    }

    /// Takes the entries with a time above `time`.
    fn take_above(&self, time: u64, limit: Limit, page: &mut PageBuilder) -> Result<(), StoreError> {
        let sql = format!(
            "SELECT {ENTRY_COLUMNS} FROM entries WHERE channel = ?1 AND seq > ?2 AND time > ?3 ORDER BY seq LIMIT ?4"
        );
        // One more than the limit, to learn whether more entries follow.
        let asked = (limit.events.saturating_add(1)).min(i64::MAX as usize) as i64;
        let mut statement = self.db.prepare_cached(&sql).map_err(from_sql)?;
        let (after, time) = (page.after().seq as i64, time.min(i64::MAX as u64) as i64);
        let mut rows = statement.query((self.id, after, time, asked)).map_err(from_sql)?;
        while let Some(row) = rows.next().map_err(from_sql)? {
            let entry = entry_row::read(row, self.channel, self.id, self.record.head.cursor.epoch)?;
            if page.take(entry).is_break() {
                break;
            }
        }
        Ok(())
    }

    /// Takes as many entries as fit. Fails if an entry does not follow the one before it: then entries are missing.
    fn take_following(&self, limit: Limit, page: &mut PageBuilder) -> Result<(), StoreError> {
        let (mut at, head) = (page.after(), self.record.head.cursor);
        let due = head.seq.saturating_sub(at.seq).min(limit.events as u64);
        if due == 0 {
            return Ok(());
        }
        let sql = format!("SELECT {ENTRY_COLUMNS} FROM entries WHERE channel = ?1 AND seq > ?2 ORDER BY seq LIMIT ?3");
        let mut statement = self.db.prepare_cached(&sql).map_err(from_sql)?;
        let mut rows = statement.query((self.id, at.seq as i64, due as i64)).map_err(from_sql)?;
        while let Some(row) = rows.next().map_err(from_sql)? {
            let entry = entry_row::read(row, self.channel, self.id, head.epoch)?;
            if entry.prev() != at || (entry.cursor.seq == head.seq && entry.cursor != head) {
                return Err(self.missing_entry(at.seq + 1));
            }
            at = entry.cursor;
            if page.take(entry).is_break() {
                return Ok(());
            }
        }
        if at.seq == head.seq { Ok(()) } else { Err(self.missing_entry(at.seq + 1)) }
    }

    /// The position at `seq`, or the earliest one if that is newer.
    fn position(&self, seq: u64) -> Result<Cursor, StoreError> {
        let Record { head, earliest, .. } = self.record;
        if seq >= head.cursor.seq {
            return Ok(head.cursor);
        }
        if seq <= earliest.seq {
            return Ok(earliest);
        }
        let tag = self
            .column_at(seq, "tag")?
            .and_then(|tag| u32::try_from(tag).ok())
            .ok_or_else(|| self.missing_entry(seq))?;
        Ok(Cursor { seq, tag, ..head.cursor })
    }

    /// A column of the entry at `seq`.
    fn column_at(&self, seq: u64, column: &str) -> Result<Option<u64>, StoreError> {
        self.query_number(
            &format!("SELECT {column} FROM entries WHERE channel = ?1 AND seq = ?2"),
            (self.id, seq as i64),
        )
    }

    fn query_number(&self, sql: &str, params: impl Params) -> Result<Option<u64>, StoreError> {
        let mut statement = self.db.prepare_cached(sql).map_err(from_sql)?;
        let mut rows = statement.query(params).map_err(from_sql)?;
        let Some(row) = rows.next().map_err(from_sql)? else { return Ok(None) };
        row.get::<_, Option<i64>>(0).map(|number| number.map(|number| number as u64)).map_err(from_sql)
    }

    fn missing_entry(&self, seq: u64) -> StoreError {
        corrupt(format!("entry {seq} of channel {} ({}) is missing or out of place", self.id, self.channel.as_str()))
    }
}
