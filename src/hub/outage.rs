//! Whether calls of one kind are failing, and since when: decides how long clients stay away. What is logged of it is one matter
//! for all kinds of calls.

use std::{
    error::Error,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::outage_log::OutageLog;

#[derive(Debug)]
pub(super) struct Outage {
    /// Names the kind of call in the log.
    calls: &'static str,
    log: Arc<OutageLog>,
    since: Mutex<Option<Instant>>,
}

impl Outage {
    /// Starts without an outage.
    pub(super) fn new(calls: &'static str, log: Arc<OutageLog>) -> Self {
        Self { calls, log, since: Mutex::default() }
    }

    /// Records a failed call.
    pub(super) fn failed(&self, error: &(dyn Error + 'static)) {
        let mut since = self.since();
        since.get_or_insert_with(Instant::now);
        let line = self.log.failed(self.calls);
        // What listens to the log may take long.
        drop(since);
        if let Some(line) = line {
            line.warn(error);
        }
    }

    /// Records a call that succeeded.
    pub(super) fn succeeded(&self) {
        let mut since = self.since();
        let line = since.take().and_then(|_| self.log.recovered(self.calls));
        drop(since);
        if let Some(line) = line {
            line.info();
        }
    }

    /// How long a client that is turned away now should stay away.
    pub(super) fn backoff(&self) -> Duration {
        let since = *self.since();
        since.map_or(MIN_BACKOFF, |since| backoff(since.elapsed()))
    }

    fn since(&self) -> MutexGuard<'_, Option<Instant>> {
        self.since.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// As long as the outage has lasted so far, so that a reader that keeps coming back doubles its delay each time.
fn backoff(lasted: Duration) -> Duration {
    lasted.clamp(MIN_BACKOFF, MAX_BACKOFF)
}

const MIN_BACKOFF: Duration = Duration::from_secs(1);
const MAX_BACKOFF: Duration = Duration::from_secs(30);

#[cfg(all(test, not(tower_events_loom)))]
mod tests {
    use super::*;
    use crate::store::StoreError;

    #[tokio::test(start_paused = true)]
    async fn the_delay_doubles_up_to_its_bound_and_ends_with_the_outage() {
        let outage = Outage::new("tests", Arc::new(OutageLog::of_store()));
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
