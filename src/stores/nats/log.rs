//! The messages of one channel: fetching them, and searching for one by bisection. Decides nothing.

use std::{sync::Arc, time::Duration};

use super::{
    api::{FetchLimit, ReadFrom, Selector},
    body::Message,
    connection::Connection,
    error::CallError,
    place::Place,
    record::{Kind, Record},
    response::RawMessage,
};
use crate::{channel::Channel, store::StoreError};

/// The messages of one channel.
pub(super) struct Log<'a> {
    pub(super) connection: &'a Connection,
    pub(super) request_timeout: Duration,
    pub(super) place: Arc<Place>,
    pub(super) channel: &'a Channel,
    subject: String,
    pub(super) read_from: ReadFrom,
}

/// How a message compares with the one that is searched for. Once a message is not `Before`, no later one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SearchOrder {
    /// The match comes later.
    Before,
    /// This is the match.
    Match,
    /// The match is this message or an earlier one.
    MatchOrAfter,
}

/// Where a search starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SearchFrom {
    Oldest,
    Newest,
}

impl<'a> Log<'a> {
    pub(super) fn new(
        (connection, request_timeout): (&'a Connection, Duration),
        place: Arc<Place>,
        channel: &'a Channel,
        read_from: ReadFrom,
    ) -> Self {
        let subject = place.entries(channel);
        Self { connection, request_timeout, place, channel, subject, read_from }
    }

    pub(super) fn subject(&self) -> &str {
        &self.subject
    }

    pub(super) async fn get(&self, selector: Selector) -> Result<Option<Message>, StoreError> {
        let raw = self
            .place
            .stream
            .message(self.connection, &self.subject, selector, self.read_from, self.request_timeout)
            .await;
        raw.map_err(CallError::into_store_error)?.map(RawMessage::message).transpose()
    }

    /// Some messages from this stream sequence on, in order. An empty result may only mean that a replica is behind.
    pub(super) async fn messages(&self, from: u64, limit: FetchLimit) -> Result<Vec<Message>, StoreError> {
        let messages = self.place.stream.messages(self.connection, &self.subject, from, limit, self.request_timeout);
        let raws = messages.await.map_err(CallError::into_store_error)?;
        raws.into_iter().map(RawMessage::message).collect()
    }

    /// The first message that is not `Before`, provided that the newest one, `last`, is not. Each request halves the
    /// range, so the cost grows with the logarithm of the distance from the starting side.
    pub(super) async fn first(
        &self,
        last: &Message,
        side: SearchFrom,
        judge: impl Fn(&Record) -> SearchOrder,
    ) -> Result<Option<Message>, StoreError> {
        // The removal marker of an earlier log may still precede the first message of this one.
        let judge = |record: &Record| if record.kind == Kind::Gone { SearchOrder::Before } else { judge(record) };
        match judge(&last.record) {
            SearchOrder::Before => return Ok(None),
            SearchOrder::Match => return Ok(Some(last.clone())),
            SearchOrder::MatchOrAfter => {}
        }
        let mut best = last.clone();
        // The match is in `low..=high`, or is `best`.
        let (mut low, mut high) = (1, before(&best));
        let mut stride = (side == SearchFrom::Newest).then_some(0);
        let mut oldest_first = side == SearchFrom::Oldest;
        while low <= high {
            let probe = match stride {
                _ if std::mem::take(&mut oldest_first) => low,
                Some(stride) => high.saturating_sub(stride).max(low),
                None => low + (high - low) / 2,
            };
            let found = self.get(Selector::AtOrAfter(probe)).await?.filter(|found| found.at < best.at);
            let order = found.as_ref().map_or(SearchOrder::MatchOrAfter, |found| judge(&found.record));
            if order != SearchOrder::Before {
                stride = stride.map(|stride: u64| stride.saturating_mul(4).max(16));
            }
            match (order, found) {
                (SearchOrder::Match, Some(found)) => return Ok(Some(found)),
                (SearchOrder::Before, Some(found)) => (low, stride) = (found.at + 1, None),
                (_, Some(found)) => {
                    high = before(&found).min(probe - 1);
                    best = found;
                }
                (_, None) => high = probe - 1,
            }
        }
        Ok(Some(best))
    }
}

/// The highest stream sequence at which the preceding message may be.
fn before(message: &Message) -> u64 {
    message.after.map_or(message.at - 1, |after| after.min(message.at - 1))
}
