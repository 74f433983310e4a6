//! Whether reads and writes of the file succeed, as far as calls have shown. While they do not, the writer's thread
//! retries every second.

use std::{
    error::Error as _,
    sync::atomic::{AtomicU8, Ordering::Relaxed},
    time::Duration,
};

use super::error::is_sqlite;
use crate::store::StoreError;

pub(super) struct FileHealth {
    pub(super) reads: CallHealth,
    pub(super) writes: CallHealth,
}

/// The health of reads, or of writes.
pub(super) struct CallHealth {
    calls: &'static str,
    state: AtomicU8,
}

impl Default for FileHealth {
    fn default() -> Self {
        let healthy = |calls| CallHealth { calls, state: AtomicU8::new(OK) };
        Self { reads: healthy("reads"), writes: healthy("writes") }
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
        if self.state.swap(FAILING, Relaxed) != FAILING {
            let (file, why) = (file.display(), error.source().map(ToString::to_string));
            tracing::warn!(%file, %error, why, "{} of an event file fail; retrying every {RETRY_EVERY:?}", self.calls);
        }
    }

    /// Records a call that succeeded.
    pub(super) fn recover(&self, file: &std::path::Path) {
        if self.needs_retry() && self.state.swap(OK, Relaxed) == FAILING {
            tracing::info!(file = %file.display(), "{} of an event file succeed again", self.calls);
        }
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
