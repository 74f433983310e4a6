//! The recent entries of one channel. Pure: positions and entries in, entries out; locks and wakers belong to the topic.

use std::{collections::VecDeque, sync::Arc};

use super::{
    encoded_entry::EncodedEntry,
    entry_run::{EntryRun, take_run},
};
use crate::{
    cursor::Cursor,
    store::{Entry, Head},
};

/// The newest consecutive entries of a channel that this process knows, bounded in bytes.
///
/// Invariant: `base`, the entries' cursors and `head.cursor` are one unbroken history that the store confirmed: an entry is
/// appended only if its predecessor is the head.
#[derive(Debug)]
pub(super) struct Ring {
    /// The position just before the oldest entry.
    base: Cursor,
    entries: VecDeque<Arc<EncodedEntry>>,
    head: Head,
    bytes: usize,
    max_bytes: usize,
    /// Runs for other readers at the same position. A run that a newer entry would extend is removed.
    recent_runs: Vec<Arc<EntryRun>>,
}

/// What the ring knows about a position.
#[derive(Debug)]
pub(super) enum RingLookup {
    /// These entries follow.
    Run(Arc<EntryRun>),
    /// It is the head.
    CaughtUp { closed: bool },
    /// It lies before the oldest entry, in the same epoch.
    BeforeRing,
    /// The ring does not hold it: only the store can tell.
    NotInRing,
}

/// What new information did to the ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RingChange {
    Changed,
    /// It was known already.
    Unchanged,
    /// It does not follow the head: only the store can tell what lies between.
    Gap,
}

impl Ring {
    /// An empty ring at a head that a store read returned.
    pub(super) fn new(head: Head, max_bytes: usize) -> Self {
        Self { base: head.cursor, entries: VecDeque::new(), head, bytes: 0, max_bytes, recent_runs: Vec::new() }
    }

    pub(super) fn head(&self) -> Head {
        self.head
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn lookup(&mut self, position: Cursor) -> RingLookup {
        if position == self.head.cursor {
            return RingLookup::CaughtUp { closed: self.head.closed };
        }
        match self.index_after(position) {
            Some(index) => RingLookup::Run(self.run_from(index)),
            None if position.epoch == self.base.epoch && position.seq < self.base.seq => RingLookup::BeforeRing,
            None => RingLookup::NotInRing,
        }
    }

    pub(super) fn holds(&self, position: Cursor) -> bool {
        self.index_after(position).is_some()
    }

    /// Offers entries that the store assigned, consecutive and in order.
    pub(super) fn feed(&mut self, entries: &[Entry]) -> RingChange {
        let head = self.head.cursor;
        let known = |entry: &&Entry| entry.cursor.epoch == head.epoch && entry.cursor.seq <= head.seq;
        let new = entries.get(entries.iter().take_while(known).count()..).unwrap_or_default();
        match new.first() {
            None => RingChange::Unchanged,
            Some(first) if first.prev() != head => RingChange::Gap,
            Some(_) => {
                new.iter().cloned().for_each(|entry| self.push(entry));
                RingChange::Changed
            }
        }
    }

    /// Records that the channel is closed, if `head` is the ring's. A close lasts as long as its epoch.
    pub(super) fn close(&mut self, head: Head) -> RingChange {
        match head.cursor == self.head.cursor {
            true if head.closed && !self.head.closed => {
                self.head.closed = true;
                RingChange::Changed
            }
            true => RingChange::Unchanged,
            false => RingChange::Gap,
        }
    }

    /// Offers older entries, newest first: those that lead up to the oldest one are taken while there is room.
    pub(super) fn backfill<'a>(&mut self, newest_first: impl Iterator<Item = &'a Arc<EncodedEntry>>) {
        let base = self.base;
        let is_newer = |encoded: &&Arc<EncodedEntry>| encoded.entry().cursor.seq > base.seq;
        for encoded in newest_first.skip_while(is_newer) {
            let entry = encoded.entry();
            if entry.cursor != self.base || self.bytes + encoded.size_in_memory() > self.max_bytes {
                return;
            }
            self.base = entry.prev();
            self.bytes += encoded.size_in_memory();
            self.entries.push_front(encoded.clone());
        }
    }

    fn push(&mut self, entry: Entry) {
        // A run that ended at the head would now be longer; the others stay as they are.
        let old_head = self.head.cursor;
        self.recent_runs.retain(|run| run.next() != old_head);
        self.head.cursor = entry.cursor;
        let encoded = EncodedEntry::new(entry);
        self.bytes += encoded.size_in_memory();
        self.entries.push_back(encoded);
        while self.bytes > self.max_bytes && self.entries.len() > 1 {
            self.evict();
        }
    }

    fn evict(&mut self) {
        if let Some(encoded) = self.entries.pop_front() {
            self.base = encoded.entry().cursor;
            self.bytes -= encoded.size_in_memory();
        }
    }

