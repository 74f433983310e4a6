//! Several pages of the store as one: what a compaction leaves of all that lies between a reader and the head. Pure.

use crate::{
    compaction::{BrokenRule, Compaction},
    cursor::Cursor,
    store::{Limit, Outcome, Page},
};

/// The pages that were added so far, compacted. It ends at the head of the first one.
#[derive(Debug)]
pub(super) struct Fold<'a> {
    compaction: &'a Compaction,
    page: Page,
    is_finished: bool,
}

impl<'a> Fold<'a> {
    pub(super) fn new(compaction: &'a Compaction, first: Page) -> Self {
        let empty = Page { entries: Vec::new(), next: first.from, ..first.clone() };
        let mut fold = Self { compaction, page: empty, is_finished: false };
        fold.extend(first);
        fold
    }

    /// What to read next from `Page::next`, in pages of at most `limit`; `None` once the fold is finished.
    pub(super) fn wanted(&self, limit: Limit) -> Option<Limit> {
        // Positions are dense within an epoch: events that come meanwhile are left to the next fold, or to the ring.
        let left = self.page.head.cursor.seq.saturating_sub(self.page.next.seq);
        let bytes = self.page.entries.iter().map(|entry| entry.size()).sum::<usize>();
        let has_room = self.page.entries.len() < MAX_OUTPUT.events && bytes < MAX_OUTPUT.bytes;
        let events = limit.events.min(usize::try_from(left).unwrap_or(usize::MAX));
        (left > 0 && has_room && !self.is_finished).then_some(Limit { events, ..limit })
    }

    /// Adds the page that was read next. One that does not continue the others finishes the fold: the reader comes back to the
    /// position before it, where a read decides the reset.
    pub(super) fn add(&mut self, page: Page) {
        let has_more = page.outcome == Outcome::Continued && page.from == self.page.next && page.next != page.from;
        match has_more {
            true => self.extend(page),
            false => self.is_finished = true,
        }
    }

    /// The position after the last page.
    pub(super) fn next(&self) -> Cursor {
        self.page.next
    }

    /// The page that stands for all of them.
    pub(super) fn into_page(self) -> Page {
        self.page
    }

    fn extend(&mut self, page: Page) {
        let mut entries = std::mem::take(&mut self.page.entries);
        entries.extend(page.entries);
        self.page.next = page.next;
        self.page.entries = self.compaction.try_compact(entries).unwrap_or_else(|BrokenRule { entries }| {
            // What was compacted before is right; the last page stays as it is, and no more are held than that.
            self.is_finished = true;
            entries
        });
    }
}

/// How much may be left before the fold ends. It can exceed this by one page.
const MAX_OUTPUT: Limit = Limit::new(10_000, 1 << 20);
