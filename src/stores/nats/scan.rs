//! Scanning the newest message of every subject. Its header tells all about a channel, so no channel costs a request of
//! its own.

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::time::Duration;

use super::{api::FetchLimit, error::CallError, place::Place, response::RawMessage, shared::Inner, timing::nanos};
use crate::store::StoreError;

/// A scan over many subjects.
pub(super) struct Scan<'a> {
    inner: &'a Inner,
    place: Arc<Place>,
    consumer: Option<String>,
}

impl<'a> Scan<'a> {
    /// The newest message of every channel, without its body.
    pub(super) async fn of_channels(inner: &'a Inner, place: Arc<Place>) -> Result<Self, StoreError> {
        let filter = place.all();
        Self::begin(inner, place, json!({"filter_subject": filter, "headers_only": true})).await
    }

    /// The announcement of every channel's newest log.
    pub(super) async fn of_announced(inner: &'a Inner, place: Arc<Place>) -> Result<Self, StoreError> {
        let filter = place.announcements();
        Self::begin(inner, place, json!({"filter_subject": filter, "headers_only": true})).await
    }

    /// Every floor.
    pub(super) async fn of_floors(inner: &'a Inner, place: Arc<Place>) -> Result<Self, StoreError> {
        let filter = place.floors();
        Self::begin(inner, place, json!({"filter_subject": filter})).await
    }

    async fn begin(inner: &'a Inner, place: Arc<Place>, mut config: Value) -> Result<Self, StoreError> {
        let rest = json!({
            "deliver_policy": "last_per_subject",
            "ack_policy": "none",
            "replay_policy": "instant",
            "inactive_threshold": nanos(inner.settings.request_timeout * 2 + Duration::from_secs(5)),
            "mem_storage": true,
            "num_replicas": 1,
        });
        if let (Some(config), Value::Object(rest)) = (config.as_object_mut(), rest) {
            config.extend(rest);
        }
        let consumer = place
            .stream
            .create_consumer(&inner.connection, &config, inner.settings.request_timeout)
            .await
            .map_err(CallError::into_store_error)?;
        Ok(Self { inner, place, consumer: Some(consumer) })
    }

    /// The next subjects with their newest messages; empty at the end.
    pub(super) async fn next(&mut self) -> Result<Vec<(String, RawMessage)>, StoreError> {
        let Some(consumer) = &self.consumer else { return Ok(Vec::new()) };
        let (connection, request_timeout) = (&self.inner.connection, self.inner.settings.request_timeout);
        let read = |message: async_nats::Message| {
            let subject = message.subject.to_string();
            Ok(RawMessage::pulled(message)?.map(|raw| (subject, raw)))
        };
        let messages = self
            .place
            .stream
            .fetch(connection, consumer, MAX_FETCH, request_timeout, read)
            .await
            .map_err(CallError::into_store_error)?;
        if messages.len() < MAX_FETCH.messages {
            self.place.stream.delete_consumer(connection, consumer).await;
            self.consumer = None;
        }
        Ok(messages)
    }
}

/// How much to fetch at once. Headers are a few hundred bytes each.
const MAX_FETCH: FetchLimit = FetchLimit { messages: 2_000, bytes: 8 << 20 };
