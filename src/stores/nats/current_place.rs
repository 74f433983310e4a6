//! The place that the stream was found to be last.

use std::sync::{Arc, Mutex};

use tokio::time::Instant;

use super::place::Place;

/// The stream as it was found last.
#[derive(Default)]
pub(super) struct CurrentPlace {
    pub(super) found: Mutex<Option<Found>>,
    /// One task at a time looks for it.
    pub(super) lookup: tokio::sync::Mutex<()>,
}

pub(super) struct Found {
    pub(super) place: Arc<Place>,
    /// How often the connection had changed; none when there is a doubt.
    pub(super) changes: Option<u64>,
    pub(super) checked: Instant,
    /// When the server was asked for its time, and how often the connection had changed then.
    pub(super) timed: Option<(Instant, u64)>,
}
