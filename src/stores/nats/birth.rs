//! A log that begins is announced before its first message, under a subject of its own. So a log that somebody takes away is
//! not forgotten without a trace: what comes after begins above a floor that was raised, and who waited for the first event
//! of the log that was lost is told.

use bytes::Bytes;
use tokio::time::{Duration, Instant};

use super::{
    Inner,
    asking::{self, Via, Which},
    fault::Fault,
    link::jittered,
    place::Place,
    writing::{Writer, in_time},
};
use crate::{channel::Channel, store::StoreError};

/// Who is about to begin a log, or lost one.
#[derive(Clone, Copy)]
pub(super) struct Rival {
    at: u64,
    since: Instant,
}

impl Writer {
    /// Announces a log where there is none; says where. None when another node has, and it is to be seen first what comes of
    /// that.
    pub(super) async fn announce(&mut self, place: &Place, by: Instant) -> Result<Option<u64>, StoreError> {
        let Some(known) = &mut self.known else { return Ok(None) };
        let inner = &self.inner;
        let mut headers = asking::after(known.birth);
        headers.insert("Nats-Rollup", "sub");
        let left = by.saturating_duration_since(Instant::now()).min(inner.settings.patience);
        let subject = place.birth(&self.channel);
        match asking::publish(&inner.link, &subject, headers, Bytes::new(), left).await {
            Ok(at) => {
                known.birth = at;
                self.rival = None;
                return Ok(Some(at));
            }
            Err(Fault::Refused(refusal)) if refusal.is_conflict() => {}
            Err(fault) => return Err(fault.harmless()),
        }
        let Some(at) = in_time(by, inner.birth(place, &self.channel)).await? else {
            // Somebody took note of its loss already. A server 2.9 may go on to expect the message that was dropped: then it
            // takes one that expects nothing.
            if known.birth == 0 {
                let mut headers = async_nats::HeaderMap::new();
                headers.insert("Nats-Rollup", "sub");
                let sent = asking::publish(&inner.link, &subject, headers, Bytes::new(), left).await;
                known.birth = sent.map_err(Fault::harmless)?;
                return Ok(Some(known.birth));
            }
            known.birth = 0;
            return Ok(None);
        };
        let rival = self.rival.filter(|rival| rival.at == at).unwrap_or(Rival { at, since: Instant::now() });
        self.rival = Some(rival);
        if rival.since.elapsed() < LONGEST_BIRTH {
            tokio::time::sleep(jittered(PAUSE)).await;
        } else {
            // Its log is gone, or never came.
            let seq = known.absent.seq;
            in_time(by, inner.raise_floor(place, Place::floor_of(&self.channel), seq)).await?;
            known.birth = at;
        }
        Ok(None)
    }
}

impl Inner {
    /// Where a log of the channel was announced last.
    pub(super) async fn birth(&self, place: &Place, channel: &Channel) -> Result<Option<u64>, StoreError> {
        let subject = place.birth(channel);
        let raw = place.raw(&self.link, &subject, Which::Last, Via::Leader, self.settings.patience).await;
        Ok(raw.map_err(Fault::harmless)?.map(|raw| raw.at))
    }

    /// Takes note of a log that was announced at this place and is not there: what is told of the channel from now on is
    /// above it.
    pub(super) async fn mourn(&self, place: &Place, channel: &Channel, at: u64) -> Result<(), StoreError> {
        let bucket = Place::floor_of(channel);
        let (floor, _) = self.floor(place, bucket, Via::Leader).await?;
        self.raise_floor(place, bucket, floor).await?;
        self.drop_birth(place, channel, at).await
    }

    /// Drops what a log was announced with, unless that was announced after this place.
    pub(super) async fn drop_birth(&self, place: &Place, channel: &Channel, at: u64) -> Result<(), StoreError> {
        let dropped = place.purge(&self.link, &place.birth(channel), at + 1, self.settings.patience).await;
        dropped.map_err(Fault::harmless)
    }
}

/// A log that was announced comes within this, or it is taken for lost. One that comes later does no harm.
pub(super) const LONGEST_BIRTH: Duration = Duration::from_millis(400);

const PAUSE: Duration = Duration::from_millis(20);
