//! Filling a page. Pure: it is given what was read.

use std::ops::{Bound, ControlFlow};

use crate::{
    channel::Channel,
    cursor::Cursor,
    store::{
        Entry, Limit, Outcome, Page, Start,
        resume::{self, Record},
    },
};

/// A page that is being filled: decides its outcome, where it starts, which entries belong to it, and where it ends.
///
/// ```
/// use tower_events::{Channel, Cursor, Data, store::{Entry, Head, Limit, Start, resume::Record}};
/// use tower_events::store::kit::PageBuilder;
///
/// let room = Channel::new("room")?;
/// let at = |seq: u64| Cursor { epoch: 7, seq, tag: seq as u32 };
/// let log = [5, 6, 7].map(|seq| Entry::new(room.clone(), at(seq), Data::text("x")).after(seq as u32 - 1));
/// let record = Record::new(Head::open(at(7)), at(4)); // entries up to 4 were dropped
/// let tag_at = |seq: u64| Ok::<_, std::io::Error>(log.iter().find(|entry| entry.cursor.seq == seq).map(|entry| entry.cursor.tag));
///
/// let mut page = PageBuilder::new(&record, Start::After(at(5)), Limit::default(), tag_at)?;
/// let after = page.after().seq;
/// _ = log.into_iter().filter(|entry| entry.cursor.seq > after).try_for_each(|entry| page.take(entry));
/// let page = page.finish();
/// assert_eq!((page.entries.len(), page.next), (2, at(7)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct PageBuilder {
    page: Page,
    limit: Limit,
    /// The size of the entries offered so far.
    bytes: usize,
    /// Only entries with a time above this one belong to the page.
    above: Option<u64>,
    /// Whether an entry that belongs to the page was offered.
    has_first: bool,
    /// Whether an entry that belongs to the page did not fit.
    is_cut: bool,
}

impl PageBuilder {
    /// A page of the channel with this record. `tag_at` returns the tag of the retained entry at a `seq` between
    /// `record.earliest` and the head; it is called at most once.
    ///
    /// # Errors
    /// What `tag_at` fails with.
    pub fn new<E>(
        record: &Record,
        start: Start,
        limit: Limit,
        tag_at: impl FnOnce(u64) -> Result<Option<u32>, E>,
    ) -> Result<Self, E> {
        let (head, earliest) = (record.head.cursor, record.earliest);
        let (outcome, from) = match start {
            Start::Beginning | Start::Earliest => (Outcome::Continued, earliest),
            Start::Latest => (Outcome::Continued, head),
            Start::Last(n) => (Outcome::Continued, position(record, head.seq.saturating_sub(n), tag_at)?),
            Start::Time(time) => (resume::outcome_of_time(record, time), earliest),
            Start::After(cursor) => match outcome_after(record, cursor, tag_at)? {
                Outcome::Continued => (Outcome::Continued, cursor),
                reset => (reset, earliest),
            },
        };
        let above = if let Start::Time(time) = start { Some(time) } else { None };
        let page = Page::new(outcome, from, record.head);
        Ok(Self { page, limit, bytes: 0, above, has_first: false, is_cut: false })
    }

    /// The position after which the store reads entries, in `seq` order, and offers each to [`take`](Self::take).
    #[must_use]
    pub fn after(&self) -> Cursor {
        self.page.from
    }

