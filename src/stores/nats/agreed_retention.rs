//! What is kept where nodes do not agree: of each setting the most that any node in use was told to keep. They tell each
//! other by one message of the stream, with a line for each kind of them. Knows no channel.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use bytes::Bytes;
use tokio::time::Instant;

use super::{
    api::{self, ReadFrom, Selector},
    error::{CallError, refuses_only_writes},
    handle::Inner,
    node_settings::{FoundKeep, NodeSettings},
    place::Place,
    sync::lock,
    timing::jittered,
};
use crate::store::{Keep, StoreError};

impl Inner {
    /// What is kept, as it was found last.
    pub(super) fn last_keep(&self) -> Keep {
        lock(&self.agreed_keep.0).as_ref().map_or(self.settings.keep, |found| found.keep)
    }

    /// What is kept, as it was at most a few seconds ago: for what only shows less.
    pub(super) async fn recent_keep(&self, place: &Arc<Place>) -> Result<Keep, StoreError> {
        let now = self.clock.now();
        let recent = |found: &&FoundKeep| {
            found.place.is(place)
                && now.abs_diff(found.at) < MAX_STALENESS
                && found.asked.elapsed() < Duration::from_millis(MAX_STALENESS)
        };
        let known = lock(&self.agreed_keep.0).as_ref().filter(recent).map(|found| found.keep);
        match known {
            Some(keep) => Ok(keep),
            None => self.current_keep(place).await,
        }
    }

    /// What is kept, asked just now: for what cannot be undone. Says now and then that there is a node with these settings.
    pub(super) async fn current_keep(&self, place: &Arc<Place>) -> Result<Keep, StoreError> {
        let own = self.settings.keep;
        loop {
            let (at, nodes) = self.read_settings(place).await?;
            let now = self.clock.now();
            let is_published =
                nodes.iter().any(|node| node.keep == own && now.abs_diff(node.published) < PUBLISH_EVERY);
            let others: Vec<_> = nodes.into_iter().filter(|node| node.keep != own && node.is_in_use(now)).collect();
            if is_published || self.publish_settings(place, at, &others, now).await? {
                let keep = others.iter().fold(own, |keep, node| keep.largest(&node.keep));
                *lock(&self.agreed_keep.0) =
                    Some(FoundKeep { place: Arc::clone(place), keep, at: now, asked: Instant::now() });
                return Ok(keep);
            }
        }
    }

    async fn read_settings(&self, place: &Place) -> Result<(u64, Vec<NodeSettings>), StoreError> {
        let raw = place
            .stream
            .message(
                &self.connection,
                &place.subject("kept"),
                Selector::Last,
                ReadFrom::Leader,
                self.settings.request_timeout,
            )
            .await;
        let Some(raw) = raw.map_err(CallError::into_store_error)? else { return Ok((0, Vec::new())) };
        // What cannot be read is replaced.
        let nodes = std::str::from_utf8(&raw.body).unwrap_or_default().nodes().filter_map(NodeSettings::parse);
        Ok((raw.at, nodes.collect()))
    }

    /// Says that there is a node with these settings; false when another node said something first.
    async fn publish_settings(
        &self,
        place: &Place,
        at: u64,
        others: &[NodeSettings],
        now: u64,
    ) -> Result<bool, StoreError> {
        if place.may_write().is_err() {
            return Ok(true);
        }
        let own = NodeSettings { keep: self.settings.keep, published: now };
        // A clock that was ahead is not believed for ever.
        let others = others.iter().map(|node| NodeSettings { published: node.published.min(now), ..*node });
        let body: String = std::iter::once(own).chain(others).map(|node| node.to_text()).collect();
        let mut headers = api::expect_last(at);
        headers.insert("Nats-Rollup", "sub");
        let (subject, request_timeout) = (place.subject("kept"), self.settings.request_timeout);
        match api::publish(&self.connection, &subject, headers, Bytes::from(body), request_timeout).await {
            Ok(_) => Ok(true),
            Err(CallError::Refused(api_error)) if api_error.is_conflict() => Ok(false),
            Err(error) => match error.into_store_error() {
                // It is repeated once the stream takes messages again; until then no node drops more than the others allow.
                error if refuses_only_writes(&error) => Ok(true),
                error => Err(error),
            },
        }
    }
}

/// Repeats this node's settings, also without any calls.
pub(super) async fn run(inner: Weak<Inner>) {
    loop {
        tokio::time::sleep(jittered(Duration::from_millis(PUBLISH_EVERY))).await;
        let Some(inner) = inner.upgrade() else { return };
        let published = match inner.place().await {
            Ok(place) => inner.current_keep(&place).await.map(drop),
            Err(error) => Err(error),
        };
        if let Err(error) = published {
            tracing::debug!(%error, "cannot say what is to be kept");
        }
    }
}

/// How old may be what is known of other nodes, in milliseconds.
const MAX_STALENESS: u64 = 5_000;

/// How often a node says what it keeps.
const PUBLISH_EVERY: u64 = 100_000;
