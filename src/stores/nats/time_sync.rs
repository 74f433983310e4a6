//! Reading the server's time: the server stamps every message.

use bytes::Bytes;
use tokio::time::{Duration, Instant};

use super::{
    api::{self, ReadFrom, Selector},
    error::CallError,
    place::Place,
    shared::Inner,
    sync::lock,
};
use crate::store::StoreError;

impl Inner {
    /// Reads the time if that was long ago; the janitor calls this on every run.
    pub(super) async fn refresh_time(&self) {
        let changes = self.connection.changes();
        let result = match self.place().await {
            Ok(place) => self.ask_time_if_due(&place, changes).await,
            Err(error) => Err(error),
        };
        if let Err(error) = result {
            tracing::debug!(%error, "cannot read the server's time");
        }
    }

    /// Reads the server's time from a new message, unless that was done recently.
    pub(super) async fn ask_time_if_due(&self, place: &Place, changes: u64) -> Result<(), StoreError> {
        let timed = lock(&self.current_place.found).as_ref().and_then(|found| found.timed);
        let is_known = timed.is_some_and(|(then, at)| at == changes && then.elapsed() < TIME_EVERY);
        if is_known || !self.clock.is_server_time() {
            return Ok(());
        }
        match self.publish_time(place, Bytes::new()).await {
            Ok(_) => self.read_time(place, changes).await,
            // A stream that accepts no messages can still be read: the time is at least that of its last one.
            Err(CallError::Refused(_)) => {
                if let Some(millis) = self.stored_time(place).await? {
                    self.clock.advance_to(millis);
                }
                Ok(())
            }
            Err(error) => Err(error.into_store_error()),
        }
    }

    /// Publishes a message that the server stamps.
    pub(super) async fn publish_time(&self, place: &Place, body: Bytes) -> Result<u64, CallError> {
        let mut headers = async_nats::HeaderMap::new();
        headers.insert("Nats-Rollup", "sub");
        api::publish(&self.connection, &place.subject("time"), headers, body, self.settings.request_timeout).await
    }

    /// Reads the stamp of the message just published.
    pub(super) async fn read_time(&self, place: &Place, changes: u64) -> Result<(), StoreError> {
        if let Some(millis) = self.stored_time(place).await? {
            self.clock.set(millis);
        }
        if let Some(found) = lock(&self.current_place.found).as_mut() {
            found.timed = Some((Instant::now(), changes));
        }
        Ok(())
    }

    async fn stored_time(&self, place: &Place) -> Result<Option<u64>, StoreError> {
        let (subject, request_timeout) = (place.subject("time"), self.settings.request_timeout);
        let raw =
            place.stream.message(&self.connection, &subject, Selector::Last, ReadFrom::Leader, request_timeout).await;
        Ok(raw.map_err(CallError::into_store_error)?.and_then(|raw| raw.time))
    }
}

/// How often to read the server's time, unless the connection changes.
const TIME_EVERY: Duration = Duration::from_secs(60);
