//! Decisions that all stores share: outcomes of resumes, tags and epochs. Pure, except for random draws.

use std::{
    cell::RefCell,
    hash::{BuildHasher, RandomState},
    time::SystemTime,
};

use fastrand::Rng;

use super::page::{Head, Outcome, Reason};
use crate::{
    channel::Channel,
    cursor::{Cursor, epoch_of},
};

/// What a store knows about a channel at the moment of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Record {
    /// The newest position.
    pub head: Head,
    /// The position just before the oldest retained entry; the head's cursor when no entry is retained.
    pub earliest: Cursor,
    /// The largest time of an entry that retention dropped, in Unix milliseconds, as [`dropped_time`] counts it.
    pub dropped_time: Option<u64>,
}

impl Record {
    /// The record of a channel with this head, whose oldest retained entry follows `earliest`, and of which no entry was
    /// dropped yet.
    #[must_use]
    pub fn new(head: Head, earliest: Cursor) -> Self {
        Self { head, earliest, dropped_time: None }
    }

    /// Sets the largest time of a dropped entry, in Unix milliseconds, as [`dropped_time`] counts it.
    #[must_use]
    pub fn dropped(self, time: Option<u64>) -> Self {
        Self { dropped_time: time, ..self }
    }

    /// The record of a channel that does not exist, in a place with this epoch and floor.
    #[must_use]
    pub fn absent(place_epoch: u64, floor: u64, channel: &Channel) -> Self {
        let cursor = Cursor { epoch: epoch_of(place_epoch, channel), seq: floor, tag: 0 };
        Self { head: Head { cursor, closed: false }, earliest: cursor, dropped_time: None }
    }
}

/// The outcome of a resume from `cursor`. `tag_at` returns the tag of the retained entry at a `seq` strictly between
/// `record.earliest` and the head; it is called at most once.
pub fn outcome(record: &Record, cursor: Cursor, tag_at: impl FnOnce(u64) -> Option<u32>) -> Outcome {
    let (head, earliest) = (record.head.cursor, record.earliest);
    let tag = match cursor {
        Cursor { epoch, .. } if epoch != head.epoch => return Outcome::Reset(Reason::EpochChanged),
        Cursor { seq, .. } if seq > head.seq => return Outcome::Reset(Reason::Ahead),
        Cursor { seq, .. } if seq < earliest.seq => return Outcome::Reset(Reason::Trimmed),
        Cursor { seq, .. } if seq == head.seq => Some(head.tag),
        Cursor { seq, .. } if seq == earliest.seq => Some(earliest.tag),
        Cursor { seq, .. } => tag_at(seq),
    };
    if tag == Some(cursor.tag) { Outcome::Continued } else { Outcome::Reset(Reason::EpochChanged) }
}

/// The time that an entry counts with once it is dropped: at most the timestamp of its append, because a start from a later time
/// asks for nothing that had been appended by then. A store that knows only the largest time and the largest timestamp of
/// the entries that it dropped may use the smaller of the two.
#[must_use]
pub fn dropped_time(time: u64, appended: u64) -> u64 {
    time.min(appended)
}

/// The outcome of a start from `time`: `Trimmed` if an entry with a larger time was dropped.
#[must_use]
pub fn outcome_of_time(record: &Record, time: u64) -> Outcome {
    match record.dropped_time {
        Some(dropped) if dropped > time => Outcome::Reset(Reason::Trimmed),
        _ => Outcome::Continued,
    }
}

/// The tag of a new entry: 32 random bits, never 0.
#[must_use]
pub fn fresh_tag() -> u32 {
    draw(tag)
}

/// The epoch of a new place, or of a log that replaces another: 64 bits from the system's entropy.
#[must_use]
pub fn fresh_epoch() -> u64 {
    from_system()
}

/// Draws the tags of one log. Unlike [`fresh_tag`] it does not query the process id for each tag, which takes longer than an
/// append to memory; so it is not for a log that a forked process shares.
#[derive(Debug, Default)]
pub(crate) struct Tags(Option<Rng>);

