//! The options of long polls.

use std::time::Duration;

/// Options of long polls.
///
/// ```
/// use std::time::Duration;
/// use tower_events::longpoll::LongPollOptions;
///
/// let options = LongPollOptions::default().wait(Duration::from_secs(10)).limit(500).refuse_resets();
/// # drop(options);
/// ```
#[derive(Clone, Debug)]
pub struct LongPollOptions {
    pub(super) wait: Duration,
    pub(super) max_wait: Duration,
    pub(super) limit: usize,
    pub(super) on_reset: OnReset,
}

/// How a position that cannot be continued is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OnReset {
    /// `200`, `Events-Reset`, and what is left.
    Deliver,
    /// `410`, with the positions to choose from.
    Refuse,
}

impl Default for LongPollOptions {
    fn default() -> Self {
        Self {
            wait: Duration::from_secs(25),
            max_wait: Duration::from_secs(55),
            limit: 100,
            on_reset: OnReset::Deliver,
        }
    }
}

impl LongPollOptions {
    /// Sets how long a poll waits if its request does not say; with zero it only catches up. Default 25 s.
    #[must_use]
    pub fn wait(self, wait: Duration) -> Self {
        Self { wait, ..self }
    }

    /// Sets the longest wait that a request may ask for, in whole seconds, at most a day. Default 55 s, because proxies cut
    /// silent connections after 60 s.
    #[must_use]
    pub fn max_wait(self, max_wait: Duration) -> Self {
        Self { max_wait: max_wait.min(DAY), ..self }
    }

    /// Sets the maximum number of events of a response, at least 1, which is also the limit of a request that does not set
    /// one. Default 100.
    #[must_use]
    pub fn limit(self, limit: usize) -> Self {
        Self { limit: limit.max(1), ..self }
    }

    /// Answers a position that cannot be continued with `410` and the positions to choose from, instead of with what is left. Not where
    /// there are [snapshots](crate::snapshot): then the state follows.
    #[must_use]
    pub fn refuse_resets(self) -> Self {
        Self { on_reset: OnReset::Refuse, ..self }
    }
}

/// No wait is endless, because a lost connection is not always noticed.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
