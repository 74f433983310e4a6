//! Pages of the store, and who shares one. Readers that come back after a restart stand at many positions of one history:
//! a page that is read from a lower position, or was read and is still being handed out, serves those within it too.

use std::{
    cmp,
    collections::BTreeMap,
    fmt,
    sync::{Arc, Weak},
};

use super::{
    encoded_entry::EncodedEntry,
    entry_run::EntryRun,
    shared_call::{CallStatus, SharedCall},
    sweep::SweepThreshold,
    sync::{Mutex, lock},
};
use crate::{
    cursor::Cursor,
    store::{Head, Limit, Outcome, Page, Start},
};

/// One read of a page.
pub(super) type SharedRead = SharedCall<Arc<SharedPage>>;

/// What a read is for.
#[derive(Clone, Copy, Debug)]
pub(super) struct ReadContext {
    pub(super) start: Start,
    pub(super) limit: Limit,
    /// The topic's version when the read began. That nothing follows is true of this version only: a reader that joins later
    /// must not wait on the word of a read that began before what it knows of.
    pub(super) version: u64,
    /// The topic's history when the read began.
    pub(super) generation: u64,
}

/// A page that was read, cut into runs.
#[derive(Debug)]
pub(super) struct SharedPage {
    pub(super) context: ReadContext,
    pub(super) outcome: Outcome,
    pub(super) from: Cursor,
    pub(super) runs: Vec<Arc<EntryRun>>,
    pub(super) next: Cursor,
    pub(super) head: Head,
}

/// A position within a page: its beginning, by default.
#[derive(Debug, Default)]
pub(super) struct PagePosition {
    /// The first run to hand out.
    pub(super) run: usize,
    /// What of that run follows the position, when it is not all.
    pub(super) part: Option<Arc<EntryRun>>,
}

impl SharedPage {
    pub(super) fn new(page: Page, context: ReadContext) -> Self {
        let Page { outcome, from, entries, next, head } = page;
        let entries: Vec<_> = entries.into_iter().map(EncodedEntry::new).collect();
        let runs = EntryRun::split(&entries, next);
        Self { context, outcome, from, runs, next, head }
    }

    /// What of it lies up to `last`, which is the position after it. A page that starts behind that starts there: what follows
    /// is for the reader, and a reset must not name a position beyond it.
    pub(super) fn until(&self, last: Cursor) -> Self {
        let from = cmp::min_by_key(self.from, last, |position| position.seq);
        let entries = self.runs.iter().flat_map(|run| run.encoded_entries());
        let entries: Vec<_> = entries.filter(|encoded| encoded.entry().cursor.seq <= last.seq).cloned().collect();
        let runs = EntryRun::split(&entries, last);
        Self { from, runs, next: last, ..*self }
    }

    pub(super) fn newest_first(&self) -> impl Iterator<Item = &Arc<EncodedEntry>> {
        self.runs.iter().rev().flat_map(|run| run.encoded_entries().iter().rev())
    }

    /// The bytes that it takes while it is kept.
    pub(super) fn kept_bytes(&self) -> usize {
        self.newest_first().map(|encoded| encoded.size_in_memory()).sum()
    }

    /// Whether only a position was asked for.
    pub(super) fn is_position(&self) -> bool {
        self.context.limit.events == 0
    }

    /// What of it is for a reader that has to read from `start`.
    pub(super) fn for_start(&self, start: Start) -> Option<PagePosition> {
        match start {
            Start::After(cursor) if start != self.context.start => self.after(cursor),
            _ => Some(PagePosition::default()),
        }
    }

    /// What follows `position`, when the page proves it: it starts there, or holds the entry with its tag.
    pub(super) fn after(&self, position: Cursor) -> Option<PagePosition> {
        if position == self.from && self.outcome == Outcome::Continued {
            return Some(PagePosition::default());
        }
        let run = self.runs.partition_point(|run| run.next().seq < position.seq);
        let found = self.runs.get(run)?;
        let at =
            found.encoded_entries().binary_search_by_key(&position.seq, |encoded| encoded.entry().cursor.seq).ok()?;
        let encoded = found.encoded_entries().get(at).filter(|encoded| encoded.entry().cursor == position)?;
        match found.encoded_entries().get(at + 1..) {
            Some(rest @ [_, ..]) => Some(PagePosition { run, part: Some(EntryRun::new(rest.into(), found.next())) }),
            _ if encoded.entry().cursor == found.next() => Some(PagePosition { run: run + 1, part: None }),
            // The page looked at more than it holds.
            _ => None,
        }
    }

    /// Whether anything follows `position` in it.
    fn serves(&self, position: Cursor) -> bool {
        self.after(position).is_some_and(|page_position| page_position.run < self.runs.len())
    }
}