    /// Index of the entry after `position`, if the ring holds exactly that position.
    fn index_after(&self, position: Cursor) -> Option<usize> {
        if position == self.base {
            return Some(0);
        }
        let index = usize::try_from(position.seq.checked_sub(self.base.seq)?.checked_sub(1)?).ok()?;
        let held = self.entries.get(index)?.entry().cursor;
        (held == position).then_some(index + 1)
    }

    fn run_from(&mut self, index: usize) -> Arc<EntryRun> {
        let first = self.entries.get(index);
        let starts_there = |run: &&Arc<EntryRun>| match (run.encoded_entries().first(), first) {
            (Some(start), Some(first)) => Arc::ptr_eq(start, first),
            _ => false,
        };
        if let Some(run) = self.recent_runs.iter().find(starts_there) {
            return run.clone();
        }
        let entries = take_run(self.entries.iter().skip(index));
        let next = entries.last().map_or(self.head.cursor, |encoded| encoded.entry().cursor);
        let run = EntryRun::new(entries, next);
        if self.recent_runs.len() == MAX_RECENT_RUNS {
            self.recent_runs.remove(0);
        }
        self.recent_runs.push(run.clone());
        run
    }
}

const MAX_RECENT_RUNS: usize = 8;

#[cfg(test)]
mod tests {
    use super::{super::entry_run::MAX_RUN_BYTES, *};
    use crate::{channel::Channel, event::Data};

    fn at(seq: u64) -> Cursor {
        Cursor { epoch: 1, seq, tag: seq as u32 * 10 }
    }

    fn entry(seq: u64) -> Entry {
        Entry {
            channel: Channel::new("a").unwrap(),
            cursor: at(seq),
            prev_tag: at(seq - 1).tag,
            appended: 0,
            time: 0,
            name: None,
            data: Data::text("x"),
        }
    }

    fn ring(seqs: std::ops::RangeInclusive<u64>) -> Ring {
        let mut ring = Ring::new(Head { cursor: at(seqs.start() - 1), closed: false }, 1 << 20);
        assert_eq!(ring.feed(&seqs.map(entry).collect::<Vec<_>>()), RingChange::Changed);
        ring
    }

    fn seqs(lookup: RingLookup) -> Vec<u64> {
        match lookup {
            RingLookup::Run(run) => run.encoded_entries().iter().map(|encoded| encoded.entry().cursor.seq).collect(),
            RingLookup::CaughtUp { .. } => vec![],
            RingLookup::BeforeRing | RingLookup::NotInRing => vec![u64::MAX],
        }
    }

    #[test]
    fn only_positions_in_the_ring_are_answered() {
        let mut ring = ring(4..=6);
        let not_held = vec![u64::MAX];
        let table = [
            (at(3), vec![4, 5, 6]),
            (at(5), vec![6]),
            (at(6), vec![]),
            (at(2), not_held.clone()),
            (at(7), not_held.clone()),
            (Cursor { tag: 1, ..at(5) }, not_held.clone()),
            (Cursor { tag: 1, ..at(6) }, not_held.clone()),
            (Cursor { tag: 1, ..at(3) }, not_held.clone()),
            (Cursor { epoch: 2, ..at(5) }, not_held),
        ];
        for (position, expected) in table {
            assert_eq!(seqs(ring.lookup(position)), expected, "{position:?}");
        }
    }

    #[test]
    fn only_entries_that_follow_the_head_are_appended() {
        let mut ring = ring(1..=3);
        assert_eq!(ring.feed(&[entry(2), entry(3)]), RingChange::Unchanged);
        assert_eq!(ring.feed(&[entry(5)]), RingChange::Gap);
        assert_eq!(ring.feed(&[Entry { prev_tag: 1, ..entry(4) }]), RingChange::Gap);
        assert_eq!(ring.feed(&[entry(3), entry(4), entry(5)]), RingChange::Changed);
        assert_eq!(seqs(ring.lookup(at(3))), [4, 5]);
        let foreign = Entry { cursor: Cursor { epoch: 2, ..at(1) }, ..entry(1) };
        assert_eq!(ring.feed(&[foreign]), RingChange::Gap);
    }

    #[test]
    fn older_positions_differ_from_those_of_another_history() {
        let mut ring = ring(4..=6);
        let foreign = |seq| Cursor { tag: 1, ..at(seq) };
        let other_epoch = |seq| Cursor { epoch: 2, ..at(seq) };
        for position in [at(2), at(0), foreign(2)] {
            assert!(matches!(ring.lookup(position), RingLookup::BeforeRing), "{position:?}");
        }
        for position in [foreign(3), foreign(4), foreign(6), at(7), other_epoch(2), other_epoch(5)] {
            assert!(matches!(ring.lookup(position), RingLookup::NotInRing), "{position:?}");
        }
        assert!([3, 4, 5, 6].into_iter().all(|seq| ring.holds(at(seq))));
        assert!(![at(2), foreign(5), at(7), other_epoch(5)].into_iter().any(|position| ring.holds(position)));
    }

