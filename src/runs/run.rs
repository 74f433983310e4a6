//! A run, as its work sees it.

use std::{fmt, sync::Arc};

use super::{error::RunOver, feed::Feed};
use crate::{channel::Channel, event::Event};

/// A run that is going on. Clones are cheap and are the same run; dropping them ends nothing.
#[derive(Clone)]
pub struct Run(Arc<Feed>);

impl Run {
    pub(super) fn new(feed: Arc<Feed>) -> Self {
        Self(feed)
    }

    /// The channel of its events.
    #[must_use]
    pub fn channel(&self) -> &Channel {
        &self.0.channel
    }

    /// Its id: random, and in its first event.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.0.run
    }

    /// Publishes an event. It returns once the event is queued, and waits for room before that; it is stored together with
    /// others within [`RunsOptions::batch_within`](crate::RunsOptions::batch_within). The order is that in which the calls
    /// return. The event's idempotency key is replaced by one of the run's own.
    ///
    /// # Errors
    /// When the run is over: the work should end.
    ///
    /// # Cancel safety
    /// When the future is dropped, the event is not published.
    pub async fn publish(&self, event: Event) -> Result<(), RunOver> {
        self.0.publish(event).await
    }

    /// Waits until the run is over: its last event is stored, or somebody else has ended it. The work has
    /// [`RunsOptions::grace`](crate::RunsOptions::grace) to return from then on; tasks that it has spawned have to watch this.
    ///
    /// # Cancel safety
    /// Safe to drop at any point.
    pub async fn over(&self) -> RunOver {
        self.0.over().await
    }
}

impl fmt::Debug for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Run").field("channel", self.channel()).field("id", &self.id()).finish_non_exhaustive()
    }
}
