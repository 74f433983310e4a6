//! What all handles and tasks of the runs of one process share.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{runtime::Handle, task::JoinHandle, time::timeout};

use super::{
    active::Active,
    control,
    limits::Limits,
    options::RunsOptions,
    outcome::{RunOutcome, RunState},
};
use crate::{
    channel::Channel,
    hub::Hub,
    store::{Limit, Page, Start, Store, StoreError, resume::fresh_epoch},
};

#[derive(Debug)]
pub(super) struct Shared<S> {
    pub(super) hub: Hub<S>,
    pub(super) options: RunsOptions,
    pub(super) limits: Limits,
    /// Random, and different for each `Runs::new`.
    pub(super) process: String,
    /// Where this process shows signs of life.
    pub(super) beats: Option<Channel>,
    pub(super) active: Arc<Active>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

impl<S: Store> Shared<S> {
    pub(super) fn new(hub: Hub<S>, options: RunsOptions) -> Self {
        let process = random_id();
        Self {
            limits: Limits::new(&options, &hub.store().retention()),
            beats: control::beats(&process),
            process,
            hub,
            options,
            active: Arc::default(),
            tasks: Mutex::default(),
        }
    }

    /// Whether a channel of this name is one of a run.
    pub(super) fn has(&self, channel: &Channel) -> bool {
        channel.as_str().starts_with(&*self.options.prefix) && !channel.is_reserved()
    }

    /// How long an append is repeated.
    pub(super) fn patience(&self) -> Duration {
        self.options.store_patience.min(self.hub.store().retention().key_window / 2)
    }

    /// Starts the background tasks, unless they run: those of a runtime that has ended do not.
    pub(super) fn keep_running(&self, start: impl FnOnce(&Handle) -> Vec<JoinHandle<()>>) {
        let Ok(runtime) = Handle::try_current() else { return };
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        if tasks.is_empty() || tasks.iter().all(JoinHandle::is_finished) {
            *tasks = start(&runtime);
        }
    }

    pub(super) async fn read(&self, channel: &Channel, start: Start) -> Result<Page, StoreError> {
        let read = self.hub.store().read(channel, start, Limit::default().events(1));
        in_time(read).await
    }

    pub(super) async fn state(&self, channel: &Channel) -> Result<Option<RunState>, StoreError> {
        self.read(channel, Start::Last(1)).await.map(|last| RunState::of(&last))
    }

    /// The outcome of a run that is known to have ended, if that can be found out.
    pub(super) async fn outcome(&self, channel: &Channel) -> Option<RunOutcome> {
        self.state(channel).await.ok().flatten().and_then(RunState::outcome)
    }
}

/// The result of a read, which fails if it takes too long.
pub(super) async fn in_time<T>(read: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    match timeout(LONGEST_READ, read).await {
        Ok(result) => result,
        Err(_) => Err(StoreError::Unavailable("the read took too long".into())),
    }
}

const LONGEST_READ: Duration = Duration::from_secs(10);

/// 128 random bits as text.
pub(super) fn random_id() -> String {
    format!("{:016x}{:016x}", fresh_epoch(), fresh_epoch())
}
