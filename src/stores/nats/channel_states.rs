//! What is known of the channels that are being written to, or were recently. Asks nothing.

use std::{collections::HashMap, sync::Mutex, time::Duration};

use super::{channel_state::ChannelState, sync::lock};
use crate::channel::Channel;

#[derive(Default)]
pub(super) struct ChannelStates(Mutex<HashMap<Channel, Known>>);

#[derive(Default)]
struct Known {
    /// Whether a task has the state.
    in_use: bool,
    state: Option<ChannelState>,
    /// The stream sequence of the newest known message.
    seen: u64,
}

impl ChannelStates {
    /// The state that the channel's last task left, for the next one.
    pub(super) fn take(&self, channel: &Channel) -> Option<ChannelState> {
        let mut states = lock(&self.0);
        let known = match states.get_mut(channel) {
            Some(known) => known,
            None => states.entry(channel.clone()).or_default(),
        };
        known.in_use = true;
        known.state.take()
    }

    /// Leaves the state to the next task.
    pub(super) fn put(&self, channel: &Channel, state: Option<ChannelState>) {
        if let Some(known) = lock(&self.0).get_mut(channel) {
            (known.in_use, known.state) = (false, state);
        }
    }

    /// Records a message that another process may have written. Only channels that are written to here are tracked.
    pub(super) fn note_seen(&self, channel: &Channel, at: u64) {
        if let Some(known) = lock(&self.0).get_mut(channel) {
            known.seen = known.seen.max(at);
        }
    }

    /// The stream sequence of the newest known message.
    pub(super) fn seen(&self, channel: &Channel) -> u64 {
        lock(&self.0).get(channel).map_or(0, |known| known.seen)
    }

    /// The leader's newest message is older than one that was seen, so the log has lost its tail.
    pub(super) fn lower_seen(&self, channel: &Channel, seen: u64, at: u64) {
        if let Some(known) = lock(&self.0).get_mut(channel) {
            if known.seen == seen && at < seen {
                known.seen = at;
            }
        }
    }

    /// Forgets the channels that were not written to for this long.
    pub(super) fn forget_idle(&self, idle: Duration) {
        let is_idle = |state: &Option<ChannelState>| state.as_ref().is_none_or(|state| state.checked.elapsed() > idle);
        lock(&self.0).retain(|_, known| known.in_use || !is_idle(&known.state));
    }

    /// The stream was replaced, so nothing known holds any more.
    pub(super) fn forget_all(&self) {
        lock(&self.0).retain(|_, known| {
            (known.state, known.seen) = (None, 0);
            known.in_use
        });
    }
}
