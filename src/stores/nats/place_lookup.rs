//! Finding the current place, and checking that it still is.

use std::sync::Arc;

use tokio::time::{Duration, Instant};

use super::{
    current_place::Found,
    error::{from_open_call, open_error},
    place::Place,
    shared::Inner,
    sync::lock,
};
use crate::store::{OpenError, OpenErrorKind, StoreError};

impl Inner {
    /// Finds the stream for the first time, and announces this node's settings; refuses a stream that would lose what
    /// must be kept.
    pub(super) async fn open_place(&self) -> Result<(), OpenError> {
        let place = self.place().await.map_err(from_open_call)?;
        if let Some(limits) = &place.limits {
            let why = format!(
                "the stream {} has limits that would delete what must be kept ({limits}): remove them",
                self.settings.prefix
            );
            return Err(open_error(OpenErrorKind::Misconfigured, why));
        }
        self.current_keep(&place).await.map(drop).map_err(from_open_call)
    }

    /// The place; looked up again when the connection has changed or the place was invalidated.
    pub(super) async fn place(&self) -> Result<Arc<Place>, StoreError> {
        if let Some(place) = self.verified_place() {
            return Ok(place);
        }
        let _one = self.current_place.lookup.lock().await;
        if let Some(place) = self.verified_place() {
            return Ok(place);
        }
        let changes = self.connection.changes();
        let delay = lock(&self.current_place.found).is_some().then(|| RECREATE_DELAY.min(self.settings.timeout / 4));
        let found = Place::open(&self.connection, &self.settings, delay).await?;
        let place = self.adopt_place(found, changes);
        self.ask_time_if_due(&place, changes).await?;
        Ok(place)
    }

    fn adopt_place(&self, found: Place, changes: u64) -> Arc<Place> {
        let mut current = lock(&self.current_place.found);
        let before = current.take();
        let timed = before.as_ref().and_then(|before| before.timed);
        let before = before.map(|before| before.place);
        let same = before.clone().filter(|before| before.is_unchanged(&found));
        let place = same.unwrap_or_else(|| Arc::new(found));
        let (changes, checked) = (Some(changes), Instant::now());
        *current = Some(Found { place: Arc::clone(&place), changes, checked, timed });
        drop(current);
        let stream = &self.settings.prefix;
        if let Some(limits) =
            place.limits.as_ref().filter(|_| before.as_ref().is_none_or(|is| is.limits != place.limits))
        {
            tracing::error!(stream, limits, "the JetStream stream has limits that delete what must be kept");
        }
        if before.is_some_and(|before| !before.is(&place)) {
            tracing::warn!(stream, "the JetStream stream was replaced or purged: readers of what is missing are reset");
            self.states.forget_all();
            self.ends.clear();
        }
        place
    }

    fn verified_place(&self) -> Option<Arc<Place>> {
        let changes = self.connection.changes();
        let current = lock(&self.current_place.found);
        current.as_ref().filter(|found| found.changes == Some(changes)).map(|found| Arc::clone(&found.place))
    }

    /// Makes the next call look the place up again, because the stream may be another one by now.
    pub(super) fn invalidate_place(&self) {
        if let Some(found) = lock(&self.current_place.found).as_mut() {
            found.changes = None;
        }
    }

    /// Checks that the place and its format are unchanged, and returns the current one.
    pub(super) async fn recheck_place(&self) -> Result<Arc<Place>, StoreError> {
        self.confirm_place().await?;
        self.place().await
    }

    /// The place, if it was checked recently.
    pub(super) fn recently_checked_place(&self) -> Option<Arc<Place>> {
        let changes = self.connection.changes();
        let current = lock(&self.current_place.found);
        let found = current.as_ref().filter(|found| found.changes == Some(changes))?;
        (found.checked.elapsed() <= CHECK_EVERY).then(|| Arc::clone(&found.place))
    }

    /// Checks whether the place is unchanged.
    pub(super) async fn confirm_place(&self) -> Result<bool, StoreError> {
        let place = self.place().await?;
        let is_there = place.is_same_and_unchanged(&self.connection, self.settings.request_timeout).await?;
        if !is_there {
            self.invalidate_place();
        } else if let Some(found) = lock(&self.current_place.found).as_mut() {
            found.checked = Instant::now();
        }
        Ok(is_there)
    }
}

/// How often nodes that write check whether they still may.
const CHECK_EVERY: Duration = Duration::from_secs(5);

/// How long to wait before recreating a stream that has disappeared. A server reports a deletion before the files are
/// gone: a stream that is created meanwhile loses its own files with them, and server 2.9 then exits at the next
/// message with a rollup.
const RECREATE_DELAY: Duration = Duration::from_millis(800);
