//! How a channel of a subscription starts: what is read for it, who decides on a reset, and where its history ends. Pure.

use crate::{
    cursor::Cursor,
    hub::{shared_read::SharedPage, subscription::ChannelStart},
    store::{Outcome, Reason, Start},
};

/// The head that there was when the start or the last reset was decided: history ends there, live events follow.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Latch {
    Undecided,
    /// Boxed: few are behind it.
    Head(Box<Cursor>),
    Passed,
}

impl Latch {
    pub(super) fn is_passed_at(&self, position: Cursor) -> bool {
        match self {
            Self::Undecided => false,
            Self::Head(head) => position.epoch == head.epoch && position.seq >= head.seq,
            Self::Passed => true,
        }
    }
}

/// Who decides whether the page that is being read begins with a reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The store, by the page's outcome.
    Page,
    /// It is certain already.
    Reset(Reason),
    /// The page's own beginning: a predecessor means that it was dropped.
    Beginning,
}

impl Verdict {
    /// What is read for a start, and who decides on it.
    pub(super) fn of((start, reset): ChannelStart) -> (Start, Self) {
        match (start, reset) {
            (start, Some(reason)) => (start, Self::Reset(reason)),
            (Start::Beginning, None) => (Start::Earliest, Self::Beginning),
            (start, None) => (start, Self::Page),
        }
    }

    pub(super) fn on(self, page: &SharedPage) -> Option<Reason> {
        match (self, page.outcome) {
            (Self::Reset(reason), _) | (Self::Page, Outcome::Reset(reason)) => Some(reason),
            (Self::Beginning, _) if page.from.tag != 0 => Some(Reason::Trimmed),
            (Self::Page | Self::Beginning, _) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn history_ends_at_the_head_that_there_was() {
        let at = |epoch, seq| Cursor { epoch, seq, tag: 1 };
        let latch = Latch::Head(Box::new(at(2, 5)));
        let table = [((2, 4), false), ((2, 5), true), ((2, 6), true), ((1, 6), false), ((3, 6), false)];
        for ((epoch, seq), passed) in table {
            assert_eq!(latch.is_passed_at(at(epoch, seq)), passed, "{epoch} {seq}");
        }
        assert!(!Latch::Undecided.is_passed_at(at(2, 9)) && Latch::Passed.is_passed_at(at(1, 0)));
    }
}
