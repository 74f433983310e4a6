//! How new information changes a ring, and when the store is read on its behalf.

use super::*;
use crate::{channel::Channel, event::Data, store::Reason};

fn at(seq: u64) -> Cursor {
    Cursor { epoch: 1, seq, tag: seq as u32 * 10 }
}

fn open(seq: u64) -> Head {
    Head { cursor: at(seq), closed: false }
}

fn closed(seq: u64) -> Head {
    Head { closed: true, ..open(seq) }
}

fn other_epoch(seq: u64) -> Head {
    Head { cursor: Cursor { epoch: 2, ..at(seq) }, closed: false }
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

/// A page of the entries `from + 1` to `to`, which is the head.
fn page(from: u64, to: u64) -> Page {
    let entries = (from + 1..=to).map(entry).collect();
    Page { outcome: Outcome::Continued, from: at(from), entries, next: at(to), head: open(to) }
}

/// A ring of the entries 3 to 5.
fn ring() -> RingState {
    let mut ring = RingState::new(1 << 20);
    let changes = [ring.anchor(open(2)), ring.feed(&[3, 4, 5].map(entry), None)];
    assert_eq!(changes, [RingChange::Changed; 2]);
    ring
}

#[test]
fn the_first_head_anchors_a_ring() {
    for anchor in [RingState::anchor, RingState::confirm_head] {
        let mut ring = RingState::new(1 << 20);
        assert_eq!((ring.hint_head(open(2)), ring.bytes()), (RingChange::Gap, 0), "a hint does not");
        assert_eq!((anchor(&mut ring, open(2)), ring.head()), (RingChange::Changed, Some(open(2))));
    }
}

#[test]
fn a_head_is_news_unless_it_is_the_rings_or_older_in_its_epoch() {
    let foreign = Head { cursor: Cursor { tag: 1, ..at(5) }, closed: false };
    let table = [
        (open(5), RingChange::Unchanged),
        (open(4), RingChange::Unchanged),
        (closed(4), RingChange::Unchanged),
        (open(6), RingChange::Gap),
        (closed(5), RingChange::Gap),
        (foreign, RingChange::Gap),
        (other_epoch(4), RingChange::Gap),
        (other_epoch(6), RingChange::Gap),
    ];
    for (head, expected) in table {
        let mut ring = ring();
        assert_eq!([ring.hint_head(head), ring.anchor(head)], [expected; 2], "{head:?}");
    }
}

#[test]
fn of_heads_that_come_with_entries_only_a_closed_one_has_to_be_the_rings() {
    let mut ring = ring();
    let table = [
        (4, open(4), RingChange::Unchanged),
        (6, open(6), RingChange::Changed),
        (7, closed(7), RingChange::Changed),
        (7, closed(7), RingChange::Unchanged),
        (6, closed(6), RingChange::Gap),
    ];
    for (seq, head, expected) in table {
        assert_eq!(ring.feed(&[entry(seq)], Some(head)), expected, "{head:?}");
    }
    assert_eq!(ring.head(), Some(closed(7)));
}

#[test]
fn readers_parked_behind_the_ring_are_woken_once_by_a_comparison() {
    let table = [
        (at(1), RingChange::Changed),
        (other_epoch(9).cursor, RingChange::Changed),
        (Cursor { tag: 1, ..at(5) }, RingChange::Unchanged),
        (at(7), RingChange::Unchanged),
    ];
    for (position, expected) in table {
        let mut ring = ring();
        ring.park_outside_ring(position);
        let changes = [ring.confirm_head(open(5)), ring.confirm_head(open(5))];
        assert_eq!(changes, [expected, RingChange::Unchanged], "{position:?}");
    }
}

#[test]
fn data_is_newly_unreadable_after_it_was_read() {
    let reads: [fn(&mut RingState) -> RingChange; 2] =
        [|ring| ring.confirm_head(open(5)), |ring| ring.apply_read(&page(5, 5))];
    for read in reads {
        let mut ring = ring();
        assert_eq!([ring.mark_unreadable(), ring.mark_unreadable()], [true, false]);
        assert_eq!(read(&mut ring), RingChange::Unchanged);
        assert!(ring.mark_unreadable());
    }
}

#[test]
fn a_read_that_does_not_lead_from_the_rings_head_to_the_stores_restarts_the_ring() {
    let trimmed = |page| Page { outcome: Outcome::Reset(Reason::Trimmed), ..page };
    let ahead = |page| Page { outcome: Outcome::Reset(Reason::Ahead), ..page };
    let table = [
        ("what follows", page(5, 7), RingChange::Changed, open(7), true),
        ("what was fed meanwhile, and more", page(3, 7), RingChange::Changed, open(7), true),
        ("what follows, and the close", Page { head: closed(7), ..page(5, 7) }, RingChange::Changed, closed(7), true),
        ("the close", Page { head: closed(5), ..page(5, 5) }, RingChange::Changed, closed(5), true),
        ("nothing", page(5, 5), RingChange::Unchanged, open(5), true),
        ("an outdated page", page(2, 4), RingChange::Unchanged, open(5), true),
        ("less than all", Page { head: open(9), ..page(5, 7) }, RingChange::Changed, open(9), false),
        ("what is left after a gap", trimmed(page(7, 9)), RingChange::Changed, open(9), false),
        ("a log that lost its tail", ahead(page(2, 4)), RingChange::Changed, open(4), false),
    ];
    for (what, page, expected, head, holds_oldest) in table {
        let mut ring = ring();
        assert_eq!((ring.apply_read(&page), ring.head()), (expected, Some(head)), "{what}");
        assert_eq!(ring.holds(at(2)), holds_oldest, "{what}");
    }
}

#[test]
fn one_caller_at_a_time_advances_a_ring_that_misses_something() {
    use Advance::{Needed, NotNeeded};
    let mut unanchored = RingState::new(1 << 20);
    assert_eq!(unanchored.invalidate(), RingChange::Gap);
    assert_eq!((unanchored.advance(), unanchored.claim_advance()), (NotNeeded, NotNeeded));

    let mut ring = ring();
    assert_eq!((ring.advance(), ring.claim_advance()), (NotNeeded, NotNeeded), "nothing is missing");
    ring.invalidate();
    assert_eq!((ring.advance(), ring.claim_advance()), (Needed, Needed));
    assert_eq!([ring.next_advance(), ring.next_advance()], [Some(at(5)), None], "nothing new came");

    ring.invalidate();
    assert_eq!((ring.claim_advance(), ring.next_advance()), (Needed, Some(at(5))));
    ring.invalidate();
    assert_eq!((ring.advance(), ring.claim_advance()), (NotNeeded, NotNeeded), "claimed");
    assert_eq!([ring.next_advance(), ring.next_advance()], [Some(at(5)), None]);

    ring.invalidate();
    assert_eq!(ring.claim_advance(), Needed);
    ring.abandon_advance();
    assert_eq!((ring.advance(), ring.claim_advance(), ring.next_advance()), (Needed, Needed, Some(at(5))));
}

#[test]
fn what_was_missing_and_has_come_need_not_be_read() {
    let feed = |ring: &mut RingState, seq| ring.feed(&[entry(seq)], Some(open(seq)));
    let close = |ring: &mut RingState, seq| ring.feed(&[entry(seq)], Some(closed(seq)));
    type Step<'a> = &'a dyn Fn(&mut RingState) -> RingChange;
    let table: [(&str, &[Step<'_>], Advance); 10] = [
        ("an append that was answered before the one that it follows", &[&|ring| feed(ring, 7)], Advance::Needed),
        ("one of two entries", &[&|ring| feed(ring, 7), &|ring| feed(ring, 6)], Advance::Needed),
        ("both", &[&|ring| feed(ring, 7), &|ring| feed(ring, 6), &|ring| feed(ring, 7)], Advance::NotNeeded),
        ("more", &[&|ring| feed(ring, 7), &|ring| ring.feed(&[6, 7, 8].map(entry), None)], Advance::NotNeeded),
        (
            "the lower of two",
            &[&|ring| feed(ring, 8), &|ring| feed(ring, 7), &|ring| ring.feed(&[6, 7].map(entry), None)],
            Advance::Needed,
        ),
        ("a hint's head", &[&|ring| ring.hint_head(open(6)), &|ring| feed(ring, 6)], Advance::NotNeeded),
        (
            "an end that has not come",
            &[&|ring| close(ring, 7), &|ring| ring.feed(&[6, 7].map(entry), None)],
            Advance::Needed,
        ),
        ("an end", &[&|ring| close(ring, 7), &|ring| feed(ring, 6), &|ring| close(ring, 7)], Advance::NotNeeded),
        (
            "another history",
            &[&|ring| ring.hint_head(Head { cursor: Cursor { tag: 1, ..at(6) }, closed: false }), &|ring| {
                feed(ring, 6)
            }],
            Advance::Needed,
        ),
        (
            "two histories",
            &[&|ring| ring.hint_head(other_epoch(1)), &|ring| feed(ring, 7), &|ring| {
                ring.feed(&[6, 7].map(entry), None)
            }],
            Advance::Needed,
        ),
    ];
    for (what, steps, expected) in table {
        let mut ring = ring();
        for step in steps {
            step(&mut ring);
        }
        assert_eq!(ring.advance(), expected, "{what}");
    }
    for read in [page(5, 7), page(5, 8)] {
        let mut ring = ring();
        feed(&mut ring, 7);
        ring.apply_read(&read);
        assert_eq!(ring.advance(), Advance::NotNeeded);
    }
}
