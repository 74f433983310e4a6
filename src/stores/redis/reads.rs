//! Reading pages. Outcomes are decided by the code that all stores share.

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
        Entry, Limit, Page, Start, StoreError,
        kit::{empty_page, outcome_of},
        resume::Record,
    },
};

/// Reads one page.
pub(super) async fn read(shared: &Shared, channel: &Channel, start: Start, limit: Limit) -> Result<Page, StoreError> {
    let deadline = shared.deadline();
    // A second read when the record was due and has been forgotten; a third for a channel that was recreated in
    // between.
    for _ in 0..3 {
        let build = |_, cmd: &mut redis::Cmd| {
            cmd.arg(limit.events.min(MAX_EVENTS)).arg(limit.bytes.min(MAX_BYTES));
            push_start(start, cmd);
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
    Err(StoreError::Unavailable("the channel's record keeps changing".into()))
}

/// Forgets a channel that is due. If that fails because the server takes no writes, the record is still correct: once
/// it is forgotten, the floor is above it.
pub(super) async fn try_forget(shared: &Shared, channel: &Channel, deadline: Instant) -> bool {
    let forgotten = shared.forget(channel, "due", deadline, CallError::into_read_error).await;
    if let Err(error) = &forgotten {
        tracing::debug!(%error, channel = channel.as_str(), "a channel that is due cannot be forgotten yet");
    }
    forgotten.is_ok()
}

fn push_start(start: Start, cmd: &mut redis::Cmd) {
    match start {
        Start::Beginning | Start::Earliest => cmd.arg("earliest"),
        Start::Latest => cmd.arg("latest"),
        Start::Last(n) => cmd.arg("last").arg(n),
        Start::Time(time) => cmd.arg("time").arg(time),
        Start::After(Cursor { epoch, seq, tag }) => cmd.arg("after").arg(hex(epoch)).arg(seq).arg(&tag.to_be_bytes()),
    };
}

/// The reply: the record, `due` if the channel is to be forgotten, the start (seq and tag), the tag at the cursor,
/// whether entries above the start time are left, and then id, header and event of each entry. For an absent channel,
/// an empty text and its floor.
pub(super) fn page(place: u64, channel: &Channel, start: Start, answer: &[Bytes]) -> Result<Page, StoreError> {
    let ([record, floor_or_due, from_seq, from_tag, tag, left], entries) = split(answer)?;
    if record.is_empty() {
        let floor = parse_number(floor_or_due).ok_or_else(|| malformed("floor"))?;
        return Ok(empty_page(&Record::absent(place, floor, channel), start));
    }
    let (record, _) = record_of(record).ok_or_else(|| malformed("record"))?;
    let head = record.head;
    let epoch = head.cursor.epoch;
    let from = |seq, tag: &Bytes| Some(Cursor { epoch, seq: parse_number(seq)?, tag: Unpacker(tag).tag()? });
    let from = from(from_seq, from_tag).ok_or_else(|| malformed("start"))?;
    let entry = |chunk: &[Bytes]| match chunk {
        [id, header, blob] => entry_of(channel, epoch, parse(id.strip_suffix(b"-0")?)?, header, blob),
        _ => None,
    };
    let entries: Option<Vec<_>> = entries.chunks(3).map(entry).collect();
    let entries = entries.ok_or_else(|| malformed("entries"))?;
    let follows = |(entry, nth): (&Entry, u64)| Some(entry.cursor.seq) == from.seq.checked_add(nth);
    let is_whole = matches!(start, Start::Time(_)) || entries.iter().zip(1..).all(follows);
    if !is_whole {
        return Err(StoreError::Corrupt("entries are missing from a log".into()));
    }
    let last = entries.last().map_or(from, |last| last.cursor);
    let outcome = outcome_of(&record, start, |_| Unpacker(tag).tag());
    // A start by time has examined the entries behind the last match, too.
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

fn parse_number<T: std::str::FromStr>(bytes: &Bytes) -> Option<T> {
    parse(bytes)
}

pub(super) fn parse<T: std::str::FromStr>(bytes: &[u8]) -> Option<T> {
    std::str::from_utf8(bytes).ok()?.parse().ok()
}

/// Upper bounds for one page, whatever the caller asks for: longer scripts would block the server for all clients.
const MAX_EVENTS: usize = 10_000;
const MAX_BYTES: usize = 16 << 20;