    #[test]
    fn the_oldest_entries_are_dropped_above_the_bound() {
        let mut ring =
            Ring::new(Head { cursor: at(0), closed: false }, 3 * EncodedEntry::new(entry(1)).size_in_memory());
        ring.feed(&(1..=9).map(entry).collect::<Vec<_>>());
        assert_eq!(seqs(ring.lookup(at(6))), [7, 8, 9]);
        assert_eq!(seqs(ring.lookup(at(5))), [u64::MAX]);
        assert!(ring.bytes() <= 3 * EncodedEntry::new(entry(1)).size_in_memory());
    }

    #[test]
    fn older_entries_that_lead_up_to_the_oldest_are_taken() {
        let entries: Vec<_> = (1..=6).map(|seq| EncodedEntry::new(entry(seq))).collect();
        let foreign = EncodedEntry::new(Entry { cursor: Cursor { tag: 1, ..at(3) }, ..entry(3) });
        let other_epoch = EncodedEntry::new(Entry { cursor: Cursor { epoch: 2, ..at(3) }, ..entry(3) });
        let table = [
            (entries.clone(), at(0), vec![1, 2, 3, 4, 5, 6]),
            (entries[1..4].to_vec(), at(1), vec![2, 3, 4, 5, 6]),
            (entries[..2].to_vec(), at(3), vec![4, 5, 6]),
            (vec![entries[1].clone(), foreign], at(3), vec![4, 5, 6]),
            (vec![other_epoch], at(3), vec![4, 5, 6]),
        ];
        for (older, oldest, expected) in table {
            let mut ring = ring(4..=6);
            ring.backfill(older.iter().rev());
            assert_eq!(ring.base, oldest);
            assert_eq!(seqs(ring.lookup(oldest)), expected);
        }
        let mut full = ring(4..=6);
        full.max_bytes = 5 * EncodedEntry::new(entry(1)).size_in_memory();
        full.backfill(entries.iter().rev());
        assert_eq!((full.base, full.bytes()), (at(1), 5 * EncodedEntry::new(entry(1)).size_in_memory()));
        full.feed(&[entry(7)]);
        assert_eq!((full.base, full.bytes()), (at(2), 5 * EncodedEntry::new(entry(1)).size_in_memory()));
    }

    #[test]
    fn a_run_that_cannot_grow_is_kept_when_entries_come() {
        let mut ring = ring(1..=2000);
        let run = |ring: &mut Ring, position| match ring.lookup(position) {
            RingLookup::Run(run) => run,
            _ => panic!("nothing follows {position:?}"),
        };
        let (full, last) = (run(&mut ring, at(0)), run(&mut ring, at(1999)));
        ring.feed(&[entry(2001)]);
        assert!(Arc::ptr_eq(&full, &run(&mut ring, at(0))));
        assert_eq!((last.next(), run(&mut ring, at(1999)).next()), (at(2000), at(2001)));
    }

    #[test]
    fn of_too_many_recent_runs_the_oldest_is_dropped() {
        let mut ring = ring(1..=20);
        let run = |ring: &mut Ring, seq| match ring.lookup(at(seq)) {
            RingLookup::Run(run) => run,
            _ => panic!("nothing follows {seq}"),
        };
        let runs: Vec<_> = (0..=MAX_RECENT_RUNS as u64).map(|seq| run(&mut ring, seq)).collect();
        assert_eq!(ring.recent_runs.len(), MAX_RECENT_RUNS);
        let is_kept: Vec<_> =
            runs.iter().map(|run| ring.recent_runs.iter().any(|recent| Arc::ptr_eq(run, recent))).collect();
        assert!(!is_kept[0] && is_kept[1..].iter().all(|kept| *kept), "{is_kept:?}");
    }

    #[test]
    fn a_close_changes_the_ring_once_and_only_at_its_head() {
        let mut ring = ring(1..=3);
        let closed = |seq| Head { cursor: at(seq), closed: true };
        let table = [
            (closed(2), RingChange::Gap),
            (Head { closed: false, ..closed(3) }, RingChange::Unchanged),
            (closed(3), RingChange::Changed),
            (closed(3), RingChange::Unchanged),
        ];
        for (head, expected) in table {
            assert_eq!(ring.close(head), expected, "{head:?}");
        }
        assert_eq!(ring.head(), closed(3));
    }

    #[test]
    fn a_run_is_shared_and_bounded() {
        let mut ring = ring(1..=2000);
        let (RingLookup::Run(one), RingLookup::Run(two)) = (ring.lookup(at(0)), ring.lookup(at(0))) else { panic!() };
        assert!(Arc::ptr_eq(&one, &two));
        let bytes: usize = one.encoded_entries().iter().map(|encoded| encoded.entry().size()).sum();
        assert!(bytes <= MAX_RUN_BYTES && bytes + one.encoded_entries()[0].entry().size() > MAX_RUN_BYTES);
        assert_eq!(one.next(), one.encoded_entries().last().unwrap().entry().cursor);
    }
}
