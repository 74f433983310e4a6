//! What a store does besides calls, for statistics: it drops what retention no longer holds, and gives way to other processes.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::time::Instant;

/// The upkeep of a [`Store`](super::Store) by this process, as far as it knows without a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Upkeep {
    /// For how long there has been work left for the janitor, which drops what retention no longer holds, because it fails or does
    /// not get that far. Zero as long as it does all of its work.
    pub janitor_lag: Duration,
    /// How often a write had to wait for that of another process, or be decided anew after it. Not counted by stores whose server
    /// decides, as Redis does.
    pub conflicts: u64,
}

impl Upkeep {
    /// The upkeep of a store of your own.
    #[must_use]
    pub fn new(janitor_lag: Duration, conflicts: u64) -> Self {
        Self { janitor_lag, conflicts }
    }
}

/// What a store notes of its upkeep.
#[derive(Debug, Default)]
#[cfg_attr(not(any(feature = "file", feature = "nats", feature = "postgres", feature = "redis")), allow(dead_code))]
pub(crate) struct UpkeepNotes {
    behind_since: Mutex<Option<Instant>>,
    conflicts: AtomicU64,
}

#[cfg_attr(not(any(feature = "file", feature = "nats", feature = "postgres", feature = "redis")), allow(dead_code))]
impl UpkeepNotes {
    /// The janitor has done all there was to do.
    pub(crate) fn janitor_is_done(&self) {
        *self.behind_since() = None;
    }

    /// The janitor has failed, or left some of its work.
    pub(crate) fn janitor_is_behind(&self) {
        self.behind_since().get_or_insert_with(Instant::now);
    }

    #[cfg_attr(not(any(feature = "file", feature = "nats", feature = "postgres")), allow(dead_code))]
    pub(crate) fn conflicted(&self) {
        self.conflicts.fetch_add(1, Relaxed);
    }

    pub(crate) fn upkeep(&self) -> Upkeep {
        let behind_since = *self.behind_since();
        let janitor_lag = behind_since.map_or(Duration::ZERO, |since| since.elapsed());
        Upkeep { janitor_lag, conflicts: self.conflicts.load(Relaxed) }
    }

    fn behind_since(&self) -> MutexGuard<'_, Option<Instant>> {
        self.behind_since.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_janitor_is_behind_from_its_first_failure_until_all_is_done() {
        let (notes, second) = (UpkeepNotes::default(), Duration::from_secs(1));
        notes.janitor_is_behind();
        tokio::time::advance(second).await;
        notes.janitor_is_behind();
        tokio::time::advance(second).await;
        notes.conflicted();
        assert_eq!(notes.upkeep(), Upkeep::new(second * 2, 1));
        notes.janitor_is_done();
        assert_eq!(notes.upkeep(), Upkeep::new(Duration::ZERO, 1));
    }
}
