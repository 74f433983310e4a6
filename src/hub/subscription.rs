//! What a reader asks for.

use std::sync::Arc;

use super::read_options::ReadOptions;
use crate::{
    channel::{Channel, Channels},
    compaction::Compaction,
    cursor::{Cursors, FilterHash},
    filter::Filter,
    snapshot::Snapshots,
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
    pub(super) options: Option<Arc<ReadOptions>>,
}

/// Where a subscription starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SubscriptionStart {
    /// Nothing was said: a snapshot if there is a provider, else the same start in every channel.
    Fresh(Start),
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
        Self { channels: channels.into(), start: SubscriptionStart::Fresh(Start::Latest), options: None }
    }

    /// Starts every channel at `start`.
    #[must_use]
    pub fn start(self, start: Start) -> Self {
        self.starting(SubscriptionStart::Start(start))
    }

    /// Resumes after `cursors`. A channel that they do not name is reset with [`Reason::Unknown`], unless there is a provider of
    /// [snapshots](Self::snapshots): then it starts with one.
    #[must_use]
    pub fn resume(self, cursors: &Cursors) -> Self {
        self.starting(SubscriptionStart::Resume(cursors.clone()))
    }

    /// Asks `snapshots` for the state of each channel whose start was not said, and after every reset: see
    /// [`snapshot`](crate::snapshot). Default: none.
    #[must_use]
    pub fn snapshots(self, snapshots: Snapshots) -> Self {
        self.with_options(|options| options.snapshots = Some(snapshots))
    }

    /// Reads only the entries that `filter` keeps.
    #[must_use]
    pub fn filter(self, filter: Filter) -> Self {
        self.with_options(|options| options.filter = Some(filter))
    }

    /// Reads less while it catches up. See [`compaction`](crate::compaction).
    #[must_use]
    pub fn compaction(self, compaction: Compaction) -> Self {
        self.with_options(|options| options.compaction = Some(compaction))
    }

    /// Resets a channel with [`Reason::Behind`] when its reader is more than `events` behind the head, and goes on from the head:
    /// where the reader starts, and whenever it has fallen behind the recent events that the hub holds in memory
    /// ([`HubOptions::ring_bytes`](crate::HubOptions::ring_bytes)). Default: readers catch up from wherever they are.
    #[must_use]
    pub fn max_behind(self, events: u64) -> Self {
        self.with_options(|options| options.max_behind = Some(events))
    }

    /// The channels.
    #[must_use]
    pub fn channels(&self) -> &Channels {
        &self.channels
    }

    pub(crate) fn starting(self, start: SubscriptionStart) -> Self {
        Self { start, ..self }
    }

    /// Reads these channels instead, from where they start for the others.
    pub(crate) fn with_channels(self, channels: Channels) -> Self {
        Self { channels, ..self }
    }

    /// The position that the client brought.
    pub(crate) fn resumes_from(&self) -> Option<&Cursors> {
        match &self.start {
            SubscriptionStart::Resume(cursors) => Some(cursors),
            _ => None,
        }
    }

    /// The filter that its positions are valid for.
    pub(crate) fn filter_hash(&self) -> Option<FilterHash> {
        self.options.as_ref().and_then(|options| options.filter_hash())
    }

    /// Where one of its channels starts.
    pub(super) fn channel_start(&self, channel: &Channel) -> ChannelStart {
        let reset = |reason| (Start::Earliest, Some(reason));
        match &self.start {
            SubscriptionStart::Fresh(start) | SubscriptionStart::Start(start) => (*start, None),
            SubscriptionStart::Resume(cursors) if cursors.filter() != self.filter_hash() => {
                reset(Reason::FilterChanged)
            }
            SubscriptionStart::Resume(cursors) => match cursors.position(channel) {
                Some(cursor) => (Start::After(cursor), None),
                None => reset(Reason::Unknown),
            },
            SubscriptionStart::Unknown => reset(Reason::Unknown),
        }
    }

    /// Whether anything says where one of its channels begins.
    pub(super) fn channel_begin(&self, channel: &Channel) -> ChannelBegin {
        match &self.start {
            SubscriptionStart::Fresh(_) => ChannelBegin::Fresh,
            // A position under another filter is reset.
            SubscriptionStart::Resume(cursors) if cursors.filter() == self.filter_hash() => {
                cursors.position(channel).map_or(ChannelBegin::Fresh, |_| ChannelBegin::Explicit)
            }
            _ => ChannelBegin::Explicit,
        }
    }

    fn with_options(mut self, change: impl FnOnce(&mut ReadOptions)) -> Self {
        change(Arc::make_mut(self.options.get_or_insert_default()));
        self
    }

    /// Whether the events of one answer are sorted by time.
    pub(super) fn is_by_time(&self) -> bool {
        matches!(self.start, SubscriptionStart::Fresh(Start::Time(_)) | SubscriptionStart::Start(Start::Time(_)))
    }
}

/// Where one channel starts, and its reset if that is certain already.
pub(super) type ChannelStart = (Start, Option<Reason>);

impl SubscriptionStart {
    /// Whether the client was here before.
    pub(super) fn is_resume(&self) -> bool {
        matches!(self, Self::Start(Start::After(_)) | Self::Resume(_) | Self::Unknown)
    }
}

/// Whether anything says where a channel begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ChannelBegin {
    Fresh,
    Explicit,
}
