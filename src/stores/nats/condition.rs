//! How the store is, as its last calls found it. While something is wrong, a task looks whether it still is, so that it is
//! noticed when nobody calls.

use std::{
    sync::{Arc, Mutex, Weak},
    time::Duration,
};

use super::{Inner, connection::jittered, error::refuses_only_writes, lock};
use crate::store::{Health, StoreError};

/// What the last call found.
#[derive(Default)]
pub(super) struct Condition(Mutex<State>);

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum State {
    #[default]
    Good,
    /// What is written is refused.
    ReadOnly,
    Away,
}

impl State {
    /// What an error says; none when it is no fault of the store's.
    fn of(error: &StoreError) -> Option<Self> {
        match error {
            error if refuses_only_writes(error) => Some(Self::ReadOnly),
            StoreError::Unavailable(_) | StoreError::Unknown(_) | StoreError::NewerFormat { .. } => Some(Self::Away),
            _ => None,
        }
    }
}

impl Inner {
    pub(super) fn health(&self) -> Health {
        match *lock(&self.condition.0) {
            _ if !self.connection.is_connected() => Health::Unavailable,
            State::Away => Health::Unavailable,
            State::ReadOnly => Health::ReadOnly,
            State::Good if self.watchers.are_late() => Health::Late,
            State::Good => Health::Ready,
        }
    }

    /// Takes note of what a call found.
    pub(super) fn note<T>(self: &Arc<Self>, found: Result<T, StoreError>) -> Result<T, StoreError> {
        if let Some(state) = found.as_ref().err().and_then(State::of) {
            self.is(state);
        }
        found
    }

    fn is(self: &Arc<Self>, state: State) {
        let before = std::mem::replace(&mut *lock(&self.condition.0), state);
        if before == State::Good && state != State::Good {
            self.runtime.spawn(watch_over(Arc::downgrade(self)));
        }
    }

    /// Whether it can be written to now, without writing to a channel.
    async fn try_out(self: &Arc<Self>) -> Result<(), StoreError> {
        self.doubt();
        let place = self.place().await?;
        place.may_write()?;
        let changes = self.connection.changes();
        self.stamp(&place, bytes::Bytes::from_static(PROBE))
            .await
            .map_err(super::error::CallError::into_store_error)?;
        // While it took nothing, nobody could ask for the time.
        self.read_time(&place, changes).await
    }
}

/// Looks now and then, until all is well.
async fn watch_over(inner: Weak<Inner>) {
    loop {
        tokio::time::sleep(jittered(LOOK_EVERY)).await;
        let Some(inner) = inner.upgrade() else { return };
        inner.connection.reconnect_if_deaf().await;
        let found = inner.try_out().await;
        let mut state = lock(&inner.condition.0);
        match found.as_ref().err() {
            None => {
                *state = State::Good;
                return;
            }
            Some(error) => *state = State::of(error).unwrap_or(State::Away),
        }
    }
}

const LOOK_EVERY: Duration = Duration::from_secs(1);

/// As large as a small append, for a stream that is full may still take nothing.
const PROBE: &[u8] = &[0; 256];
