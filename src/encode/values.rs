//! Values that streams and pages write alike.

use std::time::Duration;

/// Why a channel cannot be read, as clients are told.
pub(crate) const CORRUPT: &str = "corrupt";

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
