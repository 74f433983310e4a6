//! Several pages of the store as one: what a filter and a compaction leave of all that lies between a reader and the head. Pure.

use crate::{
    compaction::{BrokenRule, Compaction},
    cursor::Cursor,
    filter::Filter,
    store::{Entry, Limit, Outcome, Page},
};

/// What is done to the entries.
#[derive(Clone, Debug)]
pub(super) struct Folding {
    pub(super) compaction: Compaction,
    /// Decides first: what it hides must not be in anything that is merged.
    pub(super) filter: Option<Filter>,
}

/// Identifies a [`Folding`] where results are shared: by the ids themselves, because clients may choose a part of them, and
/// must not be able to find two with the same hash.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct FoldingKey {
    compaction: Box<str>,
    filter: Option<Box<str>>,
}

impl Folding {
    pub(super) fn key(&self) -> FoldingKey {
        FoldingKey {
            compaction: self.compaction.id().into(),
            filter: self.filter.as_ref().map(|filter| filter.id().into()),
        }
    }
}

/// The pages that were added so far as one page, which ends at the head of the first at the latest.
#[derive(Debug)]
pub(super) struct Fold<'a> {
    folding: &'a Folding,
    page: Page,
    is_finished: bool,
}

impl<'a> Fold<'a> {
    pub(super) fn new(folding: &'a Folding, first: Page) -> Self {
        let Page { outcome, from, entries, next, head } = first;
        let mut fold = Self { folding, page: Page::new(outcome, from, head), is_finished: false };
        fold.extend(entries, next);
        fold
    }

    /// What to read next from [`Fold::next`], in pages of at most `limit`; `None` once the fold is finished.
    pub(super) fn wanted(&self, limit: Limit) -> Option<Limit> {
        // Positions are dense within an epoch. What comes meanwhile is left to the next fold, or to the ring.
        let left = self.page.head.cursor.seq.saturating_sub(self.page.next.seq);
        let bytes: usize = self.page.entries.iter().map(Entry::size).sum();
        let has_room = self.page.entries.len() < MAX_OUTPUT.events && bytes < MAX_OUTPUT.bytes;
        let events = limit.events.min(usize::try_from(left).unwrap_or(usize::MAX));
        (left > 0 && has_room && !self.is_finished).then_some(Limit { events, ..limit })
    }

    /// The position after the last page.
    pub(super) fn next(&self) -> Cursor {
        self.page.next
    }

    /// Adds the page that was read next. One that does not continue the others finishes the fold: the reader comes back to the
    /// position before it, where a read decides the reset.
    pub(super) fn add(&mut self, page: Page) {
        let continues = page.outcome == Outcome::Continued && page.from == self.page.next && page.next != page.from;
        match continues {
            true => self.extend(page.entries, page.next),
            false => self.is_finished = true,
        }
    }

    pub(super) fn into_page(self) -> Page {
        self.page
    }

    fn extend(&mut self, entries: Vec<Entry>, next: Cursor) {
        let Folding { compaction, filter } = self.folding;
        let is_shown = |entry: &Entry| filter.as_ref().is_none_or(|filter| filter.keeps(entry));
        let mut all = std::mem::take(&mut self.page.entries);
        all.extend(entries.into_iter().filter(is_shown));
        self.page.next = next;
        self.page.entries = compaction.try_compact(all).unwrap_or_else(|BrokenRule { entries }| {
            // What was compacted before is right, and the last page stays as it is. More could not be bounded.
            self.is_finished = true;
            entries
        });
    }
}

