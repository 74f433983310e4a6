//! What the task of one channel knows while it writes.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{
    announcement::Announcement,
    channel_state::ChannelState,
    error::is_permission_denied,
    handle::Inner,
    timing::{in_time, jittered},
};
use crate::{channel::Channel, store::StoreError};

/// The task of one channel. It is started for every append that comes alone, so it has to be small: what is rarely done is
/// boxed.
pub(super) struct Writer {
    pub(super) inner: Arc<Inner>,
    pub(super) channel: Channel,
    pub(super) state: Option<ChannelState>,
    /// Whether the leader said what is known since the work at hand was begun.
    pub(super) is_confirmed: bool,
    /// What this one announced, when it has to be decided anew what begins.
    pub(super) own: Option<Announcement>,
    /// What another node announced, while nothing came of it.
    pub(super) other: Option<Announcement>,
    /// Whether it asked others to wait, and did not tell them yet that they may go on.
    pub(super) asked: bool,
}

impl Writer {
    /// Brings up to date what is known, if it may have changed.
    pub(super) async fn refresh(&mut self, by: Instant) -> Result<(), StoreError> {
        let inner = Arc::clone(&self.inner);
        let place = match inner.recently_checked_place() {
            Some(place) => place,
            None => in_time(by, Box::pin(inner.recheck_place())).await?,
        };
        place.may_write()?;
        let is_fresh = self.state.as_ref().is_some_and(|state| {
            // The floor may rise without a message of this channel.
            state.record.is_some()
                && Arc::ptr_eq(&state.place, &place)
                && state.changes == inner.connection.changes()
                && state.checked.elapsed() < TRUSTED_FOR
                && state.at >= inner.queues.seen(&self.channel)
        });
        if is_fresh {
            return Ok(());
        }
        in_time(by, Box::pin(ChannelState::update_from_leader(&inner, &self.channel, &mut self.state))).await?;
        self.is_confirmed = true;
        Ok(())
    }

    /// Trusts nothing that is known until the leader was asked.
    pub(super) fn distrust_state(&mut self) {
        if let Some(state) = &mut self.state {
            state.changes = u64::MAX;
        }
    }

    /// Waits a little before the next attempt, or fails when there is no time left or no hope.
    pub(super) async fn pause_or_fail(&mut self, failed: GroupFailure, by: Instant) -> Result<(), GroupFailure> {
        let has_hope = matches!(failed.error, StoreError::Unavailable(_)) && !is_permission_denied(&failed.error);
        if !has_hope || Instant::now() + MAX_PAUSE >= by {
            return Err(failed);
        }
        tracing::debug!(error = %failed.error, "writing to NATS again");
        // Whatever it was that nobody answered: the stream may be another one by now.
        self.inner.invalidate_place();
        self.distrust_state();
        tokio::time::sleep(jittered(MAX_PAUSE)).await;
        Ok(())
    }
}

/// A failure of the first so many appends of a group.
pub(super) struct GroupFailure {
    pub(super) error: StoreError,
    pub(super) of: usize,
}

/// Room for the headers in a message.
pub(super) const HEADER_BYTES: usize = 1024;

/// How long what is known is taken for true without asking. The server checks it with every message; this bounds how long
/// a stream that was restored to an older state could be mistaken for its later self.
const TRUSTED_FOR: Duration = Duration::from_secs(5);

pub(super) const MAX_PAUSE: Duration = Duration::from_millis(200);
