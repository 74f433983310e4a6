//! What a subscription asks for beyond its channels and start.

use super::fold::Folding;
use crate::{
    compaction::Compaction,
    cursor::{Cursor, FilterHash},
    filter::Filter,
    snapshot::Snapshots,
};

/// Most subscriptions ask for nothing, and their readers hold no such value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ReadOptions {
    pub(super) filter: Option<Filter>,
    pub(super) compaction: Option<Compaction>,
    pub(super) max_behind: Option<u64>,
    pub(super) snapshots: Option<Snapshots>,
}

impl ReadOptions {
    pub(super) fn filter_hash(&self) -> Option<FilterHash> {
        self.filter.as_ref().map(Filter::hash)
    }

    /// What is done to the entries that a reader catches up on, before they are a page.
    pub(super) fn folding(&self) -> Option<Folding> {
        Some(Folding { compaction: self.compaction.clone()?, filter: self.filter.clone() })
    }

    /// Whether a reader's position is decided before anything is read for it: readers that have the same one then share what a
    /// compaction leaves of what follows, and it may be too far behind.
    pub(super) fn position_comes_first(&self) -> bool {
        self.compaction.is_some() || self.max_behind.is_some()
    }

    /// Whether a reader at `position` is further behind this head than it may be. In another history the distance means nothing.
    pub(super) fn is_too_far_behind(&self, position: Cursor, head: Cursor) -> bool {
        let behind = head.seq.saturating_sub(position.seq);
        position.epoch == head.epoch && self.max_behind.is_some_and(|max| behind > max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_is_too_far_behind_above_the_bound_in_the_same_history() {
        let at = |epoch, seq| Cursor { epoch, seq, tag: 1 };
        let bounded = ReadOptions { max_behind: Some(10), ..ReadOptions::default() };
        let table = [
            (at(1, 90), at(1, 100), false),
            (at(1, 89), at(1, 100), true),
            (at(1, 100), at(1, 89), false),
            (at(2, 1), at(1, 100), false),
        ];
        for (position, head, expected) in table {
            assert_eq!(bounded.is_too_far_behind(position, head), expected, "{position:?} {head:?}");
        }
        assert!(!ReadOptions::default().is_too_far_behind(at(1, 0), at(1, u64::MAX)));
    }
}
