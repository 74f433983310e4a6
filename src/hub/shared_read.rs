//! Which readers of a topic share a read. After a restart, readers come back to many positions of one history: a page that is
//! read from a lower position, or was read and is still being handed out, serves the positions within it too.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::time::Instant;

use super::{
    fold::FoldingKey,
    shared_call::{CallStatus, SharedCall},
    shared_page::SharedPage,
    sweep::SweepThreshold,
    sync::{Mutex, lock},
};
use crate::{cursor::Cursor, store::Limit};

/// Where a read starts, and what is done to its entries.
#[derive(Clone, Debug)]
pub(super) struct ReadStart {
    pub(super) folding: Option<FoldingKey>,
    pub(super) cursor: Cursor,
}

/// One read of a page.
pub(super) type SharedRead = SharedCall<Arc<SharedPage>>;

/// Which reads a reader may join.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sharing {
    /// Also those from a lower position that may reach its own.
    Overlapping,
    /// Only those from exactly its position.
    SameStart,
    /// None: only a read that begins now proves its position, whatever the ring holds.
    Nothing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReadOrigin {
    Existing,
    New,
}

/// The pages of one topic that are being read or handed out.
#[derive(Default)]
pub(super) struct SharedReads(Mutex<ReadsByStart>);

#[derive(Default)]
struct ReadsByStart {
    by_start: BTreeMap<StartKey, ShareableRead>,
    /// How many entries the last full page held: usually limited by bytes, so that a read's limit does not tell.
    full_page: Option<u64>,
    sweep_threshold: SweepThreshold,
}

/// What is done to the entries; epoch, seq and tag of the position that a read starts from.
type StartKey = (Option<FoldingKey>, u64, u64, u32);

struct ShareableRead {
    /// Most entries that the page may hold.
    max_entries: u64,
    began: Instant,
    read: Weak<SharedRead>,
}

impl SharedReads {
    /// A read that the reader at `start` can share, or a new one that the caller has to make. A page may be handed out for
    /// long, so one of an older `generation` is no longer shared: its readers would be reset at its end and come back to it.
    pub(super) fn share(
        &self,
        start: ReadStart,
        limit: Limit,
        sharing: Sharing,
        generation: u64,
    ) -> (Arc<SharedRead>, ReadOrigin) {
        let mut reads = lock(&self.0);
        if let Some(read) = reads.find(&start, sharing, generation) {
            return (read, ReadOrigin::Existing);
        }
        let read = Arc::new(SharedRead::new());
        let shareable =
            ShareableRead { max_entries: limit.events as u64, began: Instant::now(), read: Arc::downgrade(&read) };
        reads.insert(&start, shareable);
        (read, ReadOrigin::New)
    }

    /// Learns from a page that was read how many entries a full one holds.
    pub(super) fn note(&self, page: &SharedPage) {
        if page.next != page.head.cursor && !page.is_position_only() {
            lock(&self.0).full_page = Some(page.newest_first().count() as u64);
        }
    }
}

impl ReadsByStart {
    fn find(&self, start: &ReadStart, sharing: Sharing, generation: u64) -> Option<Arc<SharedRead>> {
        let (key, cursor) = (start.key(), start.cursor);
        let candidates = self.by_start.range(..=&key).rev().take(MAX_CANDIDATES);
        let mut alive = candidates.filter_map(|(from, shared)| Some((from, shared, shared.read.upgrade()?)));
        let joins = |(from, shared, read): &(&StartKey, &ShareableRead, Arc<SharedRead>)| {
            let (folding, epoch, seq, _) = *from;
            let overlaps = sharing == Sharing::Overlapping && *folding == start.folding && *epoch == cursor.epoch;
            let reaches = || cursor.seq - seq < shared.max_entries.min(self.full_page.unwrap_or(u64::MAX));
            match (read.status(), folding) {
                (CallStatus::Pending, None) => **from == key || overlaps && reaches(),
                // Which positions will be left is not known before.
                (CallStatus::Pending, Some(_)) => **from == key,
                (CallStatus::Succeeded(page), folding) => {
                    let may_serve = || if folding.is_none() { reaches() } else { shared.is_recent() };
                    overlaps && may_serve() && page.context.generation == generation && page.serves(cursor)
                }
                (CallStatus::Failed, _) => false,
            }
        };
        alive.find(joins).map(|(_, _, read)| read)
    }

