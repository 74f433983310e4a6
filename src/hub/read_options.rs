//! What a subscription asks for beyond its channels and start.

use crate::{cursor::FilterHash, filter::Filter, snapshot::Snapshots};

/// Most subscriptions ask for nothing, and their readers hold no such value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ReadOptions {
    pub(super) filter: Option<Filter>,
    pub(super) snapshots: Option<Snapshots>,
}

impl ReadOptions {
    pub(super) fn filter_hash(&self) -> Option<FilterHash> {
        self.filter.as_ref().map(Filter::hash)
    }
}