impl Tags {
    /// 32 random bits, never 0.
    pub(crate) fn draw(&mut self) -> u32 {
        tag(self.0.get_or_insert_with(|| draw(Rng::fork)))
    }
}

fn tag(random: &mut Rng) -> u32 {
    random.u32(1..)
}

/// Draws from this thread's generator. A forked process would inherit the generator's state and draw the same numbers as its
/// parent, so the generator is seeded again in each process.
pub(crate) fn draw<T>(draw: impl FnOnce(&mut Rng) -> T) -> T {
    thread_local! {
        static RANDOM: RefCell<Option<(u32, Rng)>> = const { RefCell::new(None) };
    }
    RANDOM.with_borrow_mut(|random| {
        let process = std::process::id();
        match random {
            Some((seeded, random)) if *seeded == process => draw(random),
            none => draw(&mut none.insert((process, Rng::with_seed(from_system()))).1),
        }
    })
}

/// 64 bits from the system's entropy.
fn from_system() -> u64 {
    getrandom::u64().unwrap_or_else(|_| {
        // Without entropy from the system: everything that is likely to differ.
        RandomState::new().hash_one((SystemTime::now(), std::process::id(), fastrand::u64(..)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const EPOCH: u64 = 7;

    fn at(seq: u64, tag: u32) -> Cursor {
        Cursor { epoch: EPOCH, seq, tag }
    }

    /// Entries 4 to 9, the tag of each is ten times its seq; 3 was trimmed.
    fn decide(cursor: Cursor) -> Outcome {
        let record =
            Record { head: Head { cursor: at(9, 90), closed: false }, earliest: at(3, 30), dropped_time: Some(5) };
        outcome(&record, cursor, |seq| {
            assert!((4..9).contains(&seq));
            Some(seq as u32 * 10)
        })
    }

    #[test]
    fn a_resume_continues_only_on_proof() {
        use {Outcome::*, Reason::*};
        let table = [
            (at(9, 90), Continued),
            (at(9, 91), Reset(EpochChanged)),
            (at(5, 50), Continued),
            (at(5, 51), Reset(EpochChanged)),
            (at(3, 30), Continued),
            (at(3, 31), Reset(EpochChanged)),
            (at(2, 20), Reset(Trimmed)),
            (at(10, 100), Reset(Ahead)),
            (at(u64::MAX, 0), Reset(Ahead)),
            (Cursor { epoch: 8, ..at(5, 50) }, Reset(EpochChanged)),
            (Cursor { epoch: 8, ..at(99, 0) }, Reset(EpochChanged)),
        ];
        for (cursor, expected) in table {
            assert_eq!(decide(cursor), expected, "{cursor:?}");
        }
    }

    #[test]
    fn an_absent_channel_continues_until_the_floor_moves() {
        let channel = Channel::new("a").unwrap();
        let before = Record::absent(1, 5, &channel);
        let cursor = Cursor { epoch: epoch_of(1, &channel), seq: 5, tag: 0 };
        assert_eq!(before, Record { head: Head { cursor, closed: false }, earliest: cursor, dropped_time: None });
        let none = |_| None;
        assert_eq!(outcome(&before, before.head.cursor, none), Outcome::Continued);
        let moved = Record::absent(1, 6, &channel);
        assert_eq!(outcome(&moved, before.head.cursor, none), Outcome::Reset(Reason::Trimmed));
        let other = Record::absent(1, 5, &Channel::new("b").unwrap());
        assert_eq!(outcome(&other, before.head.cursor, none), Outcome::Reset(Reason::EpochChanged));
    }

    #[test]
    fn a_time_is_trimmed_when_a_newer_entry_was_dropped() {
        let record = Record { dropped_time: Some(5), ..Record::absent(1, 0, &Channel::new("a").unwrap()) };
        assert_eq!(outcome_of_time(&record, 4), Outcome::Reset(Reason::Trimmed));
        assert_eq!(outcome_of_time(&record, 5), Outcome::Continued);
        assert_eq!((dropped_time(5, 9), dropped_time(u64::MAX, 9)), (5, 9));
    }
}
