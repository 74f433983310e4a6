//! The control channels: where processes show signs of life, and where stops are announced.

use crate::channel::{Channel, RESERVED_PREFIX};

/// Where `process` shows signs of life; `None` if that is not the name of a process.
pub(super) fn beats(process: &str) -> Option<Channel> {
    Channel::new(format!("{RESERVED_PREFIX}run-beats:{process}")).ok()
}

/// Where stops are announced.
pub(super) fn stops() -> Option<Channel> {
    Channel::new(format!("{RESERVED_PREFIX}run-stops")).ok()
}
