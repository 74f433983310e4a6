//! The settings of the runs of one process.

use std::{sync::Arc, time::Duration};

use crate::channel::Channel;

/// Settings of [`Runs`](crate::Runs). Every process that shares a store sets the same prefix and the same
/// [`abandon_after`](Self::abandon_after).
///
/// ```
/// use std::time::Duration;
/// use tower_events::{Channel, Hub, MemoryStore, Runs, RunsOptions};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), tower_events::InvalidChannel> {
/// let options = RunsOptions::default()
///     .prefix(&Channel::new("answer:")?)
///     .max_duration(Duration::from_secs(600))
///     .max_runs(500);
/// let runs = Runs::with_options(Hub::new(MemoryStore::default()), options);
/// # drop(runs);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct RunsOptions {
    pub(super) prefix: Arc<str>,
    pub(super) batch_within: Duration,
    pub(super) queue_events: usize,
    pub(super) queue_bytes: usize,
    pub(super) max_duration: Duration,
    pub(super) max_runs: usize,
    pub(super) grace: Duration,
    pub(super) store_patience: Duration,
    pub(super) abandon_after: Duration,
    pub(super) error_text: ErrorText,
}

/// Who may read why the work of a run failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ErrorText {
    /// Only the log has it.
    Logged,
    /// The run's last event has it as well.
    Published,
}

impl Default for RunsOptions {
    fn default() -> Self {
        Self {
            prefix: "run:".into(),
            batch_within: Duration::from_millis(20),
            queue_events: 1_024,
            queue_bytes: 1 << 20,
            max_duration: Duration::MAX,
            max_runs: 10_000,
            grace: Duration::from_secs(1),
            store_patience: Duration::from_secs(60),
            abandon_after: Duration::from_secs(15),
            error_text: ErrorText::Logged,
        }
    }
}

impl RunsOptions {
    /// Sets the prefix of the names of all channels of runs, which no other channel may have: an open channel with it in which
    /// nothing happens is closed as abandoned. Default `run:`.
    #[must_use]
    pub fn prefix(self, prefix: &Channel) -> Self {
        Self { prefix: prefix.as_str().into(), ..self }
    }

    /// Sets how long an event may wait for others, so that one append stores them together. Default 20 ms.
    #[must_use]
    pub fn batch_within(self, batch_within: Duration) -> Self {
        Self { batch_within, ..self }
    }

    /// Sets the most events of one run that wait to be stored; at least 1. With more, [`Run::publish`](crate::Run::publish)
    /// waits. Default 1 024.
    #[must_use]
    pub fn queue_events(self, queue_events: usize) -> Self {
        Self { queue_events: queue_events.max(1), ..self }
    }

    /// Sets the most bytes of one run that wait to be stored, counted as [`Entry::size`](crate::store::Entry::size); a single
    /// event may have more. With more, [`Run::publish`](crate::Run::publish) waits. Default 1 MiB.
    #[must_use]
    pub fn queue_bytes(self, queue_bytes: usize) -> Self {
        Self { queue_bytes, ..self }
    }

    /// Sets how long a run may take before it ends as failed. It is never more than nine tenths of
    /// [`Retention::age`](crate::Retention), so that its beginning is still there at its end. Default: that.
    #[must_use]
    pub fn max_duration(self, max_duration: Duration) -> Self {
        Self { max_duration, ..self }
    }

    /// Sets the most runs of this process at once; at least 1. One more is refused with
    /// [`StartError::TooManyRuns`](crate::StartError::TooManyRuns). Default 10 000.
    #[must_use]
    pub fn max_runs(self, max_runs: usize) -> Self {
        Self { max_runs: max_runs.max(1), ..self }
    }

    /// Sets how long the work may go on once its run is over, for example to keep what it has. Then it is dropped. Default 1 s.
    #[must_use]
    pub fn grace(self, grace: Duration) -> Self {
        Self { grace, ..self }
    }

    /// Sets how long an append of a run is repeated while the store is unavailable or its outcome unknown; at most half of
    /// [`Retention::key_window`](crate::Retention). Then the run is over for this process. Default 60 s.
    #[must_use]
    pub fn store_patience(self, store_patience: Duration) -> Self {
        Self { store_patience, ..self }
    }

    /// Sets how long neither a run nor its process may show a sign of life before others end it as abandoned; at least 1 s. A
    /// process gives three signs within this time. Default 15 s.
    #[must_use]
    pub fn abandon_after(self, abandon_after: Duration) -> Self {
        Self { abandon_after: abandon_after.max(Duration::from_secs(1)), ..self }
    }

    /// Publishes the text of an error or a panic that ended a run, up to 1 000 characters, as `error` in its last event. The text
    /// is not checked for secrets. Default: it is only logged.
    #[must_use]
    pub fn publish_error_text(self) -> Self {
        Self { error_text: ErrorText::Published, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_have_their_documented_defaults_and_bounds() {
        let options = RunsOptions::default();
        assert_eq!((&*options.prefix, options.batch_within.as_millis()), ("run:", 20));
        assert_eq!((options.queue_events, options.queue_bytes, options.max_runs), (1_024, 1 << 20, 10_000));
        let seconds = [options.grace, options.store_patience, options.abandon_after].map(|time| time.as_secs());
        assert_eq!((seconds, options.max_duration), ([1, 60, 15], Duration::MAX));
        assert_eq!(options.error_text, ErrorText::Logged);
        let least = options.queue_events(0).max_runs(0).abandon_after(Duration::ZERO);
        assert_eq!((least.queue_events, least.max_runs, least.abandon_after.as_secs()), (1, 1, 1));
    }
}
