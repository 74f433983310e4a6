//! Whether calls of one kind to the store are failing, and since when: decides how long clients stay away and what is logged.
//! During an outage every call fails, so its start and end are logged, with a count, and once a minute that it goes on.

use std::{
    error::Error,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

#[derive(Debug)]
pub(super) struct Outage {
    /// What is called.
    callee: &'static str,
    calls: &'static str,
    failing: Mutex<Option<Failing>>,
}

#[derive(Clone, Copy, Debug)]
struct Failing {
    since: Instant,
    failures: u64,
    logged: Instant,
}

impl Outage {
    /// Starts without an outage of the store; `calls` names the kind of call in the log.
    pub(super) fn new(calls: &'static str) -> Self {
        Self { callee: "the event store", calls, failing: Mutex::new(None) }
    }

    /// Starts without an outage of a snapshot provider.
    pub(super) fn of_snapshots() -> Self {
        Self { callee: "a snapshot provider", calls: "snapshots", failing: Mutex::new(None) }
    }

    /// Records a failed call.
    pub(super) fn failed(&self, error: &(dyn Error + 'static)) {
        let now = Instant::now();
        let mut failing = self.failing();
        let is_first = failing.is_none();
        let outage = failing.get_or_insert(Failing { since: now, failures: 0, logged: now });
        outage.failures += 1;
        if !is_first && now.duration_since(outage.logged) < LOG_EVERY {
            return;
        }
        outage.logged = now;
        let Failing { since, failures, .. } = *outage;
        drop(failing);
        tracing::warn!(
            calls = self.calls,
            failures,
            seconds = now.duration_since(since).as_secs(),
            %error,
            source = error.source(),
            "{} fails; while it does, this is logged once a minute",
            self.callee
        );
    }

    /// Records a call that succeeded.
    pub(super) fn succeeded(&self) {
        let ended = self.failing().take();
        if let Some(Failing { since, failures, .. }) = ended {
            tracing::info!(
                calls = self.calls,
                failures,
                seconds = since.elapsed().as_secs(),
                "{} answers again",
                self.callee
            );
        }
    }

    /// How long a client that is turned away now should stay away.
    pub(super) fn backoff(&self) -> Duration {
        let since = self.failing().map(|failing| failing.since);
        since.map_or(MIN_BACKOFF, |since| backoff(since.elapsed()))
    }

    fn failing(&self) -> MutexGuard<'_, Option<Failing>> {
        self.failing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// As long as the outage has lasted so far, so that a reader that keeps coming back doubles its delay each time.
fn backoff(lasted: Duration) -> Duration {
    lasted.clamp(MIN_BACKOFF, MAX_BACKOFF)
}

/// How often it is logged that an outage goes on.
const LOG_EVERY: Duration = Duration::from_secs(60);

const MIN_BACKOFF: Duration = Duration::from_secs(1);
const MAX_BACKOFF: Duration = Duration::from_secs(30);

#[cfg(all(test, not(tower_events_loom)))]
mod tests {
    use super::*;
    use crate::store::StoreError;

    #[tokio::test(start_paused = true)]
    async fn the_delay_doubles_up_to_its_bound_and_ends_with_the_outage() {
        let outage = Outage::new("tests");
        assert_eq!(outage.backoff(), MIN_BACKOFF);
        let mut delays = Vec::new();
        for _ in 0..7 {
            outage.failed(&StoreError::Unavailable("a test".into()));
            delays.push(outage.backoff().as_secs());
            tokio::time::advance(outage.backoff()).await;
        }
        assert_eq!(delays, [1, 1, 2, 4, 8, 16, 30]);
        outage.succeeded();
        assert_eq!(outage.backoff(), MIN_BACKOFF);
    }
}
