//! A log is announced under a subject of its own before its first message. So a log that is deleted from outside leaves
//! a trace: the next log starts above a raised floor, and readers that were waiting for the first event of the lost log
//! are reset.

use tokio::time::{Duration, Instant};

/// An announcement without a log: its stream sequence, and when it was first seen in that state.
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

/// If no message follows an announcement within this time, its log counts as lost. One that is written later does no
/// harm.
pub(super) const ANNOUNCEMENT_TIMEOUT: Duration = Duration::from_millis(400);
