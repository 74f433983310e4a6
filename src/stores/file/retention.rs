//! Retention: what is dropped, and when. Each step is bounded, so that no transaction takes long.

use rusqlite::Connection;

use super::{channel_row::ChannelRow, columns::read_u64};
use crate::{cursor::Cursor, store::kit::Keep};

/// Whether there is enough to drop. A channel may exceed its limits a little, so that not every append also writes to
/// the other end of the log.
pub(super) fn is_exceeded(keep: &Keep, channel_row: &ChannelRow, now: u64) -> bool {
    let count = channel_row.log.count();
    let events = keep.events.saturating_add((keep.events / 4).min(MAX_SLACK));
    let bytes = keep.bytes.saturating_add((keep.bytes / 4).min(MAX_SLACK * 1024));
    count > events
        || (count > 1 && channel_row.log.bytes > bytes)
        || (count > 0 && too_old_at(keep, channel_row.log.oldest) <= now)
}

/// When the janitor should maintain the channel: when its oldest entry, or its record, expires. Not earlier, since each
/// maintenance is a write.
pub(super) fn next_maintenance(channel_row: &ChannelRow, keep: &Keep, now: u64) -> u64 {
    match channel_row.log.count() {
        0 => channel_row.log.next_due(keep, now),
        _ => too_old_at(keep, channel_row.log.oldest),
    }
}

/// When an entry that was appended at `stamp` has to be dropped, if it is the oldest.
pub(super) fn too_old_at(keep: &Keep, stamp: u64) -> u64 {
    let slack = (keep.age / 4).min(MAX_SLACK * 1000);
    stamp.saturating_add(keep.age).saturating_add(slack).saturating_add(1)
}

/// Drops entries that exceed retention, up to a bound that grows with the number `added`. Returns whether it dropped
/// any.
pub(super) fn trim(
    db: &Connection,
    channel_row: &mut ChannelRow,
    keep: &Keep,
    now: u64,
    added: u64,
) -> rusqlite::Result<bool> {
    if !is_exceeded(keep, channel_row, now) {
        return Ok(false);
    }
    let most = MAX_DROPPED + 4 * added;
    let sql = "SELECT seq, tag, appended, time, octet_length(data) + ifnull(octet_length(entries.name), 0) + 64
                 + octet_length(channels.name)
               FROM entries JOIN channels ON channels.id = entries.channel
               WHERE channel = ?1 AND seq > ?2 ORDER BY seq LIMIT ?3";
    let before = channel_row.log.record.earliest;
    let mut statement = db.prepare_cached(sql)?;
    let mut rows = statement.query((channel_row.id, before.seq as i64, (most + 1) as i64))?;
    let mut dropped = 0;
    while let Some(row) = rows.next()? {
        channel_row.log.oldest = read_u64(row, 2)?;
        if !channel_row.log.exceeds(keep, now) || dropped == most {
            break;
        }
        dropped += 1;
        let cursor = Cursor { seq: read_u64(row, 0)?, tag: row.get(1)?, ..before };
        channel_row.log.drop_oldest(cursor, read_u64(row, 3)?, read_u64(row, 4)?, now);
    }
    let sql = "DELETE FROM entries WHERE channel = ?1 AND seq <= ?2";
    db.prepare_cached(sql)?.execute((channel_row.id, channel_row.log.record.earliest.seq as i64))?;
    Ok(dropped > 0)
}

/// Whether the record has been without entries and keys for longer than `forget_after`.
pub(super) fn is_forgotten(db: &Connection, channel_row: &ChannelRow, keep: &Keep, now: u64) -> rusqlite::Result<bool> {
    Ok(channel_row.log.is_over(keep, now) && !has_keys(db, channel_row, keep.oldest_key(now))?)
}

/// Whether a key of the channel was first appended at `since` or later.
pub(super) fn has_keys(db: &Connection, channel_row: &ChannelRow, since: u64) -> rusqlite::Result<bool> {
    let sql = "SELECT EXISTS (SELECT 1 FROM keys WHERE channel = ?1 AND came >= ?2)";
    db.prepare_cached(sql)?.query_row((channel_row.id, since as i64), |row| row.get(0))
}

