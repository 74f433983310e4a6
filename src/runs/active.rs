//! The runs of this process.

use std::{
    collections::HashMap,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

use super::{error::StartError, feed::Feed, marks::End};
use crate::channel::Channel;

#[derive(Debug, Default)]
pub(super) struct Active {
    registry: Mutex<Registry>,
    /// Notified when the first run begins and when the last has gone.
    changed: Notify,
}

#[derive(Debug, Default)]
struct Registry {
    /// By the run's id.
    runs: HashMap<String, Arc<Feed>>,
    closed: bool,
}

impl Active {
    /// Counts a run, until the guard is dropped.
    pub(super) fn enter(self: &Arc<Self>, feed: &Arc<Feed>, max: usize) -> Result<ActiveRun, StartError> {
        let mut registry = self.registry();
        if registry.closed {
            return Err(StartError::ShuttingDown);
        }
        if registry.runs.len() >= max {
            return Err(StartError::TooManyRuns);
        }
        registry.runs.insert(feed.run.clone(), feed.clone());
        drop(registry);
        self.changed.notify_waiters();
        Ok(ActiveRun { active: self.clone(), run: feed.run.clone() })
    }

    /// Refuses further runs.
    pub(super) fn close(&self) {
        self.registry().closed = true;
    }

    /// Ends all runs.
    pub(super) fn end_all(&self, end: &End) {
        self.registry().runs.values().for_each(|feed| feed.close(end.clone()));
    }

    pub(super) fn get(&self, run: &str) -> Option<Arc<Feed>> {
        self.registry().runs.get(run).cloned()
    }

    pub(super) fn all(&self) -> Vec<Arc<Feed>> {
        self.registry().runs.values().cloned().collect()
    }

    /// Makes the producer of `channel` look at it; whether there is one.
    pub(super) fn notice(&self, channel: &Channel) -> bool {
        let registry = self.registry();
        let of_channel = registry.runs.values().filter(|feed| feed.channel == *channel);
        of_channel.map(|feed| feed.notice()).count() > 0
    }

    pub(super) fn is_empty(&self) -> bool {
        self.registry().runs.is_empty()
    }

    /// Waits until all runs have gone.
    pub(super) async fn none_left(&self) {
        self.until(Self::is_empty).await;
    }

    /// Waits until there is a run.
    pub(super) async fn any(&self) {
        self.until(|active| !active.is_empty()).await;
    }

    async fn until(&self, holds: impl Fn(&Self) -> bool) {
        loop {
            let mut changed = pin!(self.changed.notified());
            changed.as_mut().enable();
            if holds(self) {
                return;
            }
            changed.await;
        }
    }

    fn registry(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A counted run.
#[derive(Debug)]
pub(super) struct ActiveRun {
    active: Arc<Active>,
    run: String,
}

impl Drop for ActiveRun {
    fn drop(&mut self) {
        self.active.registry().runs.remove(&self.run);
        self.active.changed.notify_waiters();
    }
}
