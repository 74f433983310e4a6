//! How channels and positions are written for one client.

use crate::{
    channel::Channel,
    cursor::{Cursor, Cursors, FilterHash},
    filter::Filter,
    grant::{Grant, ShownNames},
};

/// What makes a client's responses different from those of others with the same events. Every channel and every position that
/// leaves a reading service is written through it.
#[derive(Clone, Debug, Default)]
pub(crate) struct View {
    names: Option<ShownNames>,
    filter: Option<FilterHash>,
}

impl View {
    pub(crate) fn of(grant: &Grant) -> Self {
        Self { names: grant.names.clone(), filter: grant.filter.as_ref().map(Filter::hash) }
    }

    /// Under their own names.
    pub(crate) fn unnamed(filter: Option<FilterHash>) -> Self {
        Self { names: None, filter }
    }

    pub(crate) fn channel<'a>(&'a self, channel: &'a Channel) -> &'a str {
        self.names.as_ref().map_or(channel.as_str(), |names| names.of(channel))
    }

    pub(crate) fn token(&self, cursors: Cursors) -> Cursors {
        cursors.under(self.filter)
    }

    /// The position in one channel as a token.
    pub(crate) fn cursor(&self, cursor: Cursor) -> Cursors {
        self.token(cursor.into())
    }

    /// Whether its positions are written as for everyone.
    pub(crate) fn has_plain_positions(&self) -> bool {
        self.filter.is_none()
    }

    /// Whether everything is written as for everyone.
    pub(crate) fn is_plain(&self) -> bool {
        self.names.is_none() && self.has_plain_positions()
    }
}
