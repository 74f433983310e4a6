//! The heads of many channels.

use redis::Value;
use tokio::time::Instant;

use super::{
    codec::{self, record_of},
    error::{CallError, malformed},
    place::format_of,
    reads::{parse, read, text_of, try_forget},
    script::{FORMAT, epoch_text},
    shared::Shared,
};
use crate::{
    channel::Channel,
    store::{Head, Limit, Start, StoreError, resume::Record},
};

/// The heads of many channels. A record is one field, so no script has to run. An absent channel also needs its floor,
/// which is requested along with the channels that were absent last time; other channels that turn out to be absent
/// cost a second request.
pub(super) async fn heads(shared: &Shared, channels: &[Channel]) -> Result<Vec<Head>, StoreError> {
    let deadline = shared.deadline();
    let mut found = Vec::with_capacity(channels.len());
    for chunk in channels.chunks(MAX_HEADS) {
        found.extend(heads_of_chunk(shared, chunk, &shared.absent.were_absent(chunk), deadline).await?);
    }
    shared
        .absent
        .record(channels.iter().zip(&found).map(|(channel, found)| (channel, matches!(found, Lookup::Absent(_)))));
    let unknown = channels.iter().zip(&found).filter(|(_, found)| matches!(found, Lookup::Absent(None)));
    let unknown: Vec<_> = unknown.map(|(channel, _)| channel.clone()).collect();
    let mut second = Vec::with_capacity(unknown.len());
    for chunk in unknown.chunks(MAX_HEADS) {
        second.extend(heads_of_chunk(shared, chunk, &vec![true; chunk.len()], deadline).await?);
    }
    let mut second = second.into_iter().map(Lookup::head);
    let heads = found.into_iter().map(|found| found.head().or_else(|| second.next().flatten()));
    heads.collect::<Option<_>>().ok_or_else(|| malformed("floors"))
}

/// What was found of a channel.
enum Lookup {
    Present(Head),
    /// Its head is derived from the floor, if that was requested.
    Absent(Option<Head>),
}

impl Lookup {
    fn head(self) -> Option<Head> {
        match self {
            Self::Present(head) => Some(head),
            Self::Absent(head) => head,
        }
    }
}

/// One request for the records of some channels, and the floors of some of these.
async fn heads_of_chunk(
    shared: &Shared,
    channels: &[Channel],
    with_floor: &[bool],
    deadline: Instant,
) -> Result<Vec<Lookup>, StoreError> {
    let mut pipeline = redis::pipe();
    let floors = channels.iter().zip(with_floor).filter(|(_, with_floor)| **with_floor).map(|(channel, _)| channel);
    pipeline.add_command(shared.scripts.records(channels, floors)).cmd("TIME");
    for _ in 0..4 {
        let place = shared.place(deadline).await?;
        let answers = shared.reads.ask(pipeline.clone(), deadline).await.map_err(CallError::into_read_error);
        let answers = answers.inspect_err(|error| shared.note_read(error))?;
        let [Value::Array(fields), Value::Array(time)] = &*answers else { return Err(malformed("heads")) };
        let now = shared.settings.clock.as_ref().map_or_else(|| server_time(time), |clock| Some(clock.now()));
        let answer = PlaceReply { place, now: now.ok_or_else(|| malformed("time"))?, with_floor, fields };
        match answer.heads(shared, channels, deadline).await? {
            Some(heads) => return Ok(heads),
            None => shared.note_place_changed(place),
        }
    }
    Err(StoreError::Unavailable("the place keeps changing".into()))
}

/// The reply: the place, and the records and floors of some channels.
struct PlaceReply<'a> {
    place: u64,
    now: u64,
    with_floor: &'a [bool],
    fields: &'a [Value],
}

impl PlaceReply<'_> {
    /// `None` when the place is not the expected one.
    async fn heads(
        &self,
        shared: &Shared,
        channels: &[Channel],
        deadline: Instant,
    ) -> Result<Option<Vec<Lookup>>, StoreError> {
        let [epoch, format, floor, keep, fields @ ..] = self.fields else { return Err(malformed("heads")) };
        if text_of(epoch) != Some(epoch_text(self.place).as_bytes()) {
            return Ok(None);
        }
        text_of(format).and_then(format_of).ok_or_else(|| malformed("format"))?.may_read(FORMAT.version())?;
        let (records, floors) = fields.split_at_checked(channels.len()).ok_or_else(|| malformed("records"))?;
        let record_lifetime =
            codec::record_lifetime(shared.own_lifetime(), text_of(keep).unwrap_or_default(), self.now);
        let (mut heads, mut can_forget) = (Vec::with_capacity(channels.len()), true);
        let mut floors = floors.iter();
        for ((channel, record), with_floor) in channels.iter().zip(records).zip(self.with_floor) {
            let bucket = with_floor.then(|| floors.next()).flatten();
            let Some(text) = text_of(record) else {
                // No lower than the single floor that older formats had for all channels.
                let floor = bucket.map(|bucket| floor_in(bucket).max(floor_in(floor)));
                heads.push(Lookup::Absent(floor.map(|floor| Record::absent(self.place, floor, channel).head)));
                continue;
            };
            let unreadable = || StoreError::Corrupt(format!("the record of {channel:?} is unreadable").into());
            let (record, last) = record_of(text).ok_or_else(unreadable)?;
            let is_due = self.now.saturating_sub(last) > record_lifetime;
            // What fails for one channel would fail for all.
            can_forget = can_forget && (!is_due || try_forget(shared, channel, deadline).await);
            heads.push(Lookup::Present(if is_due && can_forget {
                read(shared, channel, Start::Latest, Limit::POSITION).await?.head
            } else {
                record.head
            }));
        }
        Ok(Some(heads))
    }
}

fn floor_in(field: &Value) -> u64 {
    text_of(field).and_then(parse).unwrap_or(0)
}

fn server_time(time: &[Value]) -> Option<u64> {
    let [seconds, micros] = time else { return None };
    let (seconds, micros): (u64, u64) = (text_of(seconds).and_then(parse)?, text_of(micros).and_then(parse)?);
    Some(seconds * 1000 + micros / 1000)
}

/// Most channels in one request.
const MAX_HEADS: usize = 1000;
