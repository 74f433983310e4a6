//! Reading pages: the parameters, and what the rows mean. Outcomes are decided by the code that all stores share.

use tokio_postgres::{Error, Row, types::Type};

use super::{
    database::{Database, Param},
    error::CallError,
    settings::Settings,
};
use crate::{
    channel::Channel,
    cursor::{Cursor, epoch_of},
    event::{Data, EventName},
    store::{
        Entry, Head, Limit, Outcome, Page, Source, Start, StoreError, floor,
        kit::{empty_page, outcome_of},
        resume::{self, Record},
    },
};

/// Reads one page.
pub(super) async fn read(
    database: &Database,
    settings: &Settings,
    channel: &Channel,
    start: Start,
    limit: Limit,
) -> Result<Page, StoreError> {
    let (kind, at) = match start {
        Start::Beginning | Start::Earliest => (0, Cursor { epoch: 0, seq: 0, tag: 0 }),
        Start::Latest => (1, Cursor { epoch: 0, seq: 0, tag: 0 }),
        Start::After(cursor) => (2, cursor),
        Start::Time(time) => (3, Cursor { epoch: 0, seq: time, tag: 0 }),
        Start::Last(n) => (4, Cursor { epoch: 0, seq: n, tag: 0 }),
    };
    let (name, now) = (channel.as_str(), settings.now());
    let age = settings.keep[2];
    if let (Start::After(cursor), 1..) = (start, limit.events) {
        if let Some(page) = read_following(database, settings, channel, cursor, limit).await? {
            return Ok(page);
        }
    }
    let (epoch, tag) = (at.epoch as i64, at.tag as i32);
    let [seq, events, bytes] = [at.seq, limit.events as u64, limit.bytes as u64].map(saturated);
    let rows = database
        .read(
            &database.sql.read,
            &[
                (&name, Type::TEXT),
                (&now, Type::INT8),
                (&age, Type::INT8),
                (&kind, Type::INT4),
                (&epoch, Type::INT8),
                (&seq, Type::INT8),
                (&tag, Type::INT4),
                (&events, Type::INT8),
                (&bytes, Type::INT8),
                (&bucket(channel), Type::INT4),
            ],
        )
        .await
        .map_err(CallError::into_read_error)?;
    let row = rows.first().ok_or_else(|| corrupt("the server answered a read with no row"))?;
    page(row, channel, start, limit).map_err(StoreError::Corrupt)
}

/// Reads what comes right after a position; `None` when that position is not there, and more has to be decided.
async fn read_following(
    database: &Database,
    settings: &Settings,
    channel: &Channel,
    from: Cursor,
    limit: Limit,
) -> Result<Option<Page>, StoreError> {
    let (name, epoch, now) = (channel.as_str(), from.epoch as i64, settings.now());
    let [seq, events, bytes] = [from.seq, limit.events as u64, limit.bytes as u64].map(saturated);
    let params: [Param<'_>; 7] = [
        (&name, Type::TEXT),
        (&epoch, Type::INT8),
        (&seq, Type::INT8),
        (&events, Type::INT8),
        (&bytes, Type::INT8),
        (&now, Type::INT8),
        (&settings.keep[2], Type::INT8),
    ];
    let rows = database.read(&database.sql.read_following, &params).await.map_err(CallError::into_read_error)?;
    page_if_adjacent(&rows, channel, from).map_err(StoreError::Corrupt)
}

/// The page, if the first row comes right after `from` and is not too old: its mark of the predecessor proves that.
fn page_if_adjacent(rows: &[Row], channel: &Channel, from: Cursor) -> Result<Option<Page>, Source> {
    let Some(first) = rows.first() else { return Ok(None) };
    let (tag, closed) = (first.try_get::<_, i32>(1)? as u32, first.try_get(2)?);
    let head = Head { cursor: Cursor { seq: first.try_get::<_, i64>(0)? as u64, tag, ..from }, closed };
    let entries = rows.iter().map(|row| entry(row, channel, from.epoch)).collect::<Result<Vec<_>, _>>()?;
    let follows = is_contiguous(from, &entries);
    let next = entries.last().map_or(from, |last| last.cursor);
    let page = Page { outcome: Outcome::Continued, from, next, entries, head };
    Ok((follows && first.try_get(11)?).then_some(page))
}

/// Whether each entry comes right after the previous one.
fn is_contiguous(from: Cursor, entries: &[Entry]) -> bool {
    let positions = std::iter::once(from).chain(entries.iter().map(|entry| entry.cursor));
    positions.zip(entries).all(|(before, entry)| entry.prev() == before)
}

fn entry(row: &Row, channel: &Channel, epoch: u64) -> Result<Entry, Source> {
    let (is_text, data): (bool, &[u8]) = (row.try_get(8)?, row.try_get(10)?);
    Ok(Entry {
        channel: channel.clone(),
        cursor: Cursor { epoch, seq: row.try_get::<_, i64>(3)? as u64, tag: row.try_get::<_, i32>(4)? as u32 },
        prev_tag: row.try_get::<_, i32>(5)? as u32,
        appended: row.try_get::<_, i64>(6)? as u64,
        time: row.try_get::<_, i64>(7)? as u64,
        name: row.try_get::<_, Option<&str>>(9)?.map(EventName::new).transpose()?,
        data: if is_text { text(data)? } else { Data::from_json(data)? },
    })
}

