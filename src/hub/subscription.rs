//! What a reader asks for.

use std::{fmt, sync::Arc, time::Duration};

use crate::{
    channel::{Channel, Channels},
    cursor::Cursors,
    store::{Reason, Start},
};

/// Channels, where to start in them, and limits. Starts at [`Start::Latest`] by default.
///
/// ```
/// use std::time::Duration;
/// use tower_events::{Channel, Subscription, store::Start};
///
/// let live = Subscription::new(Channel::new("a")?);
/// let since = Subscription::new(Channel::new("a")?).start(Start::Time(1_732_094_400_123)).wait(Duration::from_secs(5));
/// # drop((live, since));
/// # Ok::<(), tower_events::InvalidChannel>(())
/// ```
#[derive(Clone)]
pub struct Subscription {
    pub(super) channels: Channels,
    pub(super) start: SubscriptionStart,
    pub(super) wait: Duration,
    pub(super) events: usize,
    pub(super) on_empty: Option<Arc<dyn Fn() + Send + Sync>>,
}

/// Where a subscription starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SubscriptionStart {
    /// The same start in every channel.
    Start(Start),
    /// The client was here before.
    Resume(Cursors),
    /// The client brought a position that is not one of ours.
    Unknown,
}

impl Subscription {
    /// Follows `channels` from their heads; [`Hub::listen`](crate::Hub::listen) waits 25 s for at most 100 events.
    pub fn new(channels: impl Into<Channels>) -> Self {
        Self {
            channels: channels.into(),
            start: SubscriptionStart::Start(Start::Latest),
            wait: Duration::from_secs(25),
            events: 100,
            on_empty: None,
        }
    }

    /// Starts every channel at `start`.
    #[must_use]
    pub fn start(self, start: Start) -> Self {
        self.starting(SubscriptionStart::Start(start))
    }

    /// Resumes after `cursors`. A channel that they do not name is reset with [`Reason::Unknown`].
    #[must_use]
    pub fn resume(self, cursors: &Cursors) -> Self {
        self.starting(SubscriptionStart::Resume(cursors.clone()))
    }

    /// Resets every channel with [`Reason::Unknown`]: the client brought a position that is not one of ours.
    #[must_use]
    pub fn resume_unknown(self) -> Self {
        self.starting(SubscriptionStart::Unknown)
    }

    /// Sets how long [`Hub::listen`](crate::Hub::listen) waits for a first event; zero returns what is there,
    /// [`Duration::MAX`] waits until something comes.
    #[must_use]
    pub fn wait(self, wait: Duration) -> Self {
        Self { wait, ..self }
    }

    /// Sets the most events that [`Hub::listen`](crate::Hub::listen) returns; at least 1.
    #[must_use]
    pub fn limit(self, events: usize) -> Self {
        Self { events: events.max(1), ..self }
    }

    /// Calls `observe` each time [`Hub::listen`](crate::Hub::listen) looks and finds nothing. It must not block or panic.
    #[must_use]
    pub fn on_empty(self, observe: impl Fn() + Send + Sync + 'static) -> Self {
        Self { on_empty: Some(Arc::new(observe)), ..self }
    }

    /// The channels.
    #[must_use]
    pub fn channels(&self) -> &Channels {
        &self.channels
    }

    pub(crate) fn starting(self, start: SubscriptionStart) -> Self {
        Self { start, ..self }
    }

    /// Whether the events of one answer are sorted by time.
    pub(super) fn is_by_time(&self) -> bool {
        matches!(self.start, SubscriptionStart::Start(Start::Time(_)))
    }
}

/// Where one channel starts, and its reset if that is certain already.
pub(super) type ChannelStart = (Start, Option<Reason>);

impl SubscriptionStart {
    pub(super) fn of_channel(&self, channel: &Channel) -> ChannelStart {
        let unknown = (Start::Earliest, Some(Reason::Unknown));
        match self {
            Self::Start(start) => (*start, None),
            Self::Resume(cursors) => cursors.position(channel).map_or(unknown, |cursor| (Start::After(cursor), None)),
            Self::Unknown => unknown,
        }
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription")
            .field("channels", &self.channels)
            .field("start", &self.start)
            .finish_non_exhaustive()
    }
}
