//! Pages of the store that several readers share: what a page proves about a position, and what follows it.

use std::{cmp, sync::Arc};

use super::{encoded_entry::EncodedEntry, entry_run::EntryRun, moment::Moment};
use crate::{
    cursor::Cursor,
    store::{Entry, Head, Limit, Outcome, Page, Start},
};

/// What was read, and the state of the topic when the read began.
#[derive(Clone, Copy, Debug)]
pub(super) struct ReadContext {
    pub(super) start: Start,
    pub(super) limit: Limit,
    /// Whether its entries are what a filter and a compaction left.
    pub(super) is_folded: bool,
    /// The topic's version. That nothing follows is proven at this version only: a reader that joins later must not rely on
    /// a read that began before what this process has seen since.
    pub(super) version: u64,
    pub(super) generation: u64,
}

/// A page that was read, split into runs.
#[derive(Debug)]
pub(super) struct SharedPage {
    pub(super) context: ReadContext,
    /// After the read.
    pub(super) read_by: Moment,
    pub(super) outcome: Outcome,
    pub(super) from: Cursor,
    pub(super) runs: Vec<Arc<EntryRun>>,
    pub(super) next: Cursor,
    /// Whether the page proves that `next` is a position of the history that it belongs to.
    pub(super) is_next_proven: bool,
    pub(super) head: Head,
}

/// A position within a page; by default its beginning.
#[derive(Debug, Default)]
pub(super) struct PagePosition {
    /// The first run to hand out.
    pub(super) run: usize,
    /// The part of that run that follows the position, unless all of it does.
    pub(super) part: Option<Arc<EntryRun>>,
}

impl SharedPage {
    pub(super) fn new(page: Page, context: ReadContext) -> Self {
        let Page { outcome, from, entries, next, head } = page;
        let entries: Vec<_> = entries.into_iter().map(EncodedEntry::new).collect();
        let runs = EntryRun::split(&entries, next);
        Self { context, read_by: Moment::now(), outcome, from, runs, next, is_next_proven: true, head }
    }

    /// The page up to `last`, which becomes the position after it. A page that starts later then starts at `last`: the reader
    /// needs what follows, and a reset must not name a position beyond it. Only an entry at `last` or right after it proves that
    /// the log still has that position: it may have been deleted, or lost its tail, and go on at a higher one.
    pub(super) fn truncated(&self, last: Cursor) -> Self {
        let from = cmp::min_by_key(self.from, last, |position| position.seq);
        let entries = || self.runs.iter().flat_map(|run| run.encoded_entries());
        let proves = |entry: &Entry| entry.cursor == last || entry.prev() == last;
        let is_next_proven = entries().any(|encoded| proves(encoded.entry()));
        let kept: Vec<_> = entries().filter(|encoded| encoded.entry().cursor.seq <= last.seq).cloned().collect();
        Self { from, runs: EntryRun::split(&kept, last), next: last, is_next_proven, ..*self }
    }

    pub(super) fn newest_first(&self) -> impl Iterator<Item = &Arc<EncodedEntry>> {
        self.runs.iter().rev().flat_map(|run| run.encoded_entries().iter().rev())
    }

    /// The memory its entries take, in bytes.
    pub(super) fn size_in_memory(&self) -> usize {
        self.newest_first().map(|encoded| encoded.size_in_memory()).sum()
    }

    /// Whether only a position was requested.
    pub(super) fn is_position_only(&self) -> bool {
        self.context.limit.events == 0
    }

    /// How many entries were examined of which a filter and a compaction left none.
    pub(super) fn skipped_entries(&self) -> Option<usize> {
        let skipped = usize::try_from(self.next.seq.saturating_sub(self.from.seq)).unwrap_or(usize::MAX);
        (self.context.is_folded && self.runs.is_empty() && skipped > 0).then_some(skipped)
    }

    /// Where a reader that needs a page from `start` goes on in this one; `None` if this page is of no use to it.
    pub(super) fn position_of(&self, start: Start) -> Option<PagePosition> {
        match start {
            Start::After(cursor) if start != self.context.start => self.after(cursor),
            _ => Some(PagePosition::default()),
        }
    }

    /// What follows `cursor`, if the page proves that it is a position of this history: the page starts there, or holds the
    /// entry with its tag.
    fn after(&self, cursor: Cursor) -> Option<PagePosition> {
        if cursor == self.from && self.outcome == Outcome::Continued {
            return Some(PagePosition::default());
        }
        let index = self.runs.partition_point(|run| run.next().seq < cursor.seq);
        let run = self.runs.get(index)?;
        let entries = run.encoded_entries();
        let at = entries.binary_search_by_key(&cursor.seq, |encoded| encoded.entry().cursor.seq).ok()?;
        entries.get(at).filter(|encoded| encoded.entry().cursor == cursor)?;
        match entries.get(at + 1..) {
            Some(rest @ [_, ..]) => {
                Some(PagePosition { run: index, part: Some(EntryRun::new(rest.into(), run.next())) })
            }
            _ if cursor == run.next() => Some(PagePosition { run: index + 1, part: None }),
            // The page examined more entries than it holds.
            _ => None,
        }
    }

