//! Pages and heads from what the server answers. Decides outcomes with what all stores share.

use std::sync::Arc;

use bytes::Bytes;
use redis::Value;
use tokio::time::Instant;

use super::{
    codec::{Unpacker, entry_of, hex, record_of},
    error::{CallError, malformed},
    script::Op,
    shared::Shared,
};
use crate::{
    channel::Channel,
    cursor::Cursor,
    store::{
        Head, Limit, Outcome, Page, Start, StoreError,
        resume::{self, Record},
    },
};

/// Reads one page.
pub(super) async fn read(shared: &Shared, channel: &Channel, start: Start, limit: Limit) -> Result<Page, StoreError> {
    let deadline = shared.deadline();
    // Twice, for a record whose time has come is forgotten in between; once more for one that is made again meanwhile.
    for _ in 0..3 {
        let build = |_, cmd: &mut redis::Cmd| {
            cmd.arg(limit.events.min(MAX_EVENTS)).arg(limit.bytes.min(MAX_BYTES));
            start_in(start, cmd);
        };
        let one = std::slice::from_ref(channel);
        let (place, answer) =
            shared.call(&shared.reads, Op::Read, one, deadline, CallError::into_read_error, build).await?;
        let answer = answer.into_iter().map(bytes_of);
        let answer: Vec<Bytes> = answer.collect::<Option<_>>().ok_or_else(|| malformed("text"))?;
        let is_due = matches!(&*answer, [_, due, ..] if &**due == b"due");
        if !is_due || !try_forget(shared, channel, deadline).await {
            return page(place, channel, start, &answer);
        }
    }
    Err(StoreError::Unavailable("the channel's record changes all the time".into()))
}

/// Forgets a channel whose time has come. Where that fails, for the server takes no writes, its record is still right: once
/// it is forgotten, the floor is above it.
pub(super) async fn try_forget(shared: &Shared, channel: &Channel, deadline: Instant) -> bool {
    let forgotten = shared.forget(channel, "due", deadline, CallError::into_read_error).await;
    if let Err(error) = &forgotten {
        tracing::debug!(%error, channel = channel.as_str(), "a channel whose time has come is not forgotten yet");
    }
    forgotten.is_ok()
}

fn start_in(start: Start, cmd: &mut redis::Cmd) {
    match start {
        Start::Beginning | Start::Earliest => cmd.arg("earliest"),
        Start::Latest => cmd.arg("latest"),
        Start::Last(n) => cmd.arg("last").arg(n),
        Start::Time(time) => cmd.arg("time").arg(time),
        Start::After(Cursor { epoch, seq, tag }) => cmd.arg("after").arg(hex(epoch)).arg(seq).arg(&tag.to_be_bytes()),
    };
}

/// The answer: record, `due` when its time has come, start (seq and tag), tag at the cursor, whether more entries above a time are left; then
/// id, header and event of each entry. Of an absent channel an empty text and its floor.
fn page(place: u64, channel: &Channel, start: Start, answer: &[Bytes]) -> Result<Page, StoreError> {
    let ([record, floor_or_due, from_seq, from_tag, tag, left], entries) = split(answer)?;
    if record.is_empty() {
        let floor = number(floor_or_due).ok_or_else(|| malformed("floor"))?;
        return Ok(empty_page(&Record::absent(place, floor, channel), start));
    }
    let (record, _) = record_of(record).ok_or_else(|| malformed("record"))?;
    let head = record.head;
    let epoch = head.cursor.epoch;
    let from = |seq, tag: &Bytes| Some(Cursor { epoch, seq: number(seq)?, tag: Unpacker(tag).tag()? });
    let from = from(from_seq, from_tag).ok_or_else(|| malformed("start"))?;
    let entry = |chunk: &[Bytes]| match chunk {
        [id, header, blob] => entry_of(channel, epoch, parse(id.strip_suffix(b"-0")?)?, header, blob),
        _ => None,
    };
    let entries: Option<Vec<_>> = entries.chunks(3).map(entry).collect();
    let entries = entries.ok_or_else(|| malformed("entries"))?;
    let is_whole = matches!(start, Start::Time(_))
        || entries.iter().zip(from.seq + 1..).all(|(entry, seq)| entry.cursor.seq == seq);
    if !is_whole {
        return Err(StoreError::Corrupt("a log has a hole".into()));
    }
    let last = entries.last().map_or(from, |last| last.cursor);
    let outcome = match start {
        Start::After(cursor) => resume::outcome(&record, cursor, |_| Unpacker(tag).tag()),
        Start::Time(time) => resume::outcome_of_time(&record, time),
        _ => Outcome::Continued,
    };
    // What a start by time filtered out behind the last entry was looked at.
    let next = if matches!(start, Start::Time(_)) && &**left != b"1" { head.cursor } else { last };
    Ok(Page { outcome, from, entries, next, head })
}