fn page(row: &Row, channel: &Channel, start: Start, limit: Limit) -> Result<Page, Source> {
    let Some(epoch) = row.try_get::<_, Option<i64>>("o_epoch")? else {
        return absent(row, channel, start);
    };
    let epoch = epoch as u64;
    let cursor = |seq, tag| -> Result<Cursor, Error> {
        Ok(Cursor { epoch, seq: row.try_get::<_, i64>(seq)? as u64, tag: row.try_get::<_, i32>(tag)? as u32 })
    };
    let head = Head { cursor: cursor("o_seq", "o_tag")?, closed: row.try_get("o_closed")? };
    let dropped_time = row.try_get::<_, Option<i64>>("o_dropped_time")?.map(|time| time as u64);
    let record = Record { head, earliest: cursor("o_earliest_seq", "o_earliest_tag")?, dropped_time };
    let from = cursor("o_from_seq", "o_from_tag")?;
    let entries = entries(row, channel, epoch)?;
    let last = entries.last().map_or(from, |entry| entry.cursor);
    let at_tag: Option<i32> = row.try_get("o_at_tag")?;
    let outcome = outcome_of(&record, start, |_| at_tag.map(|tag| tag as u32));
    // For a start by time, everything after the last entry was examined, unless more entries match.
    let last_match: Option<i64> = row.try_get("o_last_match")?;
    let all_seen = matches!(start, Start::Time(_)) && last_match.is_none_or(|seq| seq as u64 <= last.seq);
    // Entries that a start by time leaves out are not missing.
    let is_due = !matches!(start, Start::Time(_)) && limit.events > 0 && from != head.cursor;
    if is_due && (entries.is_empty() || !is_contiguous(from, &entries)) {
        return Err("entries are missing".into());
    }
    match start {
        // The server chose the entries by the same rule.
        Start::After(cursor) if (outcome == Outcome::Continued) != (from == cursor) && from != record.earliest => {
            Err("the server and the store disagree about a resume".into())
        }
        _ => Ok(Page { outcome, from, next: if all_seen { head.cursor } else { last }, entries, head }),
    }
}

/// An absent channel reads as an empty one.
fn absent(row: &Row, channel: &Channel, start: Start) -> Result<Page, Source> {
    let floor = row.try_get::<_, Option<i64>>("o_floor")?.ok_or("the floor lacks a row")?;
    Ok(empty_page(&absent_record(channel, row.try_get("o_place")?, floor), start))
}

/// The record of an absent channel in a place with this stored epoch and floor.
pub(super) fn absent_record(channel: &Channel, place: i64, floor: i64) -> Record {
    Record::absent(place as u64, floor as u64, channel)
}

fn entries(row: &Row, channel: &Channel, epoch: u64) -> Result<Vec<Entry>, Source> {
    let Some(seqs) = row.try_get::<_, Option<Vec<i64>>>("o_seqs")? else { return Ok(Vec::new()) };
    let tags: Vec<i32> = row.try_get("o_tags")?;
    let prev_tags: Vec<i32> = row.try_get("o_prev_tags")?;
    let stamps: Vec<i64> = row.try_get("o_appended")?;
    let times: Vec<i64> = row.try_get("o_times")?;
    let kinds: Vec<bool> = row.try_get("o_is_text")?;
    let names: Vec<Option<&str>> = row.try_get("o_names")?;
    let data: Vec<&[u8]> = row.try_get("o_data")?;
    let positions = seqs.into_iter().zip(tags).zip(prev_tags);
    let content = kinds.into_iter().zip(names).zip(data);
    positions
        .zip(stamps.into_iter().zip(times))
        .zip(content)
        .map(|((((seq, tag), prev_tag), (appended, time)), ((is_text, name), data))| {
            Ok(Entry {
                channel: channel.clone(),
                cursor: Cursor { epoch, seq: seq as u64, tag: tag as u32 },
                prev_tag: prev_tag as u32,
                appended: appended as u64,
                time: time as u64,
                name: name.map(EventName::new).transpose()?,
                data: if is_text { text(data)? } else { Data::from_json(data)? },
            })
        })
        .collect()
}

fn text(data: &[u8]) -> Result<Data, Source> {
    Ok(Data::text_from_utf8(data)?)
}

fn saturated(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// The epoch of a history that replaces another.
pub(super) fn new_epoch(channel: &Channel) -> u64 {
    epoch_of(resume::fresh_epoch(), channel)
}

/// The bucket of the floor, as the server stores it.
pub(super) fn bucket(channel: &Channel) -> i32 {
    i32::from(floor::bucket_of(channel))
}

pub(super) fn corrupt(what: &'static str) -> StoreError {
    StoreError::Corrupt(what.into())
}
