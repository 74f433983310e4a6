//! How long things are kept.

use std::time::Duration;

/// What a store keeps, per channel. Retention is eventual: never less than this, at most twice as much.
///
/// One append may bring half of it: [`max_append_events`](Self::max_append_events) and
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
    /// Most entries. Default 1 000.
    pub events: u64,
    /// Greatest age of an entry, by its append stamp. Default 1 hour.
    pub age: Duration,
    /// Most bytes, by [`Entry::size`](super::Entry::size). Default 8 MiB.
    pub bytes: u64,
    /// How long a channel's record outlives its last entry. Default 24 hours.
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
    /// Most events of one append: half of those that are kept, and at least 1. So a reader that is at most one append
    /// behind finds all of it.
    #[must_use]
    pub fn max_append_events(&self) -> u64 {
        (self.events / 2).max(1)
    }

    /// Most bytes of one append, by [`Entry::size`](super::Entry::size): half of those that are kept. A store may take
    /// less.
    #[must_use]
    pub fn max_append_bytes(&self) -> u64 {
        self.bytes / 2
    }

    /// Sets the most entries.
    #[must_use]
    pub fn events(self, events: u64) -> Self {
        Self { events, ..self }
    }

    /// Sets the greatest age.
    #[must_use]
    pub fn age(self, age: Duration) -> Self {
        Self { age, ..self }
    }

    /// Sets the most bytes.
    #[must_use]
    pub fn bytes(self, bytes: u64) -> Self {
        Self { bytes, ..self }
    }

    /// Sets how long a record outlives its last entry.
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