fn split(answer: &[Bytes]) -> Result<([&Bytes; 6], &[Bytes]), StoreError> {
    match answer {
        [record, floor, rest @ ..] if record.is_empty() && rest.is_empty() => {
            Ok(([record, floor, record, record, record, record], &[]))
        }
        [a, b, c, d, e, f, entries @ ..] => Ok(([a, b, c, d, e, f], entries)),
        _ => Err(malformed("page")),
    }
}

/// An absent channel reads as an empty one.
fn empty_page(record: &Record, start: Start) -> Page {
    let outcome = match start {
        Start::After(cursor) => resume::outcome(record, cursor, |_| None),
        _ => Outcome::Continued,
    };
    let (from, head) = (record.head.cursor, record.head);
    Page { outcome, from, entries: Vec::new(), next: from, head }
}

/// A page of the channels that there are: names and records, as they are listed; the list is made anew first where it is
/// not whole, for an empty page means the end.
pub(super) async fn channels(
    shared: &Arc<Shared>,
    prefix: &str,
    after: Option<&Channel>,
    limit: usize,
) -> Result<Vec<(Channel, Head)>, StoreError> {
    let (deadline, most) = (shared.deadline(), limit.min(MAX_LISTED));
    if most == 0 {
        return Ok(Vec::new());
    }
    let mut from = match after {
        Some(after) if after.as_str() >= prefix => bound("(", after.as_str().as_bytes()),
        _ => bound("[", prefix.as_bytes()),
    };
    // No name has a byte that is not UTF-8.
    let to = bound("(", &[prefix.as_bytes(), &[0xff]].concat());
    let mut is_listed_anew = false;
    loop {
        let build = |_, cmd: &mut redis::Cmd| _ = cmd.arg(&from).arg(&to).arg(most);
        let (_, answer) =
            shared.call(&shared.reads, Op::List, &[], deadline, CallError::into_read_error, build).await?;
        let [is_whole, last, found @ ..] = &*answer else { return Err(malformed("page")) };
        if text_of(is_whole) == Some(b"0") && !is_listed_anew {
            shared.rebuild_listing(deadline).await?;
            is_listed_anew = true;
            continue;
        }
        let last = text_of(last).ok_or_else(|| malformed("name"))?;
        let page: Vec<_> = found.chunks(2).filter_map(listed).collect();
        if !page.is_empty() || last.is_empty() {
            return Ok(page);
        }
        from = bound("(", last);
    }
}

fn bound(kind: &str, name: &[u8]) -> Vec<u8> {
    [kind.as_bytes(), name].concat()
}

fn listed(found: &[Value]) -> Option<(Channel, Head)> {
    let [name, record] = found else { return None };
    let name = std::str::from_utf8(text_of(name)?).ok()?;
    match (Channel::new(name), text_of(record).and_then(record_of)) {
        (Ok(channel), Some((record, _))) => Some((channel, record.head)),
        _ => {
            tracing::warn!(name, "a channel in the Redis server cannot be read, and is not listed");
            None
        }
    }
}

fn bytes_of(value: Value) -> Option<Bytes> {
    match value {
        Value::BulkString(bytes) => Some(Bytes::from(bytes)),
        _ => None,
    }
}

pub(super) fn text_of(value: &Value) -> Option<&[u8]> {
    match value {
        Value::BulkString(bytes) => Some(bytes),
        _ => None,
    }
}

fn number<T: std::str::FromStr>(bytes: &Bytes) -> Option<T> {
    parse(bytes)
}

pub(super) fn parse<T: std::str::FromStr>(bytes: &[u8]) -> Option<T> {
    std::str::from_utf8(bytes).ok()?.parse().ok()
}

/// Most entries and bytes of one page, whatever is asked: a script that takes longer makes everyone wait.
const MAX_EVENTS: usize = 10_000;
const MAX_BYTES: usize = 16 << 20;

/// Most channels of one page.
const MAX_LISTED: usize = 1000;
