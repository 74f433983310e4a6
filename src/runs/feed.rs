//! What the work of a run and its producer share.

use std::{
    pin::pin,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::{
    sync::Notify,
    time::{Instant, timeout_at},
};

use super::{
    error::RunOver,
    limits::size,
    marks::{Cause, End},
    pending::{Next, Pending},
};
use crate::{channel::Channel, event::Event};

#[derive(Debug)]
pub(super) struct Feed {
    pub(super) channel: Channel,
    /// The run's id.
    pub(super) run: String,
    state: Mutex<State>,
    /// Wakes the producer, of which there is one.
    for_producer: Notify,
    /// Wakes publishers that wait for room, and all who wait for the end.
    for_work: Notify,
}

#[derive(Debug)]
struct State {
    pending: Pending,
    over: Option<RunOver>,
}

impl Feed {
    pub(super) fn new(channel: Channel, run: String, pending: Pending) -> Self {
        let state = Mutex::new(State { pending, over: None });
        Self { channel, run, state, for_producer: Notify::new(), for_work: Notify::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The work's side.
impl Feed {
    pub(super) async fn publish(&self, event: Event) -> Result<(), RunOver> {
        let bytes = size(&self.channel, &event);
        let mut event = Some(event);
        self.wait_for(|state| {
            if let Some(over) = state.is_closed() {
                return Some(Err(over));
            }
            match state.pending.offer(event.take()?, bytes, Instant::now()) {
                Ok(()) => Some(Ok(())),
                Err(refused) => {
                    event = Some(refused);
                    None
                }
            }
        })
        .await
        .inspect(|()| self.for_producer.notify_one())
    }

    pub(super) async fn over(&self) -> RunOver {
        self.wait_for(|state| state.over.clone()).await
    }

    /// Registers, then looks, then waits.
    async fn wait_for<T>(&self, mut look: impl FnMut(&mut State) -> Option<T>) -> T {
        loop {
            let mut changed = pin!(self.for_work.notified());
            changed.as_mut().enable();
            let found = look(&mut self.state());
            match found {
                Some(found) => return found,
                None => changed.await,
            }
        }
    }
}

/// The producer's side.
impl Feed {
    /// What to do next, once there is something to do.
    pub(super) async fn next(&self) -> Next {
        loop {
            let next = self.state().pending.next(Instant::now());
            match next {
                Next::Wait(None) => self.for_producer.notified().await,
                Next::Wait(Some(until)) => _ = timeout_at(until, self.for_producer.notified()).await,
                next => return next,
            }
        }
    }

    pub(super) fn stored(&self) {
        self.state().pending.stored();
        self.for_work.notify_waiters();
    }

    /// Ends the run after what was published so far.
    pub(super) fn close(&self, end: End) {
        self.state().pending.close(end);
        self.for_producer.notify_one();
        self.for_work.notify_waiters();
    }

    /// Makes the producer look at its channel.
    pub(super) fn notice(&self) {
        self.state().pending.notice();
        self.for_producer.notify_one();
    }

    pub(super) fn set_over(&self, over: RunOver) {
        self.state().over.get_or_insert(over);
        self.for_work.notify_waiters();
    }
}

impl State {
    /// Why nothing more is taken, if that is so.
    fn is_closed(&self) -> Option<RunOver> {
        self.over.clone().or_else(|| self.pending.end().map(RunOver::of))
    }
}

impl RunOver {
    /// That a run has ended like this.
    pub(super) fn of(end: &End) -> Self {
        match end.cause {
            Cause::TooLarge => Self::TooLarge,
            Cause::None | Cause::Error(_) => Self::Ended(end.outcome),
        }
    }
}
