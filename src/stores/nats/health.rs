//! The health of the store as its last calls found it. While there is a problem, a task probes the stream, so that
//! recovery is noticed without calls.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use super::{error::refuses_only_writes, shared::Inner, timing::jittered};
use crate::store::{Health, StoreError, kit::Probe};

impl Inner {
    pub(super) fn health(&self) -> Health {
        match self.observed_health.get() {
            _ if !self.connection.is_connected() => Health::Unavailable,
            Health::Ready if self.consumer.watchers.are_late() => Health::Degraded,
            observed => observed,
        }
    }

    /// Records the outcome of a call that reads. One that succeeds says nothing about writes.
    pub(super) fn note_read<T>(self: &Arc<Self>, found: Result<T, StoreError>) -> Result<T, StoreError> {
        if let Some(health) = found.as_ref().err().and_then(health_of) {
            self.set_health(health);
        }
        found
    }

    /// Records the outcome of a call that writes.
    pub(super) fn note_write<T>(self: &Arc<Self>, found: Result<T, StoreError>) -> Result<T, StoreError> {
        if found.is_ok() {
            self.set_health(Health::Ready);
        }
        self.note_read(found)
    }

    fn set_health(self: &Arc<Self>, health: Health) {
        self.observed_health.set(health);
        if let Some(probe) = self.observed_health.probe() {
            self.runtime.spawn(probe_until_ready(Arc::downgrade(self), probe));
        }
    }

    /// Whether the stream can be written to now. Writes to no channel.
    async fn probe(self: &Arc<Self>) -> Result<(), StoreError> {
        self.invalidate_place();
        let place = self.place().await?;
        place.may_write()?;
        let changes = self.connection.changes();
        self.publish_time(&place, bytes::Bytes::from_static(PROBE_BODY))
            .await
            .map_err(super::error::CallError::into_store_error)?;
        // While nothing could be written, the time could not be requested either.
        self.read_time(&place, changes).await
    }
}

/// What an error says about the store; `None` if it says nothing.
fn health_of(error: &StoreError) -> Option<Health> {
    match error {
        error if refuses_only_writes(error) => Some(Health::ReadOnly),
        StoreError::Unavailable(_) | StoreError::Unknown(_) | StoreError::NewerFormat { .. } => {
            Some(Health::Unavailable)
        }
        _ => None,
    }
}

/// Probes until the store is ready again.
async fn probe_until_ready(inner: Weak<Inner>, mut probe: Probe) {
    loop {
        tokio::time::sleep(jittered(PROBE_EVERY)).await;
        let Some(inner) = inner.upgrade() else { return };
        if !probe.goes_on() {
            return;
        }
        inner.connection.reconnect_if_inbox_denied().await;
        let found = inner.probe().await;
        inner.observed_health.set(match found {
            Ok(()) => Health::Ready,
            Err(error) => health_of(&error).unwrap_or(Health::Unavailable),
        });
    }
}

const PROBE_EVERY: Duration = Duration::from_secs(1);

/// As large as a small append, because a full stream may still accept an empty message.
const PROBE_BODY: &[u8] = &[0; 256];
