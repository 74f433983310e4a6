//! Counts of what a hub holds.

use crate::store::Health;

/// What a [`Hub`](crate::Hub) holds at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Open subscriptions: streams, parked polls, in-process subscribers.
    pub readers: usize,
    /// Followed channels, including lingering ones.
    pub followed_channels: usize,
    /// Followed channels without a reader.
    pub lingering_channels: usize,
    /// Size of the recent entries kept for followed channels, in bytes as counted for
    /// [`HubOptions::ring_bytes`](crate::HubOptions::ring_bytes).
    pub ring_bytes: usize,
    /// The health of the store.
    pub store: Health,
}
