//! The two background tasks of a follower. Knows nothing about what they do.

use std::{future::Future, time::Duration};

use tokio::{
    runtime::Handle,
    task::{JoinHandle, JoinSet},
    time::sleep,
};

use crate::store::log_pace::LogPace;

/// Dropping it ends the tasks.
#[derive(Debug)]
pub(super) struct FollowerTasks {
    hints: JoinHandle<()>,
    heads: JoinHandle<()>,
}

impl FollowerTasks {
    /// Spawns a task that follows the store's hints, and one that compares heads.
    pub(super) fn spawn<H, C>(
        runtime: &Handle,
        follow_hints: impl Fn() -> H + Send + 'static,
        compare_heads: impl Fn() -> C + Send + 'static,
    ) -> Self
    where
        H: Future<Output = ()> + Send + 'static,
        C: Future<Output = ()> + Send + 'static,
    {
        Self {
            hints: runtime.spawn(restart_after_panics(follow_hints)),
            heads: runtime.spawn(restart_after_panics(compare_heads)),
        }
    }

    /// Whether the runtime that they were spawned on is gone: nothing else ends them while this exists.
    pub(super) fn is_finished(&self) -> bool {
        self.heads.is_finished()
    }
}

impl Drop for FollowerTasks {
    fn drop(&mut self) {
        self.hints.abort();
        self.heads.abort();
    }
}

/// Runs a task, and restarts it after a pause when the store panics in it.
pub(super) async fn restart_after_panics<F: Future<Output = ()> + Send + 'static>(task: impl Fn() -> F) {
    let pace = LogPace::default();
    loop {
        // Dropped together with this future, which ends the task inside.
        let mut running = JoinSet::new();
        running.spawn(task());
        match running.join_next().await {
            Some(Err(error)) if error.is_panic() => {
                if pace.is_due() {
                    tracing::error!("the event store panicked; following it again");
                }
            }
            _ => return,
        }
        sleep(PAUSE_AFTER_FAULT).await;
    }
}

/// How long to wait after the store broke its contract before it is followed again.
pub(super) const PAUSE_AFTER_FAULT: Duration = Duration::from_secs(1);
