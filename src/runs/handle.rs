//! The handle: starting, stopping and listing runs.

use std::{fmt, future::Future, sync::Arc, time::Duration};

use tokio::{
    runtime::Handle,
    sync::oneshot,
    time::{Instant, timeout},
};

use super::{
    beat::beat,
    concurrently::concurrently,
    error::{StartError, StopError},
    feed::Feed,
    marks::End,
    options::RunsOptions,
    outcome::{RunOutcome, RunState},
    pending::{Amount, Pending},
    producer::Producer,
    reaper::reap,
    run::Run,
    shared::{Shared, in_time, random_id},
    stops,
    work::WorkResult,
};
use crate::{
    channel::Channel,
    hub::Hub,
    store::{AnyStore, Head, Store, StoreError},
};

/// The runs of one process on one hub. Clones are cheap and share everything. See the [module docs](self::super).
///
/// Create it once, in every process that shares the store, also in those that only read: each of them ends runs whose process is
/// gone. It watches from [`Runs::new`] on if that is called within a tokio runtime, otherwise from the first call that is.
///
/// Dropping the last handle ends nothing: runs that have begun go on to their end, and the process watches until then.
pub struct Runs<S = AnyStore> {
    shared: Arc<Shared<S>>,
}

impl<S: Store> Runs<S> {
    /// Runs with default options: in channels whose names begin with `run:`.
    pub fn new(hub: Hub<S>) -> Self {
        Self::with_options(hub, RunsOptions::default())
    }

    /// Runs with these options. From then on [`PublishService`](crate::PublishService) with this hub refuses channels with the
    /// prefix of these runs.
    pub fn with_options(hub: Hub<S>, options: RunsOptions) -> Self {
        hub.own(&options.prefix);
        let runs = Self { shared: Arc::new(Shared::new(hub, options)) };
        runs.keep_watching();
        runs
    }

    /// Starts a run: `work` produces the events of `channel` by [`Run::publish`], and the run ends when it returns. It goes on
    /// whether or not anybody watches; its task belongs to the tokio runtime in which this is called.
    ///
    /// Of several processes that start a run in one channel, one succeeds. A channel has one run, until the store has forgotten
    /// it ([`Retention::forget_after`](crate::Retention)).
    ///
    /// The work is dropped when its run is over and the [grace](RunsOptions::grace) has passed. If it returns an error or panics,
    /// the run has failed.
    ///
    /// # Errors
    /// [`StartError`]; then `work` was dropped without having begun.
    ///
    /// # Cancel safety
    /// When the future is dropped, the run begins or not; if it begins, it goes on.
    pub async fn start<F, W>(&self, channel: &Channel, work: F) -> Result<Run, StartError>
    where
        F: FnOnce(Run) -> W + Send + 'static,
        W: Future<Output: WorkResult> + Send + 'static,
    {
        let Shared { options, limits, active, .. } = &*self.shared;
        if !self.shared.has(channel) {
            return Err(StartError::OutsidePrefix);
        }
        let Ok(runtime) = Handle::try_current() else {
            return Err(StartError::Store(StoreError::Unavailable("no tokio runtime is running".into())));
        };
        self.keep_watching();
        let room = Amount { events: options.queue_events, bytes: options.queue_bytes };
        let pending = Pending::new(*limits, room, Instant::now());
        let feed = Arc::new(Feed::new(channel.clone(), random_id(), pending));
        let counted = active.enter(&feed, options.max_runs)?;
        let (elected, election) = oneshot::channel();
        let run = Run::new(feed.clone());
        let producer = Producer { shared: self.shared.clone(), feed, _active: counted };
        runtime.spawn(producer.run(elected, {
            let run = run.clone();
            move || work(run)
        }));
        // The task is gone only if its runtime is shutting down.
        election.await.unwrap_or(Err(StartError::ShuttingDown)).map(|()| run)
    }

    /// Stops a run, whichever process it is in. When this returns, the channel is closed, and readers get its end. A run that was
    /// not started yet will not be. Returns how the run has ended: as stopped, or as it had ended before.
    ///
    /// # Errors
    /// [`StopError`]; a channel whose name does not have the prefix of runs is never closed.
    ///
    /// # Cancel safety
    /// When the future is dropped, the run is stopped or not.
    pub async fn stop(&self, channel: &Channel) -> Result<RunState, StopError> {
        if !self.shared.has(channel) {
            return Err(StopError::OutsidePrefix);
        }
        self.keep_watching();
        Ok(stops::stop(&self.shared, channel).await?)
    }

    /// The state of one run; `None` if there is no run in this channel.
    ///
    /// # Errors
    /// As [`Store::read`].
    ///
    /// # Cancel safety
    /// Safe to drop at any point.
    pub async fn state(&self, channel: &Channel) -> Result<Option<RunState>, StoreError> {
        self.shared.state(channel).await
    }

    /// The runs of all processes and their states, in byte order of the names of their channels: at most `limit` of those after
    /// `after`. A page may hold fewer; only an empty one is the end.
    ///
    /// # Errors
    /// As [`Store::channels`] and [`Store::read`].
    ///
    /// # Cancel safety
    /// Safe to drop at any point.
    pub async fn list(&self, after: Option<&Channel>, limit: usize) -> Result<Vec<(Channel, RunState)>, StoreError> {
        self.keep_watching();
        let shared = &self.shared;
        let page = in_time(shared.hub.channels(&shared.options.prefix, after, limit)).await?;
        let state = |(channel, head): (Channel, Head)| {
            let shared = shared.clone();
            async move {
                let state = match head.closed {
                    true => shared.state(&channel).await?.unwrap_or(RunState::Expired),
                    false => RunState::Running,
                };
                Ok((channel, state))
            }
        };
        let mut listed = concurrently(page, state).await.into_iter().collect::<Result<Vec<_>, StoreError>>()?;
        listed.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        Ok(listed)
    }

    /// Ends the runs of this process before it ends: from now on none can be started, and those that have not ended within
    /// `window` are ended as abandoned. Returns when all have, or after another five seconds; others end what is left then. A run
    /// goes on while its hub [drains](Hub::drain), so a server drains first, and calls this before it exits.
    ///
    /// # Cancel safety
    /// When the future is dropped, runs that have not ended go on.
    pub async fn shut_down(&self, window: Duration) {
        let active = &self.shared.active;
        active.close();
        if timeout(window, active.none_left()).await.is_err() {
            active.end_all(&End::plain(RunOutcome::Abandoned));
            _ = timeout(Duration::from_secs(5), active.none_left()).await;
        }
    }

    /// Starts the tasks that watch the runs of all processes and show that this one is alive.
    fn keep_watching(&self) {
        let weak = || Arc::downgrade(&self.shared);
        self.shared.keep_running(|runtime| {
            vec![runtime.spawn(reap(weak())), runtime.spawn(beat(weak())), runtime.spawn(stops::hear(weak()))]
        });
    }
}

impl<S> Clone for Runs<S> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone() }
    }
}

impl<S> fmt::Debug for Runs<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runs").field("options", &self.shared.options).finish_non_exhaustive()
    }
}
