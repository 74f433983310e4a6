//! A log that begins is announced before its first message, under a subject of its own. So a log that somebody takes away is
//! not forgotten without a trace: what comes after begins above a floor that was raised, and who waited for the first event
//! of the log that was lost is told.

use tokio::time::{Duration, Instant};

/// Where a log was announced of which nothing is there, and since when that is known.
#[derive(Clone, Copy)]
pub(super) struct Announcement {
    pub(super) at: u64,
    pub(super) since: Instant,
}

impl Announcement {
    pub(super) fn at(self) -> u64 {
        self.at
    }
}

/// A log that was announced comes within this, or it is taken for lost. One that comes later does no harm.
pub(super) const ANNOUNCEMENT_TIMEOUT: Duration = Duration::from_millis(400);
