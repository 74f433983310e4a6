//! What a reader asks for.

use crate::{
    channel::{Channel, Channels},
    cursor::Cursors,
    store::{Reason, Start},
};

/// Channels, and where to start in them: at [`Start::Latest`] by default.
///
/// [`from_request`](Self::from_request) takes the start from a request. [`Listen`](crate::Listen) adds how long to wait.
///
/// ```
/// use tower_events::{Channel, Subscription, store::Start};
///
/// let live = Subscription::new(Channel::new("a")?);
/// let since = Subscription::new(Channel::new("a")?).start(Start::Time(1_732_094_400_123));
/// # drop((live, since));
/// # Ok::<(), tower_events::InvalidChannel>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    pub(super) channels: Channels,
    pub(super) start: SubscriptionStart,
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
    /// Follows `channels` from their heads.
    pub fn new(channels: impl Into<Channels>) -> Self {
        Self { channels: channels.into(), start: SubscriptionStart::Start(Start::Latest) }
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
    /// Whether the client was here before.
    pub(super) fn is_resume(&self) -> bool {
        matches!(self, Self::Start(Start::After(_)) | Self::Resume(_) | Self::Unknown)
    }

    pub(super) fn of_channel(&self, channel: &Channel) -> ChannelStart {
        let unknown = (Start::Earliest, Some(Reason::Unknown));
        match self {
            Self::Start(start) => (*start, None),
            Self::Resume(cursors) => cursors.position(channel).map_or(unknown, |cursor| (Start::After(cursor), None)),
            Self::Unknown => unknown,
        }
    }
}
