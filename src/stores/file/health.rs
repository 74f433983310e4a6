//! Whether reads and writes of the file succeed, as far as calls have shown. While they do not, the writer's thread
//! retries every second.

use std::{
    error::Error as _,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering::Relaxed},
    },
    time::Duration,
};

use super::error::is_sqlite;
use crate::{
    store::{StoreError, log_pace::LogPace},
    stores::outage_log::{OutageLog, Part},
};

pub(super) struct FileHealth {
    pub(super) reads: CallHealth,
    pub(super) writes: CallHealth,
    pub(super) outages: Arc<OutageLog>,
    pub(super) warnings: Warnings,
}

/// How often each is logged.
#[derive(Default)]
pub(super) struct Warnings {
    /// Another program holds the lock.
    pub(super) locked: LogPace,
    pub(super) checkpoint_failed: LogPace,
    /// A reader prevents the WAL from being reused.
    pub(super) wal_pinned: LogPace,
}

/// The health of reads, or of writes.
pub(super) struct CallHealth {
    part: Part,
    state: AtomicU8,
    outages: Arc<OutageLog>,
}

impl Default for FileHealth {
    fn default() -> Self {
        let outages = Arc::<OutageLog>::default();
        let healthy = |part| CallHealth { part, state: AtomicU8::new(OK), outages: Arc::clone(&outages) };
        Self { reads: healthy(Part::Reads), writes: healthy(Part::Writes), outages, warnings: Warnings::default() }
    }
}

impl FileHealth {
    /// Whether reads or writes have to be retried.
    pub(super) fn needs_retry(&self) -> bool {
        self.reads.needs_retry() || self.writes.needs_retry()
    }
}

impl CallHealth {
    /// Records a failed call. Damage may be limited to one channel, so it only raises suspicion.
    pub(super) fn record_failure(&self, file: &std::path::Path, error: &StoreError) {
        let is_failure = match error {
            StoreError::Unavailable(_)
            | StoreError::Full(_)
            | StoreError::Unknown(_)
            | StoreError::NewerFormat { .. } => true,
            StoreError::Corrupt(source) if is_sqlite(source.as_ref()) => false,
            _ => return,
        };
        if is_failure {
            self.set_failing(file, error);
        } else {
            _ = self.state.compare_exchange(OK, SUSPECT, Relaxed, Relaxed);
        }
    }

    /// Records a failed retry.
    pub(super) fn set_failing(&self, file: &std::path::Path, error: &StoreError) {
        self.state.store(FAILING, Relaxed);
        if self.outages.failed(self.part) {
            let (file, source, calls) = (file.display(), error.source(), self.calls());
            tracing::warn!(%file, %error, source, calls, "an event file fails; trying again every {RETRY_EVERY:?}");
        }
    }

    /// Records a call that succeeded.
    pub(super) fn recover(&self, file: &std::path::Path) {
        let has_failed = self.needs_retry() && self.state.swap(OK, Relaxed) == FAILING;
        if has_failed && self.outages.recovered(self.part) {
            tracing::info!(file = %file.display(), "an event file can be used again");
        }
    }

    fn calls(&self) -> &'static str {
        if self.part == Part::Reads { "reads" } else { "writes" }
    }

    pub(super) fn needs_retry(&self) -> bool {
        self.state.load(Relaxed) != OK
    }

    pub(super) fn is_failing(&self) -> bool {
        self.state.load(Relaxed) == FAILING
    }
}

const OK: u8 = 0;
/// A call has failed, perhaps because of one damaged channel.
const SUSPECT: u8 = 1;
const FAILING: u8 = 2;

/// How often reads or writes that fail are retried.
pub(super) const RETRY_EVERY: Duration = Duration::from_secs(1);