    fn insert(&mut self, start: &ReadStart, read: ShareableRead) {
        let retain = |reads: &mut BTreeMap<_, ShareableRead>| reads.retain(|_, shared| shared.read.strong_count() > 0);
        self.sweep_threshold.before_adding(&mut self.by_start, BTreeMap::len, retain);
        self.by_start.insert(start.key(), read);
    }
}

impl ReadStart {
    fn key(&self) -> StartKey {
        let Self { folding, cursor } = self;
        (folding.clone(), cursor.epoch, cursor.seq, cursor.tag)
    }
}

impl ShareableRead {
    fn is_recent(&self) -> bool {
        self.began.elapsed() < MAX_AGE_OF_FOLDED
    }
}

/// A page may be handed out for long, and what was folded ended at the head of that time.
const MAX_AGE_OF_FOLDED: Duration = Duration::from_millis(500);

/// How many starts at or below a position are examined, so that the cost does not grow with their number.
const MAX_CANDIDATES: usize = 16;

impl fmt::Debug for SharedReads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedReads").finish_non_exhaustive()
    }
}

#[cfg(all(test, not(tower_events_loom)))]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::hub::{
        shared_call::Completion,
        shared_page::{
            ReadContext,
            tests::{at, page},
        },
    };

    fn plain(seq: u64) -> ReadStart {
        ReadStart { folding: None, cursor: at(seq) }
    }

    fn limit(events: usize) -> Limit {
        Limit { events, bytes: 1 << 20 }
    }

    #[test]
    fn readers_join_a_read_that_may_reach_them() {
        let reads = SharedReads::default();
        let (first, origin) = reads.share(plain(10), limit(10), Sharing::Overlapping, 1);
        assert_eq!(origin, ReadOrigin::New);
        let joins = |seq, sharing| {
            let (read, origin) = reads.share(plain(seq), limit(10), sharing, 1);
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
        Completion::new(Arc::downgrade(&first)).complete(Ok(Arc::new(page(10, 15))));
        for (seq, expected) in [(10, true), (14, true), (15, false), (16, false)] {
            assert_eq!(joins(seq, Sharing::Overlapping).0, expected, "{seq} of a page that was read");
        }
        assert!(!joins(14, Sharing::SameStart).0);
        let other_history = reads.share(plain(14), limit(10), Sharing::Overlapping, 2).1;
        assert_eq!(other_history, ReadOrigin::New);
        drop(first);
        assert_eq!(reads.share(plain(14), limit(10), Sharing::Overlapping, 1).1, ReadOrigin::New);
    }

    #[test]
    fn a_read_that_will_hold_fewer_entries_than_its_limit_is_not_joined_beyond_them() {
        let full = page(10, 14);
        let position = SharedPage { context: ReadContext { limit: Limit::POSITION, ..full.context }, ..page(10, 14) };
        for (noted, farthest) in [(position, 19), (page(97, 100), 19), (full, 13)] {
            let reads = SharedReads::default();
            reads.note(&noted);
            let (first, _) = reads.share(plain(10), limit(10), Sharing::Overlapping, 1);
            let joins = |seq| Arc::ptr_eq(&reads.share(plain(seq), limit(10), Sharing::Overlapping, 1).0, &first);
            assert_eq!((11..25).rev().find(|seq| joins(*seq)), Some(farthest), "{:?}", noted.next);
        }
    }

    #[test]
    fn finished_reads_are_forgotten() {
        let reads = SharedReads::default();
        for seq in 0..1000 {
            drop(reads.share(plain(seq * 100), limit(10), Sharing::Overlapping, 1));
        }
        assert!(lock(&reads.0).by_start.len() <= 100);
        let (_pending, origin) = reads.share(plain(7), limit(10), Sharing::Overlapping, 1);
        assert_eq!(origin, ReadOrigin::New);
        for seq in 0..1000 {
            drop(reads.share(plain(1000 + seq * 100), limit(10), Sharing::Overlapping, 1));
        }
        let again = reads.share(plain(7), limit(10), Sharing::Overlapping, 1).1;
        assert_eq!(again, ReadOrigin::Existing, "a pending read stays");
    }
}
