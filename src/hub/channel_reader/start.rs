//! How a channel of a subscription starts: what is read for it, what decides a reset, and where its history ends. Pure.

use crate::{
    cursor::Cursor,
    hub::{shared_page::SharedPage, subscription::ChannelStart},
    store::{Outcome, Reason, Start},
};

/// The head at the time when the start or the last reset was decided: history ends there, and live events follow.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum HistoryEnd {
    Undecided,
    /// Boxed: few readers have not reached it.
    At(Box<Cursor>),
    Reached,
}

impl HistoryEnd {
    pub(super) fn is_reached_at(&self, position: Cursor) -> bool {
        match self {
            Self::Undecided => false,
            Self::At(head) => position.epoch == head.epoch && position.seq >= head.seq,
            Self::Reached => true,
        }
    }
}

/// What decides whether a page that is read begins with a reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ResetRule {
    /// The page's outcome.
    ByOutcome,
    /// A reset is certain already.
    Certain(Reason),
    /// Whether the page's beginning has a predecessor: then that was dropped.
    IfTrimmed,
}

impl ResetRule {
    /// What to read for a start, and what decides a reset.
    pub(super) fn of((start, reset): ChannelStart) -> (Start, Self) {
        match (start, reset) {
            (start, Some(reason)) => (start, Self::Certain(reason)),
            (Start::Beginning, None) => (Start::Earliest, Self::IfTrimmed),
            (start, None) => (start, Self::ByOutcome),
        }
    }

    pub(super) fn reset_of(self, page: &SharedPage) -> Option<Reason> {
        match (self, page.outcome) {
            (Self::Certain(reason), _) | (Self::ByOutcome, Outcome::Reset(reason)) => Some(reason),
            (Self::IfTrimmed, _) if page.from.tag != 0 => Some(Reason::Trimmed),
            (Self::ByOutcome | Self::IfTrimmed, _) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn history_ends_at_the_head_of_that_time() {
        let at = |epoch, seq| Cursor { epoch, seq, tag: 1 };
        let history_end = HistoryEnd::At(Box::new(at(2, 5)));
        let table = [((2, 4), false), ((2, 5), true), ((2, 6), true), ((1, 6), false), ((3, 6), false)];
        for ((epoch, seq), reached) in table {
            assert_eq!(history_end.is_reached_at(at(epoch, seq)), reached, "{epoch} {seq}");
        }
        assert!(!HistoryEnd::Undecided.is_reached_at(at(2, 9)) && HistoryEnd::Reached.is_reached_at(at(1, 0)));
    }
}