/// Which reads of a topic a reader may join.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sharing {
    /// Also those from a lower position, that may reach this one.
    Overlapping,
    /// Those from just this position.
    SameStart,
}

/// The pages of one topic that are being read or handed out, by the positions that they start from.
#[derive(Default)]
pub(super) struct SharedReads(Mutex<ReadsByStart>);

#[derive(Default)]
struct ReadsByStart {
    by_start: BTreeMap<Key, ShareableRead>,
    /// How many entries the last page held that was full: by bytes, as a rule, so that its limit does not tell.
    full_page: Option<u64>,
    sweep_threshold: SweepThreshold,
}

/// Epoch, seq and tag: positions in order.
type Key = (u64, u64, u32);

struct ShareableRead {
    /// Most entries that it may hold.
    events: u64,
    read: Weak<SharedRead>,
}

impl SharedReads {
    /// A read that `cursor` can share, or a new one that the caller has to make. A page may be handed out for long, so that
    /// one of another `generation` than today's is shared no more: its readers would be reset at its end, and led back to it.
    pub(super) fn share(
        &self,
        cursor: Cursor,
        limit: Limit,
        sharing: Sharing,
        generation: u64,
    ) -> (Arc<SharedRead>, ReadOrigin) {
        let mut reads = lock(&self.0);
        if let Some(read) = reads.find(cursor, sharing, generation) {
            return (read, ReadOrigin::Existing);
        }
        let read = Arc::new(SharedRead::new());
        reads.insert(cursor, ShareableRead { events: limit.events as u64, read: Arc::downgrade(&read) });
        (read, ReadOrigin::New)
    }
}

impl SharedReads {
    /// Takes notice of a page that was read.
    pub(super) fn note(&self, page: &SharedPage) {
        if page.next != page.head.cursor && !page.is_position() {
            lock(&self.0).full_page = Some(page.newest_first().count() as u64);
        }
    }
}

/// Whether a call was there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReadOrigin {
    Existing,
    New,
}

impl ReadsByStart {
    fn find(&self, cursor: Cursor, sharing: Sharing, generation: u64) -> Option<Arc<SharedRead>> {
        let below = self.by_start.range(..=key(cursor)).rev().take(MAX_STARTS_CHECKED);
        below.filter_map(|(start, page)| Some((*start, page.events, page.read.upgrade()?))).find_map(
            |(start, events, read)| {
                let reach = events.min(self.full_page.unwrap_or(u64::MAX));
                let near = sharing == Sharing::Overlapping && start.0 == cursor.epoch && cursor.seq - start.1 < reach;
                let joins = match read.status() {
                    CallStatus::Pending => near || start == key(cursor),
                    CallStatus::Succeeded(page) => near && page.context.generation == generation && page.serves(cursor),
                    CallStatus::Failed => false,
                };
                joins.then_some(read)
            },
        )
    }

    fn insert(&mut self, cursor: Cursor, page: ShareableRead) {
        let retain = |reads: &mut BTreeMap<_, ShareableRead>| reads.retain(|_, page| page.read.strong_count() > 0);
        self.sweep_threshold.before_adding(&mut self.by_start, BTreeMap::len, retain);
        self.by_start.insert(key(cursor), page);
    }
}

/// How many starts below a position are looked at, so that looking costs the same however many there are.
const MAX_STARTS_CHECKED: usize = 16;

fn key(cursor: Cursor) -> Key {
    (cursor.epoch, cursor.seq, cursor.tag)
}

impl fmt::Debug for SharedReads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedReads").finish_non_exhaustive()
    }
}

