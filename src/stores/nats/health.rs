//! The health of the store as its last calls found it. While there is a problem, a task probes the stream, so that
//! recovery is noticed without calls.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use super::{observed_health::Condition, shared::Inner, timing::jittered};
use crate::store::{Health, StoreError};

impl Inner {
    pub(super) fn health(&self) -> Health {
        match self.observed_health.condition() {
            _ if !self.connection.is_connected() => Health::Unavailable,
            Condition::Unavailable => Health::Unavailable,
            Condition::ReadOnly => Health::ReadOnly,
            Condition::Healthy if self.consumer.watchers.are_late() => Health::Degraded,
            Condition::Healthy => Health::Ready,
        }
    }

    /// Records the outcome of a call that reads. One that succeeds says nothing about writes.
    pub(super) fn note_read<T>(self: &Arc<Self>, found: Result<T, StoreError>) -> Result<T, StoreError> {
        if let Some(condition) = found.as_ref().err().and_then(Condition::of) {
            self.set_condition(condition);
        }
        found
    }

    /// Records the outcome of a call that writes.
    pub(super) fn note_write<T>(self: &Arc<Self>, found: Result<T, StoreError>) -> Result<T, StoreError> {
        if found.is_ok() {
            self.set_condition(Condition::Healthy);
        }
        self.note_read(found)
    }

    fn set_condition(self: &Arc<Self>, condition: Condition) {
        if self.observed_health.set(condition) {
            self.runtime.spawn(probe_until_healthy(Arc::downgrade(self)));
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

/// Probes until the store is healthy again.
async fn probe_until_healthy(inner: Weak<Inner>) {
    loop {
        tokio::time::sleep(jittered(PROBE_EVERY)).await;
        let Some(inner) = inner.upgrade() else { return };
        if !inner.observed_health.goes_on_probing() {
            return;
        }
        inner.connection.reconnect_if_inbox_denied().await;
        let found = inner.probe().await;
        inner.observed_health.set(match found.as_ref().err() {
            None => Condition::Healthy,
            Some(error) => Condition::of(error).unwrap_or(Condition::Unavailable),
        });
    }
}

const PROBE_EVERY: Duration = Duration::from_secs(1);

/// As large as a small append, because a full stream may still accept an empty message.
const PROBE_BODY: &[u8] = &[0; 256];
