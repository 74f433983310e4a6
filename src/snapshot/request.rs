//! What a provider is asked for.

use crate::channel::Channel;

/// What a provider is asked for.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SnapshotRequest {
    /// The channel whose state is wanted.
    pub channel: Channel,
    /// The id of the reader's [`Filter`](crate::Filter), if it has one: the state must contain only what that filter shows.
    /// Readers with different ids share no calls.
    pub filter_id: Option<Box<str>>,
}

impl SnapshotRequest {
    pub(crate) fn new(channel: Channel, filter_id: Option<Box<str>>) -> Self {
        Self { channel, filter_id }
    }
}