/// How much may be left before the fold ends. It can be exceeded by one page.
const MAX_OUTPUT: Limit = Limit::new(10_000, 1 << 20);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        channel::Channel,
        event::Data,
        store::{Head, Reason},
    };

    fn at(seq: u64) -> Cursor {
        Cursor { epoch: 1, seq, tag: seq as u32 * 10 }
    }

    /// The entries `from + 1` to `to` of a log whose head is `head`, each of one letter.
    fn page(from: u64, to: u64, head: u64) -> Page {
        let letter = |seq| char::from(b'a' + (seq % 26) as u8).to_string();
        let entry = |seq| Entry::new(Channel::new("a").unwrap(), at(seq), Data::text(letter(seq)));
        Page::new(Outcome::Continued, at(from), Head::open(at(head))).with_entries((from + 1..=to).map(entry).collect())
    }

    fn joining() -> Folding {
        Folding { compaction: Compaction::joined_text(), filter: None }
    }

    fn texts(page: &Page) -> Vec<(u64, &str)> {
        page.entries.iter().map(|entry| (entry.cursor.seq, entry.data.as_shown())).collect()
    }

    const LIMIT: Limit = Limit::new(3, 1 << 20);

    #[test]
    fn pages_are_folded_up_to_the_head_of_the_first() {
        let folding = joining();
        let mut fold = Fold::new(&folding, page(0, 3, 7));
        assert_eq!((fold.wanted(LIMIT), fold.next()), (Some(LIMIT), at(3)));
        fold.add(page(3, 6, 90));
        assert_eq!(fold.wanted(LIMIT), Some(LIMIT.events(1)), "not beyond that head");
        fold.add(page(6, 7, 91));
        assert_eq!(fold.wanted(LIMIT), None);
        let folded = fold.into_page();
        assert_eq!(texts(&folded), [(7, "bcdefgh")]);
        assert_eq!((folded.from, folded.next, folded.head), (at(0), at(7), Head::open(at(7))));
    }

    #[test]
    fn a_page_that_does_not_continue_the_others_finishes_the_fold_before_it() {
        let reset = Page { outcome: Outcome::Reset(Reason::Trimmed), ..page(3, 6, 90) };
        for next in [reset, page(4, 6, 90), page(3, 3, 90)] {
            let folding = joining();
            let mut fold = Fold::new(&folding, page(0, 3, 7));
            fold.add(next);
            assert_eq!((fold.wanted(LIMIT), fold.next()), (None, at(3)));
            assert_eq!(texts(&fold.into_page()), [(3, "bcd")]);
        }
    }

    #[test]
    fn what_is_left_is_bounded() {
        let folding = Folding { compaction: Compaction::new("all", |_| ()), filter: None };
        let size = page(0, 1, 1).entries[0].size();
        for (already, wants) in [(9_999, true), (10_000, false)] {
            assert_eq!(Fold::new(&folding, page(0, already, 20_000)).wanted(LIMIT).is_some(), wants, "{already}");
        }
        let large = |bytes: usize| {
            let mut page = page(0, 1, 20_000);
            page.entries[0].data = Data::text("x".repeat(bytes - size + 1));
            page
        };
        for (bytes, wants) in [((1 << 20) - 1, true), (1 << 20, false)] {
            assert_eq!(Fold::new(&folding, large(bytes)).wanted(LIMIT).is_some(), wants, "{bytes}");
        }
    }

    #[test]
    fn a_function_that_breaks_its_rules_costs_no_event() {
        let breaks_later = Compaction::new("breaks", |entries| {
            assert!(entries.len() < 4, "a panic");
            entries.drain(..entries.len() - 1);
        });
        let folding = Folding { compaction: breaks_later, filter: None };
        let mut fold = Fold::new(&folding, page(0, 3, 9));
        fold.add(page(3, 9, 9));
        assert_eq!(fold.wanted(LIMIT), None);
        let seqs: Vec<_> = fold.into_page().entries.iter().map(|entry| entry.cursor.seq).collect();
        assert_eq!(seqs, [3, 4, 5, 6, 7, 8, 9]);
    }

    #[test]
    fn what_a_filter_hides_is_in_nothing_that_is_merged() {
        let odd = Filter::new("odd", |entry| entry.cursor.seq % 2 == 1);
        let folding = Folding { filter: Some(odd), ..joining() };
        let mut fold = Fold::new(&folding, page(0, 3, 6));
        fold.add(page(3, 6, 6));
        let folded = fold.into_page();
        assert_eq!(texts(&folded), [(5, "bdf")]);
        assert_eq!(folded.next, at(6), "it moves past what is hidden");
        assert_ne!(folding.key(), joining().key());
        let newest = Folding { compaction: Compaction::newest_per_name(), filter: None };
        assert_ne!(newest.key(), joining().key(), "nor is it shared with those of another compaction");
    }
}
