//! Which place the stream is now, and whether that is still sure.

use std::sync::Arc;

use tokio::time::{Duration, Instant};

use super::{current_place::Found, error::unavailable, handle::Inner, place::Place, sync::lock};
use crate::store::StoreError;

impl Inner {
    /// Finds the stream for the first time, and says there what this node keeps; refuses one that would lose what is promised.
    pub(super) async fn open_place(&self) -> Result<(), StoreError> {
        let place = self.place().await?;
        match &place.limits {
            None => self.current_keep(&place).await.map(drop),
            Some(limits) => Err(unavailable(&format!(
                "the stream {} has limits that would drop what is promised to be kept ({limits}): remove them",
                self.settings.prefix
            ))),
        }
    }

    /// The stream; looked for anew when the connection has changed, or when there is a doubt.
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
            tracing::error!(stream, limits, "the JetStream stream has limits that drop what is promised to be kept");
        }
        if before.is_some_and(|before| !before.is(&place)) {
            tracing::warn!(stream, "the JetStream stream is another one, or was purged: what is missing is a reset");
            self.queues.forget_all();
            self.ends.clear();
        }
        place
    }

    fn verified_place(&self) -> Option<Arc<Place>> {
        let changes = self.connection.changes();
        let current = lock(&self.current_place.found);
        current.as_ref().filter(|found| found.changes == Some(changes)).map(|found| Arc::clone(&found.place))
    }

    /// The stream may be another one by now.
    pub(super) fn invalidate_place(&self) {
        if let Some(found) = lock(&self.current_place.found).as_mut() {
            found.changes = None;
        }
    }

    /// Looks whether the stream is still the same place and of the same format.
    pub(super) async fn recheck_place(&self) -> Result<Arc<Place>, StoreError> {
        self.confirm_place().await?;
        self.place().await
    }

    /// The stream, when it was looked at just now.
    pub(super) fn recently_checked_place(&self) -> Option<Arc<Place>> {
        let changes = self.connection.changes();
        let current = lock(&self.current_place.found);
        let found = current.as_ref().filter(|found| found.changes == Some(changes))?;
        (found.checked.elapsed() <= LOOK_EVERY).then(|| Arc::clone(&found.place))
    }

    /// Asks whether the stream is still the place that it was; says so.
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

/// Nodes that write look so often whether they still may.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// How long a stream that was there and is gone is not made again. A server says that it is gone before its files are: what
/// is made meanwhile loses its own with them, and a server 2.9 then ends with the next message that replaces one.
const RECREATE_DELAY: Duration = Duration::from_millis(800);