    /// Whether the page holds an entry that follows `cursor`.
    pub(super) fn serves(&self, cursor: Cursor) -> bool {
        self.after(cursor).is_some_and(|position| position.run < self.runs.len())
    }
}

#[cfg(all(test, not(tower_events_loom)))]
#[allow(clippy::unwrap_used, reason = "tests")]
pub(super) mod tests {
    use super::*;
    use crate::{channel::Channel, event::Data, store::Reason};

    pub(in crate::hub) fn at(seq: u64) -> Cursor {
        Cursor { epoch: 1, seq, tag: seq as u32 * 10 }
    }

    /// A page of the entries `from + 1` to `to`, of which there are 100.
    pub(in crate::hub) fn page(from: u64, to: u64) -> SharedPage {
        let entry = |seq| Entry {
            channel: Channel::new("a").unwrap(),
            cursor: at(seq),
            prev_tag: at(seq - 1).tag,
            appended: 0,
            time: 0,
            name: None,
            data: Data::text("x".repeat(20 << 10)),
        };
        let head = Head { cursor: at(100), closed: false };
        let entries = (from + 1..=to).map(entry).collect();
        let page = Page { outcome: Outcome::Continued, from: at(from), entries, next: at(to), head };
        let limit = Limit { events: 10, bytes: 1 << 20 };
        SharedPage::new(
            page,
            ReadContext { start: Start::After(at(from)), limit, is_folded: false, version: 1, generation: 1 },
        )
    }

    #[test]
    fn a_page_serves_the_positions_that_it_proves() {
        let page = page(10, 20);
        for seq in 10..20 {
            let position = page.after(at(seq)).unwrap();
            let part = position.part.iter().flat_map(|part| part.encoded_entries());
            let rest = page.runs.iter().skip(position.run + usize::from(position.part.is_some()));
            let entries = part.chain(rest.flat_map(|run| run.encoded_entries()));
            let seqs: Vec<_> = entries.map(|encoded| encoded.entry().cursor.seq).collect();
            assert_eq!(seqs, (seq + 1..=20).collect::<Vec<_>>());
            assert!(page.serves(at(seq)));
        }
        assert!(page.after(at(20)).is_some() && !page.serves(at(20)), "nothing follows its last entry");
        let foreign = [at(9), at(21), Cursor { tag: 1, ..at(15) }, Cursor { tag: 1, ..at(10) }];
        let foreign = foreign.into_iter().chain([Cursor { epoch: 2, ..at(15) }]);
        foreign.for_each(|cursor| assert!(page.after(cursor).is_none(), "{cursor:?}"));
    }

    #[test]
    fn a_truncated_page_proves_its_end_by_an_entry_there_or_right_after_it() {
        let page = page(10, 20);
        let entries: Vec<_> = page.runs.iter().flat_map(|run| run.encoded_entries()).cloned().collect();
        let other_history = |last: Cursor| Cursor { tag: 1, ..last };
        for (last, omitted, is_proven) in [
            (at(15), 0..0, true),
            (at(15), 16..17, true),
            (at(15), 15..16, true),
            (at(15), 15..17, false),
            (at(10), 0..0, true),
            (at(10), 11..12, false),
            (other_history(at(15)), 0..0, false),
            (other_history(at(10)), 0..0, false),
        ] {
            let is_left = |encoded: &&Arc<EncodedEntry>| !omitted.contains(&encoded.entry().cursor.seq);
            let left: Vec<_> = entries.iter().filter(is_left).cloned().collect();
            let page = SharedPage { runs: EntryRun::split(&left, page.next), ..page };
            let truncated = page.truncated(last);
            assert_eq!((truncated.next, truncated.is_next_proven), (last, is_proven), "{last:?} without {omitted:?}");
        }
    }

    #[test]
    fn the_size_of_a_page_is_that_of_its_entries() {
        let [none, one, ten] = [0, 1, 10].map(|entries| page(10, 10 + entries).size_in_memory());
        assert_eq!((none, ten), (0, 10 * one));
        assert!(one > 20 << 10, "{one}");
    }

    #[test]
    fn a_page_proves_nothing_before_a_reset_nor_after_its_last_entry() {
        let reset = SharedPage { outcome: Outcome::Reset(Reason::Trimmed), ..page(10, 20) };
        assert!(reset.after(at(10)).is_none() && reset.after(at(11)).is_some());
        // It examined more entries than it holds.
        let entries: Vec<_> = reset.runs.iter().flat_map(|run| run.encoded_entries()).cloned().collect();
        let filtered = SharedPage { runs: EntryRun::split(&entries, at(30)), next: at(30), ..reset };
        assert!(filtered.after(at(19)).is_some() && filtered.after(at(20)).is_none());
    }
}
