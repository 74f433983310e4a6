//! Pages and heads from what the server answers. Decides outcomes with what all stores share.

use std::sync::Arc;

use bytes::Bytes;
use redis::Value;
use tokio::time::Instant;

use super::{
    codec::{self, Packed, entry_of, record_of},
    failure::{Failure, strange},
    script::{FORMAT, Op, epoch_text, hex},
    shared::{Shared, format_of},
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
            cmd.arg(limit.events.min(MOST_EVENTS)).arg(limit.bytes.min(MOST_BYTES));
            start_in(start, cmd);
        };
        let about = std::slice::from_ref(channel);
        let (place, answer) = shared.at(&shared.reads, Op::Read, about, deadline, Failure::of_read, build).await?;
        let answer = answer.into_iter().map(bytes_of);
        let answer: Vec<Bytes> = answer.collect::<Option<_>>().ok_or_else(|| strange("text"))?;
        let is_due = matches!(&*answer, [_, due, ..] if &**due == b"due");
        if !is_due || !has_forgotten(shared, channel, deadline).await {
            return page(place, channel, start, &answer);
        }
    }
    Err(StoreError::Unavailable("the channel's record changes all the time".into()))
}

/// Forgets a channel whose time has come. Where that fails, for the server takes no writes, its record is still right: once
/// it is forgotten, the floor is above it.
async fn has_forgotten(shared: &Shared, channel: &Channel, deadline: Instant) -> bool {
    let forgotten = shared.forget(channel, "due", deadline, Failure::of_read).await;
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

/// The answer: record, `due` when its time has come, start (seq and tag), tag at the cursor, whether more entries above a time are left; then seq,
/// header and event of each entry. Of an absent channel an empty text and its floor.
fn page(place: u64, channel: &Channel, start: Start, answer: &[Bytes]) -> Result<Page, StoreError> {
    let ([record, floor_or_due, from_seq, from_tag, tag, left], entries) = split(answer)?;
    if record.is_empty() {
        let floor = number(floor_or_due).ok_or_else(|| strange("floor"))?;
        return Ok(page_of_nothing(&Record::absent(place, floor, channel), start));
    }
    let (record, _) = record_of(record).ok_or_else(|| strange("record"))?;
    let head = record.head;
    let epoch = head.cursor.epoch;
    let from = |seq, tag: &Bytes| Some(Cursor { epoch, seq: number(seq)?, tag: Packed(tag).tag()? });
    let from = from(from_seq, from_tag).ok_or_else(|| strange("start"))?;
    let entry = |chunk: &[Bytes]| match chunk {
        [seq, header, blob] => entry_of(channel, epoch, number(seq)?, header, blob),
        _ => None,
    };
    let entries: Option<Vec<_>> = entries.chunks(3).map(entry).collect();
    let entries = entries.ok_or_else(|| strange("entries"))?;
    let last = entries.last().map_or(from, |last| last.cursor);
    let outcome = match start {
        Start::After(cursor) => resume::outcome(&record, cursor, |_| Packed(tag).tag()),
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
        _ => Err(strange("page")),
    }
}

/// An absent channel reads as an empty one.
fn page_of_nothing(record: &Record, start: Start) -> Page {
    let outcome = match start {
        Start::After(cursor) => resume::outcome(record, cursor, |_| None),
        _ => Outcome::Continued,
    };
    let (from, head) = (record.head.cursor, record.head);
    Page { outcome, from, entries: Vec::new(), next: from, head }
}

/// The heads of many channels: a field each, so no script has to run.
pub(super) async fn heads(shared: &Shared, channels: &[Channel]) -> Result<Vec<Head>, StoreError> {
    let deadline = shared.deadline();
    let mut heads = Vec::with_capacity(channels.len());
    for some in channels.chunks(MOST_HEADS) {
        heads.extend(some_heads(shared, some, deadline).await?);
    }
    Ok(heads)
}

async fn some_heads(shared: &Shared, channels: &[Channel], deadline: Instant) -> Result<Vec<Head>, StoreError> {
    let mut asked = redis::pipe();
    asked.add_command(shared.scripts.records(channels)).cmd("TIME");
    for _ in 0..4 {
        let place = shared.place(deadline).await?;
        let answers = shared.reads.ask(asked.clone(), deadline).await.map_err(Failure::of_read);
        let answers = answers.inspect_err(|error| shared.trouble.note_read(error))?;
        let [Value::Array(fields), Value::Array(time)] = &*answers else { return Err(strange("heads")) };
        let now = shared.settings.clock.as_ref().map_or_else(|| server_time(time), |clock| Some(clock.now()));
        let answer = Fields { place, now: now.ok_or_else(|| strange("time"))?, fields };
        match answer.heads(shared, channels, deadline).await? {
            Some(heads) => return Ok(heads),
            None => shared.place_moved(place),
        }
    }
    Err(StoreError::Unavailable("the place changes all the time".into()))
}

/// What the place said of some channels.
struct Fields<'a> {
    place: u64,
    now: u64,
    fields: &'a [Value],
}

