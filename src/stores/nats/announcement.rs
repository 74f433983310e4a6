//! A log that begins is announced before its first message, under a subject of its own. So a log that somebody takes away is
//! not forgotten without a trace: what comes after begins above a floor that was raised, and who waited for the first event
//! of the log that was lost is told.

use std::sync::Arc;

use async_nats::HeaderMap;
use bytes::Bytes;
use tokio::time::{Duration, Instant};

use super::{
    api::{self, ReadFrom, Selector},
    error::{CallError, refuses_only_writes, unavailable},
    handle::Inner,
    log::Log,
    place::Place,
    record::{Kind, Record},
    timing::{in_time, jittered},
    writing::Writer,
};
use crate::{channel::Channel, store::StoreError};

/// Where a log was announced of which nothing is there, and since when that is known.
#[derive(Clone, Copy)]
pub(super) struct Announcement {
    at: u64,
    since: Instant,
}

impl Writer {
    /// Announces a log where there is none; says where. None when it is to be decided anew: another node announced one, and it
    /// is to be seen first what comes of that, or the floor rose: then it need not be announced again.
    pub(super) async fn announce(&mut self, place: &Place, by: Instant) -> Result<Option<Announcement>, StoreError> {
        let Some(state) = &mut self.state else { return Ok(None) };
        // What is decided now begins above a floor that was read after that: so however often others raise it, this one
        // comes through.
        if let Some(own) = self.own.take().filter(|own| own.at == state.announcement) {
            return Ok(Some(own));
        }
        let inner = &self.inner;
        let left = by.saturating_duration_since(Instant::now()).min(inner.settings.request_timeout);
        // What is known of may have been dropped. A server 2.9 may go on to expect it all the same; then it takes a message
        // that expects nothing in particular.
        for expected in [Some(state.announcement), Some(0), None] {
            let since = Instant::now();
            if let Some(at) = inner.try_to_announce(place, &self.channel, expected, left).await? {
                let own = Announcement { at, since };
                (state.announcement, self.other) = (at, None);
                // Who dropped what was announced before raised the floor first.
                let (floor, _) =
                    in_time(by, inner.floor(place, Place::floor_of(&self.channel), ReadFrom::Leader)).await?;
                if floor <= state.absent.seq {
                    return Ok(Some(own));
                }
                self.own = Some(own);
                return Ok(None);
            }
            if let Some(at) = in_time(by, inner.announced_at(place, &self.channel)).await? {
                self.wait_for_other(place, at, by).await?;
                return Ok(None);
            }
        }
        Err(unavailable("announcements come and go"))
    }

    /// Announces a log that is there once more, when it came so late that others may have taken it for lost and dropped what
    /// announced it.
    pub(super) async fn announce_again(&self, place: &Place, own: Announcement, by: Instant) {
        if own.since.elapsed() < ANNOUNCEMENT_TIMEOUT / 2 {
            return;
        }
        let again = self.inner.try_to_announce(place, &self.channel, None, self.inner.settings.request_timeout);
        if let Err(error) = in_time(by, again).await {
            tracing::debug!(%error, channel = ?self.channel, "cannot announce a log again");
        }
    }

    /// Another node announced a log at this place: waits a little, and once it is too late for that log takes note that it is
    /// lost, or never came.
    async fn wait_for_other(&mut self, place: &Place, at: u64, by: Instant) -> Result<(), StoreError> {
        let other = self.other.filter(|other| other.at == at).unwrap_or(Announcement { at, since: Instant::now() });
        self.other = Some(other);
        if other.since.elapsed() < ANNOUNCEMENT_TIMEOUT {
            tokio::time::sleep(jittered(PAUSE)).await;
        } else if let Some(state) = &mut self.state {
            let (bucket, seq) = (Place::floor_of(&self.channel), state.absent.seq);
            in_time(by, self.inner.raise_floor(place, bucket, seq)).await?;
            state.announcement = at;
        }
        Ok(())
    }
}

impl Announcement {
    pub(super) fn at(self) -> u64 {
        self.at
    }
}

impl Inner {
    /// Announces a log if this is the last announcement of the channel, or whatever it is. None when it is another.
    async fn try_to_announce(
        &self,
        place: &Place,
        channel: &Channel,
        expected: Option<u64>,
        request_timeout: Duration,
    ) -> Result<Option<u64>, StoreError> {
        let mut headers = expected.map_or_else(HeaderMap::new, api::after);
        headers.insert("Nats-Rollup", "sub");
        match api::publish(&self.connection, &place.announcement(channel), headers, Bytes::new(), request_timeout).await
        {
            Ok(at) => Ok(Some(at)),
            Err(CallError::Refused(api_error)) if api_error.is_conflict() => Ok(None),
            Err(error) => Err(error.into_store_error()),
        }
    }

