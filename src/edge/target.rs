//! What a request reads, and the positions that its response returns.

use crate::{
    channel::{Channel, Channels},
    cursor::{Cursor, Cursors},
    hub::{Subscription, SubscriptionStart},
    store::Head,
};

/// What a request reads: as much of the request as a poll keeps while it waits.
#[derive(Debug)]
pub(crate) struct ReadTarget {
    pub(crate) channels: Channels,
    pub(crate) begin: SubscriptionStart,
    /// The parameters that the URL of the next page repeats; empty for a stream, which has no next page.
    pub(crate) next_query: Box<[u8]>,
}

impl ReadTarget {
    pub(crate) fn subscription(&self) -> Subscription {
        Subscription::new(self.channels.clone()).starting(self.begin.clone())
    }

    /// The position that the request resumes from.
    pub(crate) fn cursors(&self) -> Option<&Cursors> {
        match &self.begin {
            SubscriptionStart::Resume(cursors) => Some(cursors),
            _ => None,
        }
    }

    /// The token of the positions that `position` names, given a channel and its index: one cursor, or one for several
    /// channels, as the subscription has.
    pub(crate) fn token(&self, position: impl Fn(usize, &Channel) -> Option<Cursor>) -> Cursors {
        let positions = || self.channels.iter().enumerate().map(|(index, channel)| (channel, position(index, channel)));
        match (self.channels.len(), positions().next()) {
            (1, Some((_, Some(cursor)))) => Cursors::from(cursor),
            _ => Cursors::of(positions().filter_map(|(channel, cursor)| Some((channel, cursor?)))),
        }
    }

    pub(crate) fn head_token(&self, heads: &[Head]) -> Cursors {
        self.token(|index, _| heads.get(index).map(|head| head.cursor))
    }
}
