//! What a hub holds.

use crate::store::Health;

/// What a [`Hub`](crate::Hub) holds at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Open subscriptions: streams, parked polls, in-process subscribers.
    pub readers: usize,
    /// Followed channels, lingering ones included.
    pub topics: usize,
    /// Followed channels without a reader.
    pub lingering: usize,
    /// Recent entries kept for followed channels, in bytes as [`HubOptions::ring_bytes`](crate::HubOptions::ring_bytes)
    /// counts them.
    pub ring_bytes: usize,
    /// How the store is.
    pub store: Health,
}
