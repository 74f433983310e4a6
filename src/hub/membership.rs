//! A reader's membership in a channel, which is followed while it has members.

use std::sync::Arc;

use tokio::runtime::Handle;

use super::{
    error::{SubscribeError, limit_retry},
    follower,
    shared::Shared,
    stats::RefusedBy,
    topic::{Occupancy, Topic, WaiterSlot},
};
use crate::{channel::Channel, store::StoreError};

/// Dropping it leaves the channel.
#[derive(Debug)]
pub(super) struct Membership {
    pub(super) topic: Arc<Topic>,
    pub(super) slot: WaiterSlot,
    pub(super) shared: Arc<Shared>,
}

impl Membership {
    /// Joins a channel, which is followed from now on.
    pub(super) fn join(shared: &Arc<Shared>, channel: &Channel) -> Result<Self, SubscribeError> {
        let runtime = Handle::try_current().map_err(|source| StoreError::Unavailable(source.into()))?;
        let joined = shared.join_topic(channel, || follower::start(shared, &runtime));
        let (topic, slot) = joined.ok_or_else(|| {
            shared.counters.refused(RefusedBy::MaxFollowedChannels);
            SubscribeError::TooManyChannels { retry: limit_retry() }
        })?;
        Ok(Self { topic, slot, shared: shared.clone() })
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        if self.topic.leave(&self.slot) == Occupancy::Empty {
            self.shared.topic_emptied(self.topic.channel());
        }
    }
}