    /// Where a log of the channel was announced last.
    pub(super) async fn announced_at(&self, place: &Place, channel: &Channel) -> Result<Option<u64>, StoreError> {
        let subject = place.announcement(channel);
        let raw = place
            .stream
            .message(&self.connection, &subject, Selector::Last, ReadFrom::Leader, self.settings.request_timeout)
            .await;
        Ok(raw.map_err(CallError::into_store_error)?.map(|raw| raw.at))
    }

    /// Whether no log was announced since the last one went, at `gone`; waits for one that is about to come. Asks the leader.
    pub(super) async fn confirm_absence(&self, log: &Log<'_>, gone: u64) -> Result<Absence, StoreError> {
        let Some(announced) = self.announced_at(&log.place, log.channel).await?.filter(|at| *at > gone) else {
            return Ok(Absence::Absent { least: 0 });
        };
        let until = Instant::now() + ANNOUNCEMENT_TIMEOUT;
        while Instant::now() < until {
            let last = log.get(Selector::Last).await?;
            if last.is_some_and(|last| last.at > announced) {
                return Ok(Absence::Retry);
            }
            tokio::time::sleep(ANNOUNCEMENT_TIMEOUT / 10).await;
        }
        match self.record_lost_log(&log.place, log.channel, announced).await {
            Ok(()) => Ok(Absence::Retry),
            // It is lost all the same: whoever comes next raises the floor before anything follows.
            Err(error) if refuses_only_writes(&error) => {
                let (floor, _) = self.floor(&log.place, Place::floor_of(log.channel), ReadFrom::Leader).await?;
                Ok(Absence::Absent { least: floor + 1 })
            }
            Err(error) => Err(error),
        }
    }

    /// The newest record of a channel, or what it is when it has none. Asks the leader, until that is certain.
    pub(super) async fn newest(&self, place: &Arc<Place>, channel: &Channel) -> Result<Newest, StoreError> {
        let log = self.log(Arc::clone(place), channel, ReadFrom::Leader);
        for _ in 0..ATTEMPTS {
            let last = log.get(Selector::Last).await?;
            if let Some(living) = last.as_ref().filter(|last| last.record.kind != Kind::Gone) {
                return Ok(Newest::Record(living.record));
            }
            if let Absence::Absent { least } = self.confirm_absence(&log, last.map_or(0, |gone| gone.at)).await? {
                return Ok(Newest::Absent { least });
            }
        }
        Err(unavailable("the channel comes and goes"))
    }

    /// Takes note of a log that was announced at this place and is not there: what is told of the channel from now on is
    /// above it.
    pub(super) async fn record_lost_log(&self, place: &Place, channel: &Channel, at: u64) -> Result<(), StoreError> {
        place.may_write()?;
        let bucket = Place::floor_of(channel);
        let (floor, _) = self.floor(place, bucket, ReadFrom::Leader).await?;
        self.raise_floor(place, bucket, floor).await?;
        self.drop_announcement(place, channel, at).await
    }

    /// Drops what a log was announced with, unless that was announced after this place.
    pub(super) async fn drop_announcement(&self, place: &Place, channel: &Channel, at: u64) -> Result<(), StoreError> {
        let dropped = place
            .stream
            .purge(&self.connection, &place.announcement(channel), at + 1, self.settings.request_timeout)
            .await;
        dropped.map_err(CallError::into_store_error)
    }
}

/// What an absent channel is found to be.
pub(super) enum Absence {
    /// It is absent, and never had what comes after the floor and after `least`.
    Absent { least: u64 },
    /// Something came, or was taken note of: to be looked at again.
    Retry,
}

/// What is newest in a channel.
#[derive(Clone, Copy, Debug)]
pub(super) enum Newest {
    Record(Record),
    /// As [`Absence::Absent`].
    Absent {
        least: u64,
    },
}

/// A log that was announced comes within this, or it is taken for lost. One that comes later does no harm.
pub(super) const ANNOUNCEMENT_TIMEOUT: Duration = Duration::from_millis(400);

/// How often a channel is looked at that comes and goes.
const ATTEMPTS: usize = 6;

const PAUSE: Duration = Duration::from_millis(20);
