//! How much and how long a store keeps.

use std::time::Duration;

/// What a store keeps per channel. Retention is eventual: a store never keeps less than this, and at most twice as much.
///
/// One append may have half of it: [`max_append_events`](Self::max_append_events) and
/// [`max_append_bytes`](Self::max_append_bytes).
///
/// ```
/// use std::time::Duration;
/// use tower_events::Retention;
///
/// let short = Retention::default().events(100).age(Duration::from_secs(60));
/// assert_eq!(short.bytes, 8 << 20);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Retention {
    /// Maximum number of entries. Default 1 000.
    pub events: u64,
    /// Maximum age of an entry since its append. Default 1 hour.
    pub age: Duration,
    /// Maximum number of bytes, by [`Entry::size`](super::Entry::size). Default 8 MiB.
    pub bytes: u64,
    /// How long a channel's record is kept after its last entry was dropped. Default 24 hours.
    pub forget_after: Duration,
    /// How long an idempotency key is remembered. Default 10 minutes.
    pub key_window: Duration,
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            events: 1_000,
            age: Duration::from_secs(60 * 60),
            bytes: 8 << 20,
            forget_after: Duration::from_secs(24 * 60 * 60),
            key_window: Duration::from_secs(10 * 60),
        }
    }
}

impl Retention {
    /// The maximum number of events of one append: half of those that are kept, but at least 1. So a reader that is at most one
    /// append behind finds all of it.
    #[must_use]
    pub fn max_append_events(&self) -> u64 {
        (self.events / 2).max(1)
    }

    /// The maximum number of bytes of one append, by [`Entry::size`](super::Entry::size): half of those that are kept. A store
    /// may accept less.
    #[must_use]
    pub fn max_append_bytes(&self) -> u64 {
        self.bytes / 2
    }

    /// Sets the maximum number of entries.
    #[must_use]
    pub fn events(self, events: u64) -> Self {
        Self { events, ..self }
    }

    /// Sets the maximum age.
    #[must_use]
    pub fn age(self, age: Duration) -> Self {
        Self { age, ..self }
    }

    /// Sets the maximum number of bytes.
    #[must_use]
    pub fn bytes(self, bytes: u64) -> Self {
        Self { bytes, ..self }
    }

    /// Sets how long a record is kept after its last entry was dropped.
    #[must_use]
    pub fn forget_after(self, forget_after: Duration) -> Self {
        Self { forget_after, ..self }
    }

    /// Sets how long a key is remembered.
    #[must_use]
    pub fn key_window(self, key_window: Duration) -> Self {
        Self { key_window, ..self }
    }
}
