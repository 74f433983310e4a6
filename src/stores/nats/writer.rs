//! The writing task of one channel: its state, and when to trust it.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{
    announcement::Announcement,
    channel_state::ChannelState,
    error::is_permission_denied,
    shared::Inner,
    timing::{in_time, jittered},
    write::WriteTask,
};
use crate::{channel::Channel, store::StoreError};

/// The task of one channel. It is started for every append that arrives alone, so it has to be small: rare parts are
/// boxed.
pub(super) struct Writer {
    pub(super) inner: Arc<Inner>,
    /// That of the task.
    pub(super) channel: Channel,
    pub(super) task: WriteTask,
    pub(super) state: Option<ChannelState>,
    /// Whether the state was confirmed by the leader since the current work began.
    pub(super) is_confirmed: bool,
    /// This node's announcement, kept when the append must be decided again.
    pub(super) own_announcement: Option<Announcement>,
    /// Another node's announcement that no log has followed yet.
    pub(super) other_announcement: Option<Announcement>,
    /// Whether this node asked others to wait, and has not released them yet.
    pub(super) asked_to_wait: bool,
}

impl Writer {
    pub(super) fn new(inner: Arc<Inner>, task: WriteTask) -> Self {
        Self {
            inner,
            channel: task.key().clone(),
            task,
            state: None,
            is_confirmed: false,
            own_announcement: None,
            other_announcement: None,
            asked_to_wait: false,
        }
    }

    /// Updates the state if it may have changed.
    pub(super) async fn refresh(&mut self, deadline: Instant) -> Result<(), StoreError> {
        let inner = Arc::clone(&self.inner);
        let place = match inner.recently_checked_place() {
            Some(place) => place,
            None => in_time(deadline, Box::pin(inner.recheck_place())).await?,
        };
        place.may_write()?;
        let is_fresh = self.state.as_ref().is_some_and(|state| {
            // Without a log, the floor may rise without a message of this channel.
            state.record.is_some()
                && Arc::ptr_eq(&state.place, &place)
                && state.changes == inner.connection.changes()
                && state.checked.elapsed() < TRUSTED_FOR
                && state.at >= inner.states.seen(&self.channel)
        });
        if is_fresh {
            return Ok(());
        }
        in_time(deadline, Box::pin(ChannelState::update_from_leader(&inner, &self.channel, &mut self.state))).await?;
        self.is_confirmed = true;
        Ok(())
    }

    /// Trusts nothing that is known until the leader confirms it.
    pub(super) fn distrust_state(&mut self) {
        if let Some(state) = &mut self.state {
            state.changes = u64::MAX;
        }
    }

    /// Pauses before the next attempt, or fails when no time is left or retrying is pointless.
    pub(super) async fn pause_or_fail(&mut self, failed: GroupFailure, deadline: Instant) -> Result<(), GroupFailure> {
        let may_succeed = matches!(failed.error, StoreError::Unavailable(_)) && !is_permission_denied(&failed.error);
        if !may_succeed || Instant::now() + MAX_PAUSE >= deadline {
            return Err(failed);
        }
        tracing::debug!(error = %failed.error, "writing to NATS again");
        // Whatever got no response, the stream may be another one by now.
        self.inner.invalidate_place();
        self.distrust_state();
        tokio::time::sleep(jittered(MAX_PAUSE)).await;
        Ok(())
    }
}

/// The failure of the first `of` appends of a group.
pub(super) struct GroupFailure {
    pub(super) error: StoreError,
    pub(super) of: usize,
}

/// Bytes of a message reserved for headers.
pub(super) const HEADER_BYTES: usize = 1024;

/// How long the state is trusted without asking. The server checks it with every message; this bounds how long a stream
/// that was restored to an older state can be mistaken for its later self.
const TRUSTED_FOR: Duration = Duration::from_secs(5);

pub(super) const MAX_PAUSE: Duration = Duration::from_millis(200);
