//! The heads of many channels.

use redis::Value;
use tokio::time::Instant;

use super::{
    codec::{self, record_of},
    failure::{Failure, strange},
    reads::{has_forgotten, parse, read, text_of},
    script::{FORMAT, epoch_text},
    shared::{Shared, format_of},
};
use crate::{
    channel::Channel,
    store::{Head, Limit, Start, StoreError, resume::Record},
};

/// The heads of many channels: a field each, so no script has to run. The floor is needed only of an
/// absent channel, so it is asked for with those that were absent the last time; others that turn out to be absent are asked
/// for once more.
pub(super) async fn heads(shared: &Shared, channels: &[Channel]) -> Result<Vec<Head>, StoreError> {
    let deadline = shared.deadline();
    let mut found = Vec::with_capacity(channels.len());
    for some in channels.chunks(MOST_HEADS) {
        found.extend(some_heads(shared, some, &shared.absent.were_absent(some), deadline).await?);
    }
    shared
        .absent
        .record(channels.iter().zip(&found).map(|(channel, found)| (channel, matches!(found, Found::Absent(_)))));
    let without = channels.iter().zip(&found).filter(|(_, found)| matches!(found, Found::Absent(None)));
    let without: Vec<_> = without.map(|(channel, _)| channel.clone()).collect();
    let mut again = Vec::with_capacity(without.len());
    for some in without.chunks(MOST_HEADS) {
        again.extend(some_heads(shared, some, &vec![true; some.len()], deadline).await?);
    }
    let mut again = again.into_iter().map(Found::head);
    let heads = found.into_iter().map(|found| found.head().or_else(|| again.next().flatten()));
    heads.collect::<Option<_>>().ok_or_else(|| strange("floors"))
}

/// What is known of a channel.
enum Found {
    There(Head),
    /// Its head is the floor, if that was asked for.
    Absent(Option<Head>),
}

impl Found {
    fn head(self) -> Option<Head> {
        match self {
            Self::There(head) => Some(head),
            Self::Absent(head) => head,
        }
    }
}

/// One question about channels, and about the floors of some of them.
async fn some_heads(
    shared: &Shared,
    channels: &[Channel],
    with_floor: &[bool],
    deadline: Instant,
) -> Result<Vec<Found>, StoreError> {
    let mut asked = redis::pipe();
    let floors = channels.iter().zip(with_floor).filter(|(_, with_floor)| **with_floor).map(|(channel, _)| channel);
    asked.add_command(shared.scripts.records(channels, floors)).cmd("TIME");
    for _ in 0..4 {
        let place = shared.place(deadline).await?;
        let answers = shared.reads.ask(asked.clone(), deadline).await.map_err(Failure::of_read);
        let answers = answers.inspect_err(|error| shared.trouble.note_read(error))?;
        let [Value::Array(fields), Value::Array(time)] = &*answers else { return Err(strange("heads")) };
        let now = shared.settings.clock.as_ref().map_or_else(|| server_time(time), |clock| Some(clock.now()));
        let answer = Fields { place, now: now.ok_or_else(|| strange("time"))?, with_floor, fields };
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
    with_floor: &'a [bool],
    fields: &'a [Value],
}

impl Fields<'_> {
    /// `None` when it is another place than was thought.
    async fn heads(
        &self,
        shared: &Shared,
        channels: &[Channel],
        deadline: Instant,
    ) -> Result<Option<Vec<Found>>, StoreError> {
        let [epoch, format, floor, keep, fields @ ..] = self.fields else { return Err(strange("heads")) };
        if text_of(epoch) != Some(epoch_text(self.place).as_bytes()) {
            return Ok(None);
        }
        text_of(format).and_then(format_of).ok_or_else(|| strange("format"))?.may_read(FORMAT.version())?;
        let (records, floors) = fields.split_at_checked(channels.len()).ok_or_else(|| strange("records"))?;
        let kept_for = codec::kept_for(shared.keeps(), text_of(keep).unwrap_or_default(), self.now);
        let (mut heads, mut can_forget) = (Vec::with_capacity(channels.len()), true);
        let mut floors = floors.iter();
        for ((channel, record), with_floor) in channels.iter().zip(records).zip(self.with_floor) {
            let bucket = with_floor.then(|| floors.next()).flatten();
            let Some(text) = text_of(record) else {
                // Not below the one floor that older formats had for all.
                let floor = bucket.map(|bucket| floor_in(bucket).max(floor_in(floor)));
                heads.push(Found::Absent(floor.map(|floor| Record::absent(self.place, floor, channel).head)));
                continue;
            };
            let unreadable = || StoreError::Corrupt(format!("the record of {channel:?} cannot be read").into());
            let (record, last) = record_of(text).ok_or_else(unreadable)?;
            let is_due = self.now.saturating_sub(last) > kept_for;
            // What fails for one would fail for all.
            can_forget = can_forget && (!is_due || has_forgotten(shared, channel, deadline).await);
            heads.push(Found::There(if is_due && can_forget {
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

/// Most channels in one question.
const MOST_HEADS: usize = 1000;