#[cfg(all(test, not(tower_events_loom)))]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::{
        channel::Channel,
        event::Data,
        hub::shared_call::Completion,
        store::{Entry, Reason},
    };

    fn at(seq: u64) -> Cursor {
        Cursor { epoch: 1, seq, tag: seq as u32 * 10 }
    }

    /// A page of the entries `from + 1` to `to`.
    fn page(from: u64, to: u64) -> Arc<SharedPage> {
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
        let context = ReadContext { start: Start::After(at(from)), limit: limit(10), version: 1, generation: 1 };
        Arc::new(SharedPage::new(page, context))
    }

    fn limit(events: usize) -> Limit {
        Limit { events, bytes: 1 << 20 }
    }

    #[test]
    fn a_page_serves_the_positions_that_it_proves() {
        let page = page(10, 20);
        for seq in 10..20 {
            let page_position = page.after(at(seq)).unwrap();
            let part = page_position.part.iter().flat_map(|part| part.encoded_entries());
            let rest = page.runs.iter().skip(page_position.run + usize::from(page_position.part.is_some()));
            let seqs: Vec<_> = part
                .chain(rest.flat_map(|run| run.encoded_entries()))
                .map(|encoded| encoded.entry().cursor.seq)
                .collect();
            assert_eq!(seqs, (seq + 1..=20).collect::<Vec<_>>());
            assert!(page.serves(at(seq)));
        }
        assert!(page.after(at(20)).is_some() && !page.serves(at(20)), "nothing follows the last one in it");
        let foreign = [at(9), at(21), Cursor { tag: 1, ..at(15) }, Cursor { tag: 1, ..at(10) }];
        let foreign = foreign.into_iter().chain([Cursor { epoch: 2, ..at(15) }]);
        foreign.for_each(|position| assert!(page.after(position).is_none(), "{position:?}"));
    }

    #[test]
    fn a_page_proves_nothing_before_a_reset_nor_behind_its_last_entry() {
        let page = Arc::into_inner(page(10, 20)).unwrap();
        let reset = SharedPage { outcome: Outcome::Reset(Reason::Trimmed), ..page };
        assert!(reset.after(at(10)).is_none() && reset.after(at(11)).is_some());
        // It looked at more than it holds.
        let entries: Vec<_> = reset.runs.iter().flat_map(|run| run.encoded_entries()).cloned().collect();
        let filtered = SharedPage { runs: EntryRun::split(&entries, at(30)), next: at(30), ..reset };
        assert!(filtered.after(at(19)).is_some() && filtered.after(at(20)).is_none());
    }

    #[test]
    fn readers_join_the_read_that_may_reach_them() {
        let reads = SharedReads::default();
        let (first, origin) = reads.share(at(10), limit(10), Sharing::Overlapping, 1);
        assert_eq!(origin, ReadOrigin::New);
        let joins = |seq, sharing| {
            let (read, origin) = reads.share(at(seq), limit(10), sharing, 1);
            (Arc::ptr_eq(&read, &first), origin == ReadOrigin::Existing)
        };
        let table = [
            (10, Sharing::SameStart, (true, true)),
            (10, Sharing::Overlapping, (true, true)),
            (19, Sharing::Overlapping, (true, true)),
            (20, Sharing::Overlapping, (false, false)),
            (9, Sharing::Overlapping, (false, false)),
            (19, Sharing::SameStart, (false, false)),
        ];
        for (seq, sharing, expected) in table {
            assert_eq!(joins(seq, sharing), expected, "{seq} {sharing:?}");
        }
        Completion::new(Arc::downgrade(&first)).complete(Ok(page(10, 15)));
        for (seq, expected) in [(10, true), (14, true), (15, false), (16, false)] {
            assert_eq!(joins(seq, Sharing::Overlapping).0, expected, "{seq} of a page that was read");
        }
        assert!(!joins(14, Sharing::SameStart).0);
        assert_eq!(reads.share(at(14), limit(10), Sharing::Overlapping, 2).1, ReadOrigin::New, "another history");
        drop(first);
        assert_eq!(reads.share(at(14), limit(10), Sharing::Overlapping, 1).1, ReadOrigin::New);
    }

    #[test]
    fn a_read_that_will_hold_fewer_entries_than_it_may_is_not_joined_beyond_them() {
        let position = Arc::into_inner(page(10, 14)).unwrap();
        let position = SharedPage { context: ReadContext { limit: Limit::POSITION, ..position.context }, ..position };
        let last = Arc::into_inner(page(97, 100)).unwrap();
        let full = Arc::into_inner(page(10, 14)).unwrap();
        for (noted, farthest) in [(position, 19), (last, 19), (full, 13)] {
            let reads = SharedReads::default();
            reads.note(&noted);
            let (first, _) = reads.share(at(10), limit(10), Sharing::Overlapping, 1);
            let joins = |seq| Arc::ptr_eq(&reads.share(at(seq), limit(10), Sharing::Overlapping, 1).0, &first);
            assert_eq!((11..25).rev().find(|seq| joins(*seq)), Some(farthest), "{:?}", noted.next);
        }
    }

    #[test]
    fn reads_that_are_over_are_forgotten() {
        let reads = SharedReads::default();
        for seq in 0..1000 {
            drop(reads.share(at(seq * 100), limit(10), Sharing::Overlapping, 1));
        }
        assert!(lock(&reads.0).by_start.len() <= 100);
        let (_under_way, origin) = reads.share(at(7), limit(10), Sharing::Overlapping, 1);
        assert_eq!(origin, ReadOrigin::New);
        for seq in 0..1000 {
            drop(reads.share(at(1000 + seq * 100), limit(10), Sharing::Overlapping, 1));
        }
        assert_eq!(
            reads.share(at(7), limit(10), Sharing::Overlapping, 1).1,
            ReadOrigin::Existing,
            "one that is not over stays"
        );
    }
}
