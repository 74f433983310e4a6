//! Values that are written the same way everywhere.

use std::time::Duration;

/// The reason that clients see when a channel cannot be read.
pub(crate) const CORRUPT: &str = "corrupt";

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
