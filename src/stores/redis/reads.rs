//! Pages and heads from what the server answers. Decides outcomes with what all stores share.

use bytes::Bytes;
use redis::Value;
use tokio::time::Instant;

use super::{
    codec::{Packed, entry_of, record_of},
    failure::{Failure, strange},
    script::{Op, hex},
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
            cmd.arg(limit.events.min(MOST_EVENTS)).arg(limit.bytes.min(MOST_BYTES));
            start_in(start, cmd);
        };
        let about = std::slice::from_ref(channel);
        let (place, answer) = shared.at(&shared.reads, Op::Read, about, deadline, Failure::of_read, build).await?;
        let mut answer = answer.into_iter().map(bytes_of);
        if let Some(text) = answer.next() {
            let rest: Option<Vec<Bytes>> = std::iter::once(text).chain(answer).collect();
            return page(place, channel, start, &rest.ok_or_else(|| strange("text"))?);
        }
        shared.forget(channel, "due", deadline, Failure::of_read).await?;
    }
    Err(StoreError::Unavailable("the channel's record changes all the time".into()))
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

/// The answer: record, floor, start (seq and tag), tag at the cursor, whether more entries above a time are left; then seq,
/// header and event of each entry.
fn page(place: u64, channel: &Channel, start: Start, answer: &[Bytes]) -> Result<Page, StoreError> {
    let ([record, floor, from_seq, from_tag, tag, left], entries) = split(answer)?;
    if record.is_empty() {
        let floor = number(floor).ok_or_else(|| strange("floor"))?;
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
    let mut pipeline = redis::pipe();
    pipeline.add_command(shared.scripts.records(channels)).cmd("TIME");
    for _ in 0..4 {
        let place = shared.place(deadline).await?;
        let answers = shared.reads.send_all(&pipeline, deadline).await.map_err(Failure::of_read)?;
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
        let [epoch, floor, records @ ..] = self.fields else { return Err(strange("heads")) };
        if text_of(epoch) != Some(hex(self.place).as_bytes()) {
            return Ok(None);
        }
        let floor = text_of(floor).and_then(parse).unwrap_or(0);
        let mut heads = Vec::with_capacity(channels.len());
        for (channel, record) in channels.iter().zip(records) {
            heads.push(match text_of(record) {
                None => Record::absent(self.place, floor, channel).head,
                Some(text) => {
                    let (record, last) = record_of(text).ok_or_else(|| strange("record"))?;
                    if self.now.saturating_sub(last) > shared.kept_for() {
                        shared.forget(channel, "due", deadline, Failure::of_read).await?;
                        read(shared, channel, Start::Latest, Limit::POSITION).await?.head
                    } else {
                        record.head
                    }
                }
            });
        }
        Ok(Some(heads))
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
