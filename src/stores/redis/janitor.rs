//! When the janitor runs. Asks the server nothing.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{sync::Mutex, time::Instant};

use crate::store::Retention;

/// The schedule of the janitor.
pub(super) struct Janitor {
    started: Instant,
    /// When the next run is due, in milliseconds since `started`.
    pub(super) next: AtomicU64,
    /// Locked during a run.
    pub(super) run: Mutex<()>,
    /// When the list of all channels was last rebuilt; locked while it is.
    pub(super) listed: Arc<Mutex<Option<Instant>>>,
}

impl Default for Janitor {
    fn default() -> Self {
        Self { started: Instant::now(), next: AtomicU64::new(0), run: Mutex::default(), listed: Arc::default() }
    }
}

impl Janitor {
    /// Whether a run is due; true for one caller only. Often enough that nothing is kept for twice its age, and rarely
    /// enough to cost nothing.
    pub(super) fn is_due(&self, retention: &Retention) -> bool {
        let due = self.next.load(Ordering::Relaxed);
        let every = (retention.age / 16).clamp(Duration::from_secs(1), Duration::from_secs(30));
        let (now, next) = (self.after(Duration::ZERO), self.after(every));
        now >= due && self.next.compare_exchange(due, next, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    fn after(&self, pause: Duration) -> u64 {
        u64::try_from((self.started.elapsed() + pause).as_millis()).unwrap_or(u64::MAX)
    }
}
