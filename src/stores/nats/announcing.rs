//! Announcing a log before its first message.

use tokio::time::{Duration, Instant};

use super::{
    announcement::{ANNOUNCEMENT_TIMEOUT, Announcement},
    api::ReadFrom,
    error::unavailable,
    place::Place,
    timing::{in_time, jittered},
    writer::Writer,
};
use crate::store::StoreError;

impl Writer {
    /// Announces a log where there is none; returns where. `None` means that the append must be decided again: another
    /// node announced a log, which may still be written; or the floor rose, in which case this announcement is kept for
    /// the next attempt.
    pub(super) async fn announce(
        &mut self,
        place: &Place,
        deadline: Instant,
    ) -> Result<Option<Announcement>, StoreError> {
        let Some(state) = &mut self.state else { return Ok(None) };
        // The append is now decided on a floor that was read after the announcement, so it succeeds however often other
        // nodes raise the floor.
        if let Some(announcement) = self.own_announcement.take().filter(|own| own.at == state.announcement) {
            return Ok(Some(announcement));
        }
        let inner = &self.inner;
        let left = deadline.saturating_duration_since(Instant::now()).min(inner.settings.request_timeout);
        // The known announcement may have been deleted. Server 2.9 may still expect it; it then accepts a message
        // without an expectation.
        for expected in [Some(state.announcement), Some(0), None] {
            let since = Instant::now();
            if let Some(at) = inner.try_to_announce(place, &self.channel, expected, left).await? {
                let announcement = Announcement { at, since };
                (state.announcement, self.other_announcement) = (at, None);
                // A node that deleted an earlier announcement raised the floor first.
                let (floor, _) =
                    in_time(deadline, inner.floor(place, Place::floor_of(&self.channel), ReadFrom::Leader)).await?;
                if floor <= state.absent.seq {
                    return Ok(Some(announcement));
                }
                self.own_announcement = Some(announcement);
                return Ok(None);
            }
            if let Some(at) = in_time(deadline, inner.announced_at(place, &self.channel)).await? {
                self.wait_for_other(place, at, deadline).await?;
                return Ok(None);
            }
        }
        Err(unavailable("announcements keep appearing and disappearing"))
    }

    /// Announces an existing log again, if its first message came so late that other nodes may have taken it for lost
    /// and deleted the announcement.
    pub(super) async fn announce_again(&self, place: &Place, announcement: Announcement, deadline: Instant) {
        if announcement.since.elapsed() < ANNOUNCEMENT_TIMEOUT / 2 {
            return;
        }
        let again = self.inner.try_to_announce(place, &self.channel, None, self.inner.settings.request_timeout);
        if let Err(error) = in_time(deadline, again).await {
            tracing::debug!(%error, channel = ?self.channel, "cannot announce a log again");
        }
    }

    /// Another node announced a log at this sequence: waits briefly, and once that log is overdue records that it is
    /// lost or was never written.
    async fn wait_for_other(&mut self, place: &Place, at: u64, deadline: Instant) -> Result<(), StoreError> {
        let announcement = self
            .other_announcement
            .filter(|other| other.at == at)
            .unwrap_or(Announcement { at, since: Instant::now() });
        self.other_announcement = Some(announcement);
        if announcement.since.elapsed() < ANNOUNCEMENT_TIMEOUT {
            tokio::time::sleep(jittered(POLL_PAUSE)).await;
        } else if let Some(state) = &mut self.state {
            let (bucket, seq) = (Place::floor_of(&self.channel), state.absent.seq);
            in_time(deadline, self.inner.raise_floor(place, bucket, seq)).await?;
            state.announcement = at;
        }
        Ok(())
    }
}

const POLL_PAUSE: Duration = Duration::from_millis(20);
