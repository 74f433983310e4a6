//! Whether calls of one kind to the store fail just now, and since when: how long clients stay away, and what is logged. A
//! failing store fails all of them, so the log tells of the change and counts the rest.

use std::{
    error::Error as _,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::store::StoreError;

#[derive(Debug)]
pub(super) struct Outage {
    calls: &'static str,
    failing: Mutex<Option<Failing>>,
}

#[derive(Clone, Copy, Debug)]
struct Failing {
    since: Instant,
    failures: u64,
}

impl Outage {
    /// No failure was seen; `calls` names the kind in the log.
    pub(super) fn new(calls: &'static str) -> Self {
        Self { calls, failing: Mutex::new(None) }
    }

    /// Takes notice of a failed call.
    pub(super) fn failed(&self, error: &StoreError) {
        let mut state = self.state();
        if let Some(failing) = state.as_mut() {
            failing.failures += 1;
            return;
        }
        *state = Some(Failing { since: Instant::now(), failures: 1 });
        drop(state);
        tracing::warn!(calls = self.calls, %error, source = error.source(), "the event store fails; more is only counted");
    }

    /// Takes notice of a call that succeeded.
    pub(super) fn succeeded(&self) {
        let ended = self.state().take();
        if let Some(Failing { since, failures }) = ended {
            tracing::info!(
                calls = self.calls,
                failures,
                seconds = since.elapsed().as_secs(),
                "the event store answers again"
            );
        }
    }

    /// How long those should stay away who are sent away now.
    pub(super) fn backoff(&self) -> Duration {
        let since = self.state().map(|failing| failing.since);
        since.map_or(MIN_BACKOFF, |since| backoff(since.elapsed()))
    }

    fn state(&self) -> MutexGuard<'_, Option<Failing>> {
        self.failing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// As long again as it has lasted already: a reader that comes back each time doubles its delay.
fn backoff(lasted: Duration) -> Duration {
    lasted.clamp(MIN_BACKOFF, MAX_BACKOFF)
}

const MIN_BACKOFF: Duration = Duration::from_secs(1);
const MAX_BACKOFF: Duration = Duration::from_secs(30);

#[cfg(all(test, not(tower_events_loom)))]
mod tests {
    use super::*;

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