/// Drops some expired keys of any channel; returns how many.
pub(super) fn expire_keys(db: &Connection, keep: &Keep, now: u64) -> rusqlite::Result<usize> {
    let sql = "DELETE FROM keys WHERE (channel, key) IN (SELECT channel, key FROM keys WHERE came < ?1 LIMIT ?2)";
    let since = keep.oldest_key(now);
    db.prepare_cached(sql)?.execute((since as i64, MAX_DROPPED as i64))
}

/// Drops some of the rows that removed channels left behind; returns how many.
pub(super) fn collect_garbage(db: &Connection) -> rusqlite::Result<usize> {
    let mut removed = db.prepare_cached("SELECT channel FROM garbage ORDER BY channel LIMIT ?1")?;
    let removed = removed.query_map([CHANNELS_PER_COLLECTION as i64], |row| row.get::<_, i64>(0))?;
    let removed: Vec<_> = removed.collect::<Result<_, _>>()?;
    let (mut dropped, most) = (0, MAX_DROPPED as usize);
    for id in removed {
        for sql in [
            "DELETE FROM entries WHERE channel = ?1 AND seq IN
               (SELECT seq FROM entries WHERE channel = ?1 ORDER BY seq LIMIT ?2)",
            "DELETE FROM keys WHERE channel = ?1 AND key IN
               (SELECT key FROM keys WHERE channel = ?1 ORDER BY key LIMIT ?2)",
        ] {
            dropped += db.prepare_cached(sql)?.execute((id, (most - dropped) as i64))?;
            if dropped >= most {
                return Ok(dropped);
            }
        }
        dropped += db.prepare_cached("DELETE FROM garbage WHERE channel = ?1")?.execute([id])?;
        if dropped >= most {
            break;
        }
    }
    Ok(dropped)
}

/// Returns some pages to the system if most of the file is free: after a burst, or when much was deleted. A steady
/// stream of events reuses its free pages. Returns how many pages.
pub(super) fn shrink(db: &Connection) -> rusqlite::Result<usize> {
    let number = |pragma| db.prepare_cached(pragma)?.query_row([], |row| row.get::<_, i64>(0));
    let (free, all) = (number("PRAGMA freelist_count")?, number("PRAGMA page_count")?);
    if free < MIN_FREE_PAGES || free < all / 2 {
        return Ok(0);
    }
    let mut statement = db.prepare_cached("PRAGMA incremental_vacuum(256)")?;
    let mut rows = statement.query([])?;
    while rows.next()?.is_some() {}
    // A file that another program created, as from a dump, cannot shrink.
    Ok((free - number("PRAGMA freelist_count")?).max(0) as usize)
}

/// The most entries, keys or rows of garbage dropped in one step.
const MAX_DROPPED: u64 = 256;

/// The most removed channels whose garbage is dropped in one step: more than are removed in one.
const CHANNELS_PER_COLLECTION: usize = 8;

/// By how many entries a channel may exceed its limits, at most; also by how many KiB and seconds.
const MAX_SLACK: u64 = 64;

/// A file with fewer free pages is not shrunk.
const MIN_FREE_PAGES: i64 = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    /// A file that was created from a dump has no `auto_vacuum`.
    #[test]
    fn a_file_that_cannot_shrink_is_left_as_it_is() {
        for (mode, returned) in [("NONE", 0), ("INCREMENTAL", 256)] {
            let db = Connection::open_in_memory().unwrap();
            let sql = "CREATE TABLE t (x); INSERT INTO t VALUES (zeroblob(8 << 20)); DROP TABLE t;";
            db.execute_batch(&format!("PRAGMA auto_vacuum = {mode}; {sql}")).unwrap();
            assert_eq!(shrink(&db).unwrap(), returned, "{mode}");
        }
    }
}