impl Fields<'_> {
    /// `None` when it is another place than was thought.
    async fn heads(
        &self,
        shared: &Shared,
        channels: &[Channel],
        deadline: Instant,
    ) -> Result<Option<Vec<Head>>, StoreError> {
        let [epoch, format, floor, keep, fields @ ..] = self.fields else { return Err(strange("heads")) };
        if text_of(epoch) != Some(epoch_text(self.place).as_bytes()) {
            return Ok(None);
        }
        text_of(format).and_then(format_of).ok_or_else(|| strange("format"))?.may_read(FORMAT.version())?;
        let (records, floors) = fields.split_at_checked(channels.len()).ok_or_else(|| strange("records"))?;
        let kept_for = codec::kept_for(shared.keeps(), text_of(keep).unwrap_or_default(), self.now);
        let (mut heads, mut can_forget) = (Vec::with_capacity(channels.len()), true);
        for (channel, (record, bucket)) in channels.iter().zip(records.iter().zip(floors)) {
            let Some(text) = text_of(record) else {
                // Not below the one floor that older formats had for all.
                let floor = floor_in(bucket).max(floor_in(floor));
                heads.push(Record::absent(self.place, floor, channel).head);
                continue;
            };
            let unreadable = || StoreError::Corrupt(format!("the record of {channel:?} cannot be read").into());
            let (record, last) = record_of(text).ok_or_else(unreadable)?;
            let is_due = self.now.saturating_sub(last) > kept_for;
            // What fails for one would fail for all.
            can_forget = can_forget && (!is_due || has_forgotten(shared, channel, deadline).await);
            heads.push(if is_due && can_forget {
                read(shared, channel, Start::Latest, Limit::POSITION).await?.head
            } else {
                record.head
            });
        }
        Ok(Some(heads))
    }
}

fn floor_in(field: &Value) -> u64 {
    text_of(field).and_then(parse).unwrap_or(0)
}

/// A page of the channels that there are: names and records, as they are listed; the list is made anew first where it is
/// not whole, for an empty page means the end.
pub(super) async fn channels(
    shared: &Arc<Shared>,
    prefix: &str,
    after: Option<&Channel>,
    limit: usize,
) -> Result<Vec<(Channel, Head)>, StoreError> {
    let (deadline, most) = (shared.deadline(), limit.min(MOST_HEADS));
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
        let (_, answer) = shared.at(&shared.reads, Op::List, &[], deadline, Failure::of_read, build).await?;
        let [is_whole, last, found @ ..] = &*answer else { return Err(strange("page")) };
        if text_of(is_whole) == Some(b"0") && !is_listed_anew {
            shared.list_all(deadline).await?;
            is_listed_anew = true;
            continue;
        }
        let last = text_of(last).ok_or_else(|| strange("name"))?;
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

fn server_time(time: &[Value]) -> Option<u64> {
    let [seconds, micros] = time else { return None };
    let (seconds, micros): (u64, u64) = (text_of(seconds).and_then(parse)?, text_of(micros).and_then(parse)?);
    Some(seconds * 1000 + micros / 1000)
}

fn bytes_of(value: Value) -> Option<Bytes> {
    match value {
        Value::BulkString(bytes) => Some(Bytes::from(bytes)),
        _ => None,
    }
}

fn text_of(value: &Value) -> Option<&[u8]> {
    match value {
        Value::BulkString(bytes) => Some(bytes),
        _ => None,
    }
}

fn number<T: std::str::FromStr>(bytes: &Bytes) -> Option<T> {
    parse(bytes)
}

fn parse<T: std::str::FromStr>(bytes: &[u8]) -> Option<T> {
    std::str::from_utf8(bytes).ok()?.parse().ok()
}

/// Most entries and bytes of one page, whatever is asked: a script that takes longer makes everyone wait.
const MOST_EVENTS: usize = 10_000;
const MOST_BYTES: usize = 16 << 20;

/// Most channels in one question.
const MOST_HEADS: usize = 1000;
