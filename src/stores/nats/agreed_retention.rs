//! The retention that nodes agree on: of each setting the largest among the nodes in use. They share their settings in
//! one message of the stream, with a line for each distinct configuration. Knows no channel.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use bytes::Bytes;
use tokio::time::Instant;

use super::{
    api::{self, ReadFrom, Selector},
    error::{CallError, refuses_only_writes},
    node_settings::{FoundKeep, NodeSettings},
    place::Place,
    shared::Inner,
    sync::lock,
    timing::jittered,
};
use crate::store::{StoreError, kit::Keep};

impl Inner {
    /// The retention as last read.
    pub(super) fn last_keep(&self) -> Keep {
        lock(&self.agreed_keep.0).as_ref().map_or(self.settings.keep, |found| found.keep)
    }

    /// The retention as read at most a few seconds ago: for reads, which at worst show less for a moment.
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

    /// The retention as read now: for what cannot be undone. Also announces this node's settings from time to time.
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
        // Unreadable lines are dropped by the next write.
        let nodes = std::str::from_utf8(&raw.body).unwrap_or_default().lines().filter_map(NodeSettings::parse);
        Ok((raw.at, nodes.collect()))
    }

    /// Announces this node's settings; false when another node wrote first.
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
        // Corrects the stamp of a node with a clock that was ahead.
        let others = others.iter().map(|node| NodeSettings { published: node.published.min(now), ..*node });
        let body: String = std::iter::once(own).chain(others).map(|node| node.to_text()).collect();
        let mut headers = api::expect_last(at);
        headers.insert("Nats-Rollup", "sub");
        let (subject, request_timeout) = (place.subject("kept"), self.settings.request_timeout);
        match api::publish(&self.connection, &subject, headers, Bytes::from(body), request_timeout).await {
            Ok(_) => Ok(true),
            Err(CallError::Refused(api_error)) if api_error.is_conflict() => Ok(false),
            Err(error) => match error.into_store_error() {
                // It is tried again later; until then no node drops more than the announced settings allow.
                error if refuses_only_writes(&error) => Ok(true),
                error => Err(error),
            },
        }
    }
}

/// Announces this node's settings periodically, even when no calls are made.
pub(super) async fn run(inner: Weak<Inner>) {
    loop {
        tokio::time::sleep(jittered(Duration::from_millis(PUBLISH_EVERY))).await;
        let Some(inner) = inner.upgrade() else { return };
        let published = match inner.place().await {
            Ok(place) => inner.current_keep(&place).await.map(drop),
            Err(error) => Err(error),
        };
        if let Err(error) = published {
            tracing::debug!(%error, "cannot announce the retention settings");
        }
    }
}

/// How old the known settings of other nodes may be, in milliseconds.
const MAX_STALENESS: u64 = 5_000;

/// How often a node announces its settings, in milliseconds.
const PUBLISH_EVERY: u64 = 100_000;
