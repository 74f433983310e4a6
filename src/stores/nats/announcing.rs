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

const PAUSE: Duration = Duration::from_millis(20);
