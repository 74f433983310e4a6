//! [`Retention`] as stores compare with it.

use std::time::Duration;

use super::retention::Retention;

/// What is kept, times in milliseconds; none is more than a signed number holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Keep {
    pub(crate) events: u64,
    pub(crate) bytes: u64,
    pub(crate) age: u64,
    pub(crate) forget_after: u64,
    pub(crate) key_window: u64,
}

impl Keep {
    pub(crate) fn new(retention: &Retention) -> Self {
        Self {
            events: retention.events,
            bytes: retention.bytes,
            age: millis(retention.age),
            forget_after: millis(retention.forget_after),
            key_window: millis(retention.key_window),
        }
    }

    /// The larger of each setting.
    #[cfg(any(feature = "file", feature = "nats"))]
    pub(crate) fn largest(&self, other: &Self) -> Self {
        Self {
            events: self.events.max(other.events),
            bytes: self.bytes.max(other.bytes),
            age: self.age.max(other.age),
            forget_after: self.forget_after.max(other.forget_after),
            key_window: self.key_window.max(other.key_window),
        }
    }

    /// How often an unused channel needs a look so that nothing stays twice as long as it should.
    pub(crate) fn period(&self) -> u64 {
        self.age.min(self.forget_after).min(self.key_window).max(1)
    }

    /// Entries with an older append stamp are gone, whether they still take room or not.
    pub(crate) fn oldest(&self, now: u64) -> u64 {
        now.saturating_sub(self.age)
    }

    /// Records that have been empty since before are to be forgotten.
    #[cfg(feature = "file")]
    pub(crate) fn oldest_record(&self, now: u64) -> u64 {
        now.saturating_sub(self.forget_after)
    }

    /// Keys that came earlier are no longer remembered.
    pub(crate) fn oldest_key(&self, now: u64) -> u64 {
        now.saturating_sub(self.key_window)
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX).min(i64::MAX as u64)
}
