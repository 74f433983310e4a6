//! Reads and heads: what is asked, and what the rows mean. The outcome of a resume is decided where all stores decide it.

use std::collections::HashMap;

use tokio_postgres::{Error, Row, types::Type};

use super::{
    database::{Database, Param},
    failure::Failure,
    settings::Settings,
};
use crate::{
    channel::Channel,
    cursor::{Cursor, epoch_of},
    event::{Data, EventName},
    store::{
        Entry, Head, Limit, Outcome, Page, Source, Start, StoreError, floor,
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
        if let Some(page) = read_on(database, settings, channel, cursor, limit).await? {
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
        .map_err(Failure::of_read)?;
    let row = rows.first().ok_or_else(|| corrupt("a read without an answer"))?;
    page(row, channel, start, limit).map_err(StoreError::Corrupt)
}

/// Reads what comes right after a position; none where that is not there, and more has to be decided.
async fn read_on(
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
    let rows = database.read(&database.sql.read_on, &params).await.map_err(Failure::of_read)?;
    following(&rows, channel, from).map_err(StoreError::Corrupt)
}

/// The page when the first row comes right after `from`, and is not too old: its mark of what came before proves that.
fn following(rows: &[Row], channel: &Channel, from: Cursor) -> Result<Option<Page>, Source> {
    let Some(first) = rows.first() else { return Ok(None) };
    let (tag, closed) = (first.try_get::<_, i32>(1)? as u32, first.try_get(2)?);
    let head = Head { cursor: Cursor { seq: first.try_get::<_, i64>(0)? as u64, tag, ..from }, closed };
    let entries = rows.iter().map(|row| entry(row, channel, from.epoch)).collect::<Result<Vec<_>, _>>()?;
    let follows = is_whole(from, &entries);
    let next = entries.last().map_or(from, |last| last.cursor);
    let page = Page { outcome: Outcome::Continued, from, next, entries, head };
    Ok((follows && first.try_get(11)?).then_some(page))
}

/// Whether each entry comes right after the one before it.
fn is_whole(from: Cursor, entries: &[Entry]) -> bool {
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
    let outcome = match start {
        Start::After(cursor) => resume::outcome(&record, cursor, |_| at_tag.map(|tag| tag as u32)),
        Start::Time(time) => resume::outcome_of_time(&record, time),
        Start::Beginning | Start::Earliest | Start::Latest | Start::Last(_) => Outcome::Continued,
    };
    // Behind the last entry of a start by time, all was looked at unless there is more.
    let last_match: Option<i64> = row.try_get("o_last_match")?;
    let all_seen = matches!(start, Start::Time(_)) && last_match.is_none_or(|seq| seq as u64 <= last.seq);
    // What a start by time leaves out is not missing.
    let is_due = !matches!(start, Start::Time(_)) && limit.events > 0 && from != head.cursor;
    if is_due && (entries.is_empty() || !is_whole(from, &entries)) {
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
    let record = absent_record(channel, row.try_get("o_place")?, floor);
    let outcome = match start {
        Start::After(cursor) => resume::outcome(&record, cursor, |_| None),
        _ => Outcome::Continued,
    };
    let at = record.head.cursor;
    Ok(Page { outcome, from: at, entries: Vec::new(), next: at, head: record.head })
}

/// The head of a channel that does not exist, in a place with this epoch and floor as they are stored.
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

/// The heads of many channels, in the order asked.
pub(super) async fn heads(database: &Database, channels: &[Channel]) -> Result<Vec<Head>, StoreError> {
    let likely = database.absent.were_absent(channels);
    let heads = if channels.len() > FEW || likely.contains(&true) {
        whole_heads(database, channels).await?
    } else {
        heads_there(database, channels).await?
    };
    // An empty channel may well be forgotten next.
    database.absent.record(channels.iter().zip(&heads).map(|(channel, head)| (channel, head.cursor.tag == 0)));
    Ok(heads)
}

/// The heads of channels, all of which are likely to be there: others cost a second statement.
async fn heads_there(database: &Database, channels: &[Channel]) -> Result<Vec<Head>, StoreError> {
    let names: Vec<_> = channels.iter().map(Channel::as_str).collect();
    let rows = database.read(&database.sql.heads_there, &[(&names, Type::TEXT_ARRAY)]).await;
    let rows = rows.map_err(Failure::of_read)?;
    let there: HashMap<_, _> = rows.iter().map(there).collect::<Result<_, _>>().map_err(StoreError::Corrupt)?;
    let mut heads: Vec<_> = names.iter().map(|name| there.get(name).copied().flatten()).collect();
    let pairs = channels.iter().zip(&heads);
    let absent: Vec<_> = pairs.filter(|(_, head)| head.is_none()).map(|(channel, _)| channel.clone()).collect();
    if !absent.is_empty() {
        let slots = heads.iter_mut().filter(|head| head.is_none());
        slots.zip(whole_heads(database, &absent).await?).for_each(|(slot, head)| *slot = Some(head));
    }
    Ok(heads.into_iter().flatten().collect())
}

fn there(row: &Row) -> Result<(&str, Option<Head>), Source> {
    Ok((row.try_get(0)?, head_from(row, 1)?))
}

/// The heads of channels, be they there or not.
async fn whole_heads(database: &Database, channels: &[Channel]) -> Result<Vec<Head>, StoreError> {
    let names: Vec<_> = channels.iter().map(Channel::as_str).collect();
    let buckets: Vec<_> = channels.iter().map(bucket).collect();
    let params: [Param<'_>; 2] = [(&names, Type::TEXT_ARRAY), (&buckets, Type::INT4_ARRAY)];
    let rows = database.read(&database.sql.heads, &params).await.map_err(Failure::of_read)?;
    let mut heads = vec![None; channels.len()];
    for row in &rows {
        let (nth, head) = head(row, channels).map_err(StoreError::Corrupt)?;
        if let Some(slot) = heads.get_mut(nth) {
            *slot = Some(head);
        }
    }
    heads.into_iter().map(|head| head.ok_or_else(|| corrupt("the place has no row"))).collect()
}

/// Most channels that are looked for among those that exist.
const FEW: usize = 100;

/// A head, and of which of the channels it is.
fn head(row: &Row, channels: &[Channel]) -> Result<(usize, Head), Source> {
    let nth = row.try_get::<_, i32>(1)?.saturating_sub(1) as usize;
    if let Some(head) = head_from(row, 2)? {
        return Ok((nth, head));
    }
    let channel = channels.get(nth).ok_or("a head that nobody asked for")?;
    let floor = row.try_get::<_, Option<i64>>(3)?.ok_or("the floor lacks a row")?;
    Ok((nth, absent_record(channel, row.try_get(0)?, floor).head))
}

/// The head in four columns; none when the first, the epoch, is null.
fn head_from(row: &Row, at: usize) -> Result<Option<Head>, Source> {
    let Some(epoch) = row.try_get::<_, Option<i64>>(at)? else { return Ok(None) };
    let (seq, tag) = (row.try_get::<_, i64>(at + 1)? as u64, row.try_get::<_, i32>(at + 2)? as u32);
    Ok(Some(Head { cursor: Cursor { epoch: epoch as u64, seq, tag }, closed: row.try_get(at + 3)? }))
}

/// A page of the channels whose names begin with `prefix`. One whose record is missing is left out.
pub(super) async fn channels(
    database: &Database,
    prefix: &str,
    after: Option<&Channel>,
    limit: usize,
) -> Result<Vec<(Channel, Head)>, StoreError> {
    let mut after = after.map_or(String::new(), |after| after.as_str().to_owned());
    // No name has the character that the server takes in no text.
    if limit == 0 || prefix.contains('\0') {
        return Ok(Vec::new());
    }
    // As long as a name can be: whatever begins with the prefix comes before it.
    let (last, limit) = (format!("{prefix}{}", "\u{10ffff}".repeat(64)), limit.min(MOST_LISTED) as i64);
    loop {
        let (names, kind) = ((&prefix, &after, &last), Type::TEXT);
        let params: [Param<'_>; 4] =
            [(names.0, kind.clone()), (names.1, kind.clone()), (names.2, kind), (&limit, Type::INT8)];
        let rows = database.read(&database.sql.names, &params).await.map_err(Failure::of_read)?;
        let Some(row) = rows.last() else { return Ok(Vec::new()) };
        after = row.try_get(0).map_err(|error| StoreError::Corrupt(error.into()))?;
        let listed: Vec<_> = rows.iter().filter_map(listed).collect();
        if !listed.is_empty() {
            return Ok(listed);
        }
    }
}

fn listed(row: &Row) -> Option<(Channel, Head)> {
    let name: &str = row.try_get(0).ok()?;
    let read = || Ok::<_, Source>((Channel::new(name)?, head_from(row, 1)?.ok_or("it has no record")?));
    match read() {
        Ok(listed) => Some(listed),
        Err(error) => {
            tracing::warn!(channel = name, %error, "a channel in PostgreSQL cannot be listed");
            None
        }
    }
}

/// Most channels of one page.
const MOST_LISTED: usize = 1000;

/// The epoch of a history that replaces another.
pub(super) fn new_epoch(channel: &Channel) -> u64 {
    epoch_of(resume::fresh_epoch(), channel)
}

/// The bucket of the floor, as the server has it.
pub(super) fn bucket(channel: &Channel) -> i32 {
    i32::from(floor::bucket_of(channel))
}

fn corrupt(what: &'static str) -> StoreError {
    StoreError::Corrupt(what.into())
}
