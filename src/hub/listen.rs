//! Waiting once for events: what `Hub::listen` is asked, and what it returns.

use std::{fmt, sync::Arc, time::Duration};

use super::{
    delivery::{Batch, Failed, Reset, Snapshot},
    encoded_entry::EncodedEntry,
    subscription::Subscription,
};
use crate::{channel::Channel, cursor::Cursors, store::Entry};

/// One wait for events, for [`Hub::listen`](crate::Hub::listen): a subscription, how long to wait, and for how many events.
///
/// A [`Subscription`] converts into a wait of 25 s for at most 100 events.
///
/// ```
/// use std::time::Duration;
/// use tower_events::{Channel, Listen, Subscription};
///
/// let listen = Listen::from(Subscription::new(Channel::new("a")?)).wait(Duration::from_secs(5)).limit(20);
/// # drop(listen);
/// # Ok::<(), tower_events::InvalidChannel>(())
/// ```
#[derive(Clone)]
pub struct Listen {
    pub(super) subscription: Subscription,
    pub(super) wait: Duration,
    pub(super) limit: usize,
    pub(super) on_empty: Option<Arc<dyn Fn() + Send + Sync>>,
}

impl Listen {
    /// Sets how long to wait for a first event. Zero returns what is there, [`Duration::MAX`] waits until something comes.
    /// Default 25 s.
    #[must_use]
    pub fn wait(self, wait: Duration) -> Self {
        Self { wait, ..self }
    }

    /// Sets the maximum number of events that are returned, at least 1. Default 100.
    #[must_use]
    pub fn limit(self, limit: usize) -> Self {
        Self { limit: limit.max(1), ..self }
    }

    /// Calls `observe` each time all channels were looked at and nothing was found. It must not block or panic.
    #[must_use]
    pub fn on_empty(self, observe: impl Fn() + Send + Sync + 'static) -> Self {
        Self { on_empty: Some(Arc::new(observe)), ..self }
    }
}

impl From<Subscription> for Listen {
    fn from(subscription: Subscription) -> Self {
        Self { subscription, wait: Duration::from_secs(25), limit: 100, on_empty: None }
    }
}

impl fmt::Debug for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listen")
            .field("subscription", &self.subscription)
            .field("wait", &self.wait)
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}

/// The result of one wait.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Listened {
    /// The events, channel by channel.
    pub events: Vec<Batch>,
    /// The channels that could not be continued. Their events start at the oldest retained one, or with a snapshot.
    pub resets: Vec<Reset>,
    /// The states of channels, which come before their events. Only with a [`snapshot`](crate::snapshot) provider.
    pub snapshots: Vec<Snapshot>,
    /// The position after the events, to listen from next.
    pub cursors: Cursors,
    /// Whether every channel is closed and read to its end.
    pub closed: bool,
    /// The channels that are closed and read to their end.
    pub ended: Vec<Channel>,
    /// The channels whose stored data cannot be read. Their positions stay where they were.
    pub failed: Vec<Failed>,
    /// Whether nothing was left in any channel when the events were gathered.
    pub live: bool,
    /// Set if the hub is draining: when to come back.
    pub retry: Option<Duration>,
    pub(super) by_time: bool,
}

impl Listened {
    /// The entries: channel by channel in `seq` order, or all of them sorted by time if the subscription started by time.
    #[must_use]
    pub fn entries(&self) -> Vec<&Entry> {
        self.encoded_entries().into_iter().map(|encoded| encoded.entry()).collect()
    }

    /// The events, if they are all of one channel and in its order.
    pub(crate) fn run(&self) -> Option<&Batch> {
        match self.events.as_slice() {
            [events] if !self.by_time && self.snapshots.is_empty() => Some(events),
            _ => None,
        }
    }

    pub(crate) fn encoded_entries(&self) -> Vec<&Arc<EncodedEntry>> {
        let mut entries: Vec<_> = self.events.iter().flat_map(Batch::encoded_entries).collect();
        if self.by_time {
            entries.sort_by_key(|encoded| encoded.entry().time);
        }
        entries
    }
}
