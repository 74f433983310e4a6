//! What a request reads, and the positions that its response returns.

use crate::{
    channel::{Channel, Channels},
    cursor::{Cursor, Cursors},
    encode::View,
    grant::Grant,
    hub::{Subscription, SubscriptionStart},
    request::ReadSettings,
    snapshot::Snapshots,
    store::Head,
};

/// What a request reads: as much of the request as a poll keeps while it waits.
#[derive(Clone, Debug)]
pub(crate) struct ReadTarget {
    pub(crate) subscription: Subscription,
    pub(crate) view: View,
    /// The parameters that the URL of the next page repeats; empty for a stream, which has no next page.
    pub(crate) next_query: Box<[u8]>,
}

impl ReadTarget {
    /// What `grant` allows, from where the service starts, read as its settings say.
    pub(crate) fn new(grant: Grant, settings: &ReadSettings, snapshots: Option<&Snapshots>) -> Self {
        let view = View::of(&grant);
        let mut subscription = Subscription::new(grant.channels);
        if let Some(filter) = grant.filter {
            subscription = subscription.filter(filter);
        }
        if let Some(snapshots) = snapshots {
            subscription = subscription.snapshots(snapshots.clone());
        }
        if let Some(compaction) = &settings.compaction {
            subscription = subscription.compaction(compaction.clone());
        }
        if let Some(events) = settings.max_behind {
            subscription = subscription.max_behind(events);
        }
        Self { subscription, view, next_query: Box::default() }
    }

    /// The same, from where the request says.
    pub(crate) fn starting(self, begin: SubscriptionStart, next_query: Box<[u8]>) -> Self {
        Self { subscription: self.subscription.starting(begin), next_query, ..self }
    }

    /// The same, with the channels that the hub's readers share, so that the request's own can be dropped.
    pub(crate) fn sharing(self, channels: &Channels) -> Self {
        Self { subscription: self.subscription.with_channels(channels.clone()), ..self }
    }

    pub(crate) fn channels(&self) -> &Channels {
        self.subscription.channels()
    }

    /// The position that the request resumes from.
    pub(crate) fn cursors(&self) -> Option<&Cursors> {
        self.subscription.resumes_from()
    }

    /// The token of the positions that `position` names, given a channel and its index: one cursor, or one for several
    /// channels, as the subscription has.
    pub(crate) fn token(&self, position: impl Fn(usize, &Channel) -> Option<Cursor>) -> Cursors {
        let positions =
            || self.channels().iter().enumerate().map(|(index, channel)| (channel, position(index, channel)));
        self.view.token(match (self.channels().len(), positions().next()) {
            (1, Some((_, Some(cursor)))) => Cursors::from(cursor),
            _ => Cursors::of(positions().filter_map(|(channel, cursor)| Some((channel, cursor?)))),
        })
    }

    pub(crate) fn head_token(&self, heads: &[Head]) -> Cursors {
        self.token(|index, _| heads.get(index).map(|head| head.cursor))
    }
}
