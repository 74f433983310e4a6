//! Reading a page of a channel. Asks any replica first; what would be a reset is decided by the leader.

use std::sync::Arc;

use tokio::time::timeout;

use super::{
    absence::Absence,
    api::{ReadFrom, Selector},
    error,
    log::Log,
    page::Reader,
    place::Place,
    record::Kind,
    shared::Inner,
    visibility::Visibility,
};
use crate::{
    channel::Channel,
    store::{Limit, Outcome, Page, Start, StoreError, kit::empty_page, resume::Record as Known},
};

impl Inner {
    pub(super) async fn read(
        self: &Arc<Self>,
        channel: &Channel,
        start: Start,
        limit: Limit,
    ) -> Result<Page, StoreError> {
        let read = timeout(self.settings.timeout, self.read_with_retries(channel, start, limit)).await;
        self.note_read(read.unwrap_or_else(|_| Err(error::unavailable("the page was not read in time"))))
    }

    async fn read_with_retries(
        self: &Arc<Self>,
        channel: &Channel,
        start: Start,
        limit: Limit,
    ) -> Result<Page, StoreError> {
        let mut failed = None;
        for attempt in 0..MAX_ATTEMPTS {
            let read_from = if attempt == 0 { ReadFrom::AnyReplica } else { ReadFrom::Leader };
            match self.read_once(channel, start, limit, read_from).await {
                Ok(Attempt::Page(page)) => return Ok(page),
                // Only the leader of the current stream can tell that something is gone.
                Ok(Attempt::Retry) => self.invalidate_place(),
                Err(StoreError::Unavailable(source)) => {
                    self.invalidate_place();
                    failed = Some(source);
                }
                Err(error) => return Err(error),
            }
        }
        Err(failed.map_or_else(|| error::unavailable("the channel changed while it was read"), StoreError::Unavailable))
    }

    async fn read_once(
        self: &Arc<Self>,
        channel: &Channel,
        start: Start,
        limit: Limit,
        read_from: ReadFrom,
    ) -> Result<Attempt, StoreError> {
        let log = self.log(self.place().await?, channel, read_from);
        let seen = self.states.seen(channel);
        let last = log.get(Selector::Last).await?;
        let at = last.as_ref().map_or(0, |last| last.at);
        match read_from {
            ReadFrom::AnyReplica if at < seen => return Ok(Attempt::Retry),
            ReadFrom::AnyReplica => {}
            ReadFrom::Leader => self.states.lower_seen(channel, seen, at),
        }
        let Some(last) = last.filter(|last| last.record.kind != Kind::Gone) else {
            return self.read_absent(&log, start, at).await;
        };
        let now = self.clock.since(last.record.stamp);
        let keep = self.recent_keep(&log.place).await?;
        if keep.is_forgotten(&last.record, now) {
            return match self.forget_or_pass_over(channel, &last.record).await? {
                Some(least) if read_from == ReadFrom::Leader => self.absent_page(&log, start, least).await,
                _ => Ok(Attempt::Retry),
            };
        }
        let reader = Reader { ends: &self.ends, visibility: Visibility::new(last.record, keep, now), last, log, limit };
        let page = match start {
            Start::Latest => Some(reader.at(Outcome::Continued, reader.last.record.cursor())),
            Start::Beginning | Start::Earliest => reader.page_from_oldest(Outcome::Continued).await?,
            Start::Last(n) => reader.last_entries(n).await?,
            Start::After(cursor) => reader.resume(cursor).await?,
            Start::Time(time) => reader.since(time).await?,
        };
        match page {
            Some(page) if read_from == ReadFrom::Leader || page.outcome == Outcome::Continued => {
                Ok(Attempt::Page(page))
            }
            _ => Ok(Attempt::Retry),
        }
    }

    /// There is no log, or a replica does not know it yet. `gone` is the sequence of the removal marker, or 0.
    async fn read_absent(&self, log: &Log<'_>, start: Start, gone: u64) -> Result<Attempt, StoreError> {
        if log.read_from == ReadFrom::AnyReplica {
            return Ok(Attempt::Retry);
        }
        match self.confirm_absence(log, gone).await? {
            Absence::Absent { least } => self.absent_page(log, start, least).await,
            Absence::Retry => Ok(Attempt::Retry),
        }
    }

    /// The page of an absent channel, which never had entries above the floor and above `least`.
    async fn absent_page(&self, log: &Log<'_>, start: Start, least: u64) -> Result<Attempt, StoreError> {
        let (place, channel) = (&log.place, log.channel);
        let floor = self.floor(place, Place::floor_of(channel), ReadFrom::Leader).await?.0.max(least);
        // After all requests: otherwise a place that was lost meanwhile would look like an absent channel.
        if !self.confirm_place().await? {
            return Ok(Attempt::Retry);
        }
        Ok(Attempt::Page(empty_page(&Known::absent(place.epoch, floor, channel), start)))
    }
}

/// The result of one attempt.
enum Attempt {
    Page(Page),
    /// Inconclusive: try again.
    Retry,
}

/// How often to try: first with any replica, then with the leader.
const MAX_ATTEMPTS: usize = 6;
