//! What is kept where nodes do not agree: of each setting the most that any node in use was told to keep. They tell each
//! other by one message of the stream, with a line for each kind of them. Knows no channel.

use std::{
    sync::{Arc, Mutex, Weak},
    time::Duration,
};

use bytes::Bytes;
use tokio::time::Instant;

use super::{
    Inner,
    api::{self, ReadFrom, Selector},
    connection::jittered,
    error::{CallError, refuses_only_writes},
    lock,
    place::Place,
};
use crate::store::{Keep, StoreError};

/// What was found last.
#[derive(Default)]
pub(super) struct Kept(Mutex<Option<Found>>);

struct Found {
    place: Arc<Place>,
    keep: Keep,
    /// When that was, in the store's time and in this process's.
    at: u64,
    asked: Instant,
}

impl Inner {
    /// What is kept, as it was found last.
    pub(super) fn kept(&self) -> Keep {
        lock(&self.kept.0).as_ref().map_or(self.settings.keep, |found| found.keep)
    }

    /// What is kept, as it was at most a few seconds ago: for what only shows less.
    pub(super) async fn keep(&self, place: &Arc<Place>) -> Result<Keep, StoreError> {
        let now = self.time.now();
        let recent = |found: &&Found| {
            found.place.is(place)
                && now.abs_diff(found.at) < LOOK_EVERY
                && found.asked.elapsed() < Duration::from_millis(LOOK_EVERY)
        };
        let known = lock(&self.kept.0).as_ref().filter(recent).map(|found| found.keep);
        match known {
            Some(keep) => Ok(keep),
            None => self.keep_now(place).await,
        }
    }

    /// What is kept, asked just now: for what cannot be undone. Says now and then that there is a node with these settings.
    pub(super) async fn keep_now(&self, place: &Arc<Place>) -> Result<Keep, StoreError> {
        let own = self.settings.keep;
        loop {
            let (at, lines) = self.kept_lines(place).await?;
            let now = self.time.now();
            let is_said = lines.iter().any(|line| line.keep == own && now.abs_diff(line.said) < SAY_EVERY);
            let others: Vec<_> = lines.into_iter().filter(|line| line.keep != own && line.is_in_use(now)).collect();
            if is_said || self.say_kept(place, at, &others, now).await? {
                let keep = others.iter().fold(own, |keep, line| keep.largest(&line.keep));
                *lock(&self.kept.0) = Some(Found { place: Arc::clone(place), keep, at: now, asked: Instant::now() });
                return Ok(keep);
            }
        }
    }

    async fn kept_lines(&self, place: &Place) -> Result<(u64, Vec<Line>), StoreError> {
        let raw = place
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
        let lines = std::str::from_utf8(&raw.body).unwrap_or_default().lines().filter_map(Line::parse);
        Ok((raw.at, lines.collect()))
    }

    /// Says that there is a node with these settings; false when another node said something first.
    async fn say_kept(&self, place: &Place, at: u64, others: &[Line], now: u64) -> Result<bool, StoreError> {
        if place.may_write().is_err() {
            return Ok(true);
        }
        let own = Line { keep: self.settings.keep, said: now };
        // A clock that was ahead is not believed for ever.
        let others = others.iter().map(|line| Line { said: line.said.min(now), ..*line });
        let body: String = std::iter::once(own).chain(others).map(|line| line.to_text()).collect();
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
        tokio::time::sleep(jittered(Duration::from_millis(SAY_EVERY))).await;
        let Some(inner) = inner.upgrade() else { return };
        let said = match inner.place().await {
            Ok(place) => inner.keep_now(&place).await.map(drop),
            Err(error) => Err(error),
        };
        if let Err(error) = said {
            tracing::debug!(%error, "cannot say what is to be kept");
        }
    }
}

/// The settings of one kind of nodes, and when one of them last said that it is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Line {
    keep: Keep,
    said: u64,
}

impl Line {
    fn is_in_use(&self, now: u64) -> bool {
        self.said.saturating_add(LEASE) >= now
    }

    fn parse(text: &str) -> Option<Self> {
        let numbers: Option<Vec<u64>> = text.split(' ').map(|number| number.parse().ok()).collect();
        let [events, bytes, age, forget_after, key_window, said] = numbers?.try_into().ok()?;
        Some(Self { keep: Keep { events, bytes, age, forget_after, key_window }, said })
    }

    fn to_text(self) -> String {
        let Keep { events, bytes, age, forget_after, key_window } = self.keep;
        format!("{events} {bytes} {age} {forget_after} {key_window} {}\n", self.said)
    }
}

/// How old may be what is known of other nodes, in milliseconds.
const LOOK_EVERY: u64 = 5_000;

/// How often a node says what it keeps.
const SAY_EVERY: u64 = 100_000;

/// A node that has not said so for longer is not in use.
const LEASE: u64 = 300_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_reads_back_and_ends() {
        let keep = Keep { events: 1, bytes: u64::MAX, age: 2, forget_after: 3, key_window: 4 };
        let line = Line { keep, said: 1_000 };
        assert_eq!(Line::parse(line.to_text().trim_end()), Some(line));
        for bad in ["", "1 2 3 4 5", "1 2 3 4 5 6 7", "1 2 3 4 5 x"] {
            assert_eq!(Line::parse(bad), None, "{bad:?}");
        }
        assert!(line.is_in_use(1_000 + LEASE) && !line.is_in_use(1_001 + LEASE));
    }
}
