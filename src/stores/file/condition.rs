//! What is wrong with the file, as far as calls have found, and whether it has ended: the writer's thread tries again every
//! second while something is.

use std::{
    error::Error as _,
    sync::atomic::{AtomicU8, Ordering::Relaxed},
    time::Duration,
};

use super::error::is_sqlite;
use crate::store::StoreError;

/// How reads go, and how writes do.
pub(super) struct Condition {
    pub(super) reads: Side,
    pub(super) writes: Side,
}

/// Reads or writes.
pub(super) struct Side {
    what: &'static str,
    state: AtomicU8,
}

impl Default for Condition {
    fn default() -> Self {
        let validated = |what| Side { what, state: AtomicU8::new(SOUND) };
        Self { reads: validated("reads"), writes: validated("writes") }
    }
}

impl Condition {
    /// Whether something has to be tried again.
    pub(super) fn is_in_doubt(&self) -> bool {
        self.reads.is_in_doubt() || self.writes.is_in_doubt()
    }
}

impl Side {
    /// Takes notice of a call that failed. Of damage nobody knows yet how far it goes.
    pub(super) fn note(&self, file: &std::path::Path, error: &StoreError) {
        let fails = match error {
            StoreError::Unavailable(_)
            | StoreError::Full(_)
            | StoreError::Unknown(_)
            | StoreError::NewerFormat { .. } => true,
            StoreError::Corrupt(source) if is_sqlite(source.as_ref()) => false,
            _ => return,
        };
        if fails {
            self.fail(file, error);
        } else {
            _ = self.state.compare_exchange(SOUND, DOUBT, Relaxed, Relaxed);
        }
    }

    /// Takes notice of a trial that failed.
    pub(super) fn fail(&self, file: &std::path::Path, error: &StoreError) {
        if self.state.swap(FAILS, Relaxed) != FAILS {
            let (file, why) = (file.display(), error.source().map(ToString::to_string));
            tracing::warn!(%file, %error, why, "{} of an event file fail; tried again every {TRY_EVERY:?}", self.what);
        }
    }

    /// Takes notice of a call that succeeded.
    pub(super) fn recover(&self, file: &std::path::Path) {
        if self.is_in_doubt() && self.state.swap(SOUND, Relaxed) == FAILS {
            tracing::info!(file = %file.display(), "{} of an event file succeed again", self.what);
        }
    }

    pub(super) fn is_in_doubt(&self) -> bool {
        self.state.load(Relaxed) != SOUND
    }

    pub(super) fn fails(&self) -> bool {
        self.state.load(Relaxed) == FAILS
    }
}

const SOUND: u8 = 0;
/// What failed may be one channel's.
const DOUBT: u8 = 1;
const FAILS: u8 = 2;

/// So often what fails is tried.
pub(super) const TRY_EVERY: Duration = Duration::from_secs(1);
