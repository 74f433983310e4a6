//! How channels and positions are written for one client.

use std::sync::Arc;

use crate::{
    channel::Channel,
    cursor::{Cursor, Cursors, FilterHash},
    filter::Filter,
    grant::{Grant, ShownNames},
};

/// What makes a client's responses different from those of others with the same events. Every channel and every position that
/// leaves a service is written through it. One word, because every open stream and poll has one.
#[derive(Clone, Debug, Default)]
pub(crate) struct View(Option<Arc<Differences>>);

#[derive(Debug)]
struct Differences {
    names: Option<ShownNames>,
    filter: Option<FilterHash>,
}

impl View {
    pub(crate) fn of(grant: &Grant) -> Self {
        Self::new(grant.names.clone(), grant.filter.as_ref().map(Filter::hash))
    }

    /// Under their own names.
    pub(crate) fn unnamed(filter: Option<FilterHash>) -> Self {
        Self::new(None, filter)
    }

    fn new(names: Option<ShownNames>, filter: Option<FilterHash>) -> Self {
        let differs = names.is_some() || filter.is_some();
        Self(differs.then(|| Arc::new(Differences { names, filter })))
    }

    pub(crate) fn channel<'a>(&'a self, channel: &'a Channel) -> &'a str {
        let names = self.0.as_ref().and_then(|differences| differences.names.as_ref());
        names.map_or(channel.as_str(), |names| names.of(channel))
    }

    pub(crate) fn token(&self, cursors: Cursors) -> Cursors {
        cursors.under(self.filter())
    }

    /// The position in one channel as a token.
    pub(crate) fn cursor(&self, cursor: Cursor) -> Cursors {
        self.token(cursor.into())
    }

    /// Whether its positions are written as for everyone.
    pub(crate) fn has_plain_positions(&self) -> bool {
        self.filter().is_none()
    }

    /// Whether everything is written as for everyone.
    pub(crate) fn is_plain(&self) -> bool {
        self.0.is_none()
    }

    fn filter(&self) -> Option<FilterHash> {
        self.0.as_ref().and_then(|differences| differences.filter)
    }
}
