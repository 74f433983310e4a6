//! The place that the stream was last found to be.

use std::sync::{Arc, Mutex};

use tokio::time::Instant;

use super::place::Place;

/// The stream as last found.
#[derive(Default)]
pub(super) struct CurrentPlace {
    pub(super) found: Mutex<Option<Found>>,
    /// Locked while looking for the stream, so that one task does it for all.
    pub(super) lookup: tokio::sync::Mutex<()>,
}

pub(super) struct Found {
    pub(super) place: Arc<Place>,
    /// How often the connection had changed; `None` when the place must be checked.
    pub(super) changes: Option<u64>,
    pub(super) checked: Instant,
    /// When the server's time was requested, and how often the connection had changed then.
    pub(super) timed: Option<(Instant, u64)>,
}