    /// Takes the next entry, if it belongs to the page and fits. Breaks once nothing more fits; until then, the store offers all
    /// entries up to the head.
    pub fn take(&mut self, entry: Entry) -> ControlFlow<()> {
        if self.above.is_some_and(|time| entry.time <= time) {
            return ControlFlow::Continue(());
        }
        if self.above.is_some() && !self.has_first {
            self.page.from = entry.prev();
            self.page.next = self.page.from;
        }
        self.has_first = true;
        self.bytes += entry.size();
        let taken = self.page.entries.len();
        if taken >= self.limit.events || (taken > 0 && self.bytes > self.limit.bytes) {
            self.is_cut = true;
            return ControlFlow::Break(());
        }
        self.page.next = entry.cursor;
        self.page.entries.push(entry);
        // A start by time looks one entry ahead, to learn whether another one belongs to it.
        if self.above.is_none() && taken + 1 == self.limit.events {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    }

    /// The page. One that starts by time and was not cut ends at the head: the entries that do not belong to it were examined, too.
    #[must_use]
    pub fn finish(self) -> Page {
        let mut page = self.page;
        if self.above.is_some() && !self.is_cut {
            page.next = page.head.cursor;
            if !self.has_first {
                page.from = page.next;
            }
        }
        page
    }
}

/// The outcome of a resume, where looking up the tag may fail.
fn outcome_after<E>(
    record: &Record,
    cursor: Cursor,
    tag_at: impl FnOnce(u64) -> Result<Option<u32>, E>,
) -> Result<Outcome, E> {
    let mut failed = None;
    let outcome = resume::outcome(record, cursor, |seq| {
        tag_at(seq).unwrap_or_else(|error| {
            failed = Some(error);
            None
        })
    });
    failed.map_or(Ok(outcome), Err)
}

/// The position at `seq`, or the earliest one if that is newer.
fn position<E>(record: &Record, seq: u64, tag_at: impl FnOnce(u64) -> Result<Option<u32>, E>) -> Result<Cursor, E> {
    let (head, earliest) = (record.head.cursor, record.earliest);
    Ok(match seq {
        _ if seq >= head.seq => head,
        _ if seq <= earliest.seq => earliest,
        _ => tag_at(seq)?.map_or(earliest, |tag| Cursor { seq, tag, ..head }),
    })
}

/// The outcome of any start, for a store whose server chooses the entries. `tag_at` is as for [`resume::outcome`].
pub fn outcome_of(record: &Record, start: Start, tag_at: impl FnOnce(u64) -> Option<u32>) -> Outcome {
    match start {
        Start::After(cursor) => resume::outcome(record, cursor, tag_at),
        Start::Time(time) => resume::outcome_of_time(record, time),
        Start::Beginning | Start::Earliest | Start::Latest | Start::Last(_) => Outcome::Continued,
    }
}

/// The page of a channel without entries, as one that is [absent](Record::absent) is.
#[must_use]
pub fn empty_page(record: &Record, start: Start) -> Page {
    Page::new(outcome_of(record, start, |_| None), record.head.cursor, record.head)
}

/// Where a listing begins, in the order of the names' bytes: what [`Store::channels`](crate::Store::channels) is asked for. It ends
/// at the first name without the prefix.
///
/// ```
/// use std::{collections::BTreeSet, ops::Bound};
/// use tower_events::{Channel, store::kit::listing_start};
///
/// let names = BTreeSet::from(["log", "room:1", "room:2", "zoo"]);
/// let after = Channel::new("room:1")?;
/// let start = listing_start("room:", Some(&after));
/// let page: Vec<_> = names.range::<str, _>((start, Bound::Unbounded)).take_while(|name| name.starts_with("room:")).collect();
/// assert_eq!(page, [&"room:2"]);
/// # Ok::<(), tower_events::InvalidChannel>(())
/// ```
#[must_use]
pub fn listing_start<'a>(prefix: &'a str, after: Option<&'a Channel>) -> Bound<&'a str> {
    match after.map(Channel::as_str) {
        Some(after) if after >= prefix => Bound::Excluded(after),
        _ => Bound::Included(prefix),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        cursor::epoch_of,
        event::Data,
        store::{Head, Reason},
    };

    fn at(seq: u64) -> Cursor {
        Cursor { epoch: 1, seq, tag: seq as u32 * 10 }
    }

    fn channel() -> Channel {
        Channel::new("a").unwrap()
    }

    /// Entries 4 to 9 of 75 bytes each; the times of 4, 6 and 8 are 4 000, 6 000 and 8 000, those of the others 1. The entries
    /// up to 3 were dropped, one of them with the time 50.
    fn read(start: Start, limit: Limit) -> Page {
        let record = Record::new(Head::closed(at(9)), at(3)).dropped(Some(50));
        let log = (4..=9).map(|seq: u64| {
            let time = if seq % 2 == 0 { seq * 1_000 } else { 1 };
            Entry::new(channel(), at(seq), Data::text("xxxxxxxxxx")).after((seq as u32 - 1) * 10).at(time)
        });
        let tag_at = |seq| {
            assert!((4..9).contains(&seq), "{seq}");
            Ok::<_, ()>(Some(seq as u32 * 10))
        };
        let mut page = PageBuilder::new(&record, start, limit, tag_at).unwrap();
        let after = page.after().seq;
        _ = log.filter(|entry| entry.cursor.seq > after).try_for_each(|entry| page.take(entry));
        page.finish()
    }

    #[test]
    fn a_page_starts_and_ends_where_the_contract_says() {
        use {Outcome::*, Reason::*};
        let (all, two) = (Limit::default(), Limit::default().events(2));
        let trimmed = Reset(Trimmed);
        // Outcome, from, entries, next.
        let table = [
            (Start::Beginning, all, Continued, 3, vec![4, 5, 6, 7, 8, 9], 9),
            (Start::Earliest, two, Continued, 3, vec![4, 5], 5),
            (Start::Latest, all, Continued, 9, vec![], 9),
            (Start::Last(2), all, Continued, 7, vec![8, 9], 9),
            (Start::Last(0), all, Continued, 9, vec![], 9),
            (Start::Last(6), two, Continued, 3, vec![4, 5], 5),
            (Start::Last(u64::MAX), two, Continued, 3, vec![4, 5], 5),
            (Start::After(at(5)), two, Continued, 5, vec![6, 7], 7),
            (Start::After(at(9)), two, Continued, 9, vec![], 9),
            (Start::After(at(3)), two, Continued, 3, vec![4, 5], 5),
            (Start::After(at(2)), two, trimmed, 3, vec![4, 5], 5),
            (Start::After(at(10)), two, Reset(Ahead), 3, vec![4, 5], 5),
            (Start::After(Cursor { tag: 1, ..at(5) }), two, Reset(EpochChanged), 3, vec![4, 5], 5),
            (Start::Earliest, Limit::POSITION, Continued, 3, vec![], 3),
            // A start by time goes on by seq from where it was cut, and else at the head.
            (Start::Time(4_000), all, Continued, 5, vec![6, 8], 9),
            (Start::Time(4_000), two, Continued, 5, vec![6, 8], 9),
            (Start::Time(4_000), all.events(1), Continued, 5, vec![6], 6),
            (Start::Time(4_000), Limit::POSITION, Continued, 5, vec![], 5),
            (Start::Time(8_000), all, Continued, 9, vec![], 9),
            (Start::Time(8_000), Limit::POSITION, Continued, 9, vec![], 9),
            (Start::Time(49), all.events(1), trimmed, 3, vec![4], 4),
            // By bytes: at least one entry.
            (Start::Earliest, all.bytes(150), Continued, 3, vec![4, 5], 5),
            (Start::Earliest, all.bytes(149), Continued, 3, vec![4], 4),
            (Start::Earliest, all.bytes(0), Continued, 3, vec![4], 4),
            (Start::Time(4_000), all.bytes(0), Continued, 5, vec![6], 6),
        ];
        for (start, limit, outcome, from, entries, next) in table {
            let page = read(start, limit);
            let seqs: Vec<_> = page.entries.iter().map(|entry| entry.cursor.seq).collect();
            let what = format!("{start:?} {limit:?}");
            assert_eq!((page.outcome, page.from, seqs), (outcome, at(from), entries), "{what}");
            assert_eq!((page.next, page.head), (at(next), Head::closed(at(9))), "{what}");
        }
    }

    #[test]
    fn a_failed_lookup_fails_the_page() {
        let record = Record::new(Head::open(at(9)), at(3));
        for start in [Start::After(at(5)), Start::Last(2)] {
            assert_eq!(PageBuilder::new(&record, start, Limit::default(), |_| Err(7)).err(), Some(7));
        }
        assert!(PageBuilder::new(&record, Start::Latest, Limit::default(), |_| Err(7)).is_ok());
        // An entry that is not there proves nothing.
        let page = PageBuilder::new(&record, Start::After(at(5)), Limit::default(), |_| Ok::<_, ()>(None)).unwrap();
        assert_eq!(page.finish().outcome, Outcome::Reset(Reason::EpochChanged));
    }

    #[test]
    fn an_absent_channel_reads_as_an_empty_one() {
        let record = Record::absent(1, 5, &channel());
        let head = Cursor { epoch: epoch_of(1, &channel()), seq: 5, tag: 0 };
        for (start, outcome) in [
            (Start::Beginning, Outcome::Continued),
            (Start::Time(0), Outcome::Continued),
            (Start::After(head), Outcome::Continued),
            (Start::After(Cursor { seq: 4, ..head }), Outcome::Reset(Reason::Trimmed)),
        ] {
            let page = empty_page(&record, start);
            assert_eq!(
                (page.outcome, page.from, page.next, page.head.cursor),
                (outcome, head, head, head),
                "{start:?}"
            );
            let built = PageBuilder::new(&record, start, Limit::default(), |_| Ok::<_, ()>(None)).unwrap().finish();
            assert_eq!((built.outcome, built.from, built.next), (page.outcome, page.from, page.next), "{start:?}");
        }
    }

    #[test]
    fn a_listing_goes_on_after_a_name_with_the_prefix_and_else_begins_with_the_prefix() {
        let of = |prefix, after: &str| {
            let after = Channel::new(after).unwrap();
            match listing_start(prefix, Some(&after)) {
                Bound::Excluded(name) => format!("after {name}"),
                Bound::Included(name) => format!("from {name}"),
                Bound::Unbounded => String::new(),
            }
        };
        assert_eq!(listing_start("b", None), Bound::Included("b"));
        assert_eq!(
            [of("b", "a"), of("b", "b"), of("b", "bc"), of("b", "c")],
            ["from b", "after b", "after bc", "after c"]
        );
    }
}
