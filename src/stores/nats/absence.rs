//! Whether a channel is absent, or had a log that was announced and then lost.

use std::sync::Arc;

use async_nats::HeaderMap;
use bytes::Bytes;
use tokio::time::{Duration, Instant};

use super::{
    announcement::ANNOUNCEMENT_TIMEOUT,
    api::{self, ReadFrom, Selector},
    error::{CallError, refuses_only_writes, unavailable},
    head_table::Newest,
    log::Log,
    place::Place,
    record::Kind,
    shared::Inner,
};
use crate::{channel::Channel, store::StoreError};

impl Inner {
    /// Announces a log if the channel's last announcement is the expected one, or unconditionally if none is given.
    /// Returns where; `None` when the last announcement is a different one.
    pub(super) async fn try_to_announce(
        &self,
        place: &Place,
        channel: &Channel,
        expected: Option<u64>,
        request_timeout: Duration,
    ) -> Result<Option<u64>, StoreError> {
        let mut headers = expected.map_or_else(HeaderMap::new, api::expect_last);
        headers.insert("Nats-Rollup", "sub");
        match api::publish(&self.connection, &place.announcement(channel), headers, Bytes::new(), request_timeout).await
        {
            Ok(at) => Ok(Some(at)),
            Err(CallError::Refused(api_error)) if api_error.is_conflict() => Ok(None),
            Err(error) => Err(error.into_store_error()),
        }
    }

    /// The stream sequence of the channel's last announcement.
    pub(super) async fn announced_at(&self, place: &Place, channel: &Channel) -> Result<Option<u64>, StoreError> {
        let subject = place.announcement(channel);
        let raw = place
            .stream
            .message(&self.connection, &subject, Selector::Last, ReadFrom::Leader, self.settings.request_timeout)
            .await;
        Ok(raw.map_err(CallError::into_store_error)?.map(|raw| raw.at))
    }

    /// Whether no log was announced since the last one was removed at sequence `gone`; waits for one that was announced
    /// and may still be written. Asks the leader.
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
            // The log is lost all the same: the next writer raises the floor before it appends.
            Err(error) if refuses_only_writes(&error) => {
                let (floor, _) = self.floor(&log.place, Place::floor_of(log.channel), ReadFrom::Leader).await?;
                Ok(Absence::Absent { least: floor + 1 })
            }
            Err(error) => Err(error),
        }
    }

    /// The newest record of a channel, or why it has none. Asks the leader until that is certain.
    pub(super) async fn newest(&self, place: &Arc<Place>, channel: &Channel) -> Result<Newest, StoreError> {
        let log = self.log(Arc::clone(place), channel, ReadFrom::Leader);
        for _ in 0..MAX_ATTEMPTS {
            let last = log.get(Selector::Last).await?;
            if let Some(living) = last.as_ref().filter(|last| last.record.kind != Kind::Gone) {
                return Ok(Newest::Record(living.record));
            }
            if let Absence::Absent { least } = self.confirm_absence(&log, last.map_or(0, |gone| gone.at)).await? {
                return Ok(Newest::Absent { least });
            }
        }
        Err(unavailable("the channel keeps appearing and disappearing"))
    }

    /// Records that the log announced at this sequence was lost: it raises the floor, so that later positions of the
    /// channel are above those of the lost log.
    pub(super) async fn record_lost_log(&self, place: &Place, channel: &Channel, at: u64) -> Result<(), StoreError> {
        place.may_write()?;
        let bucket = Place::floor_of(channel);
        let (floor, _) = self.floor(place, bucket, ReadFrom::Leader).await?;
        self.raise_floor(place, bucket, floor).await?;
        self.drop_announcement(place, channel, at).await
    }

    /// Deletes the channel's announcement, unless it was made after sequence `at`.
    pub(super) async fn drop_announcement(&self, place: &Place, channel: &Channel, at: u64) -> Result<(), StoreError> {
        let dropped = place
            .stream
            .purge(&self.connection, &place.announcement(channel), at + 1, self.settings.request_timeout)
            .await;
        dropped.map_err(CallError::into_store_error)
    }
}

/// What is known about a channel without a log.
pub(super) enum Absence {
    /// It is absent, and never had entries above the floor and above `least`.
    Absent { least: u64 },
    /// Something was written or recorded meanwhile: look again.
    Retry,
}

/// How often to look at a channel that keeps changing.
const MAX_ATTEMPTS: usize = 6;
