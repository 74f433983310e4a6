//! One channel as the contract has it: everything ever appended, and which of it may or must still be there.

use std::collections::HashMap;

use crate::{
    cursor::Cursor,
    event::Event,
    store::{Entry, Head, Outcome, Reason, Receipt, Retention},
};

/// A log that never drops anything. Time is the model's own, in milliseconds.
pub(super) struct ModelLog {
    /// Where the log began.
    pub(super) base: Cursor,
    /// All entries, each with the model's time of its append.
    pub(super) entries: Vec<(Entry, u64)>,
    pub(super) closed: bool,
    /// The receipt and the event of each key, and when it came.
    keys: HashMap<String, (Receipt, Event, u64)>,
    /// When the record was made.
    made: u64,
    /// The largest time of what `init` dropped before it was seen, none above the stamp.
    dropped_time: Option<u64>,
    /// The latest oldest position that was seen: it never goes back.
    earliest: u64,
}

/// What may be said of a key.
pub(super) enum Known {
    No,
    /// Its window is over, but not for long: both answers are right.
    Perhaps,
    /// As what, and for which event.
    Yes(Receipt, Event),
}

/// What must become of an append.
#[derive(Clone, Copy, Debug)]
pub(super) enum Verdict {
    /// It is more than half of what is kept.
    TooLarge,
    /// The event at this index has a key that stands for another one.
    Reused(usize),
    Closed,
    Conflict,
    Changes,
    ChangesNothing,
}

impl ModelLog {
    pub(super) fn new(base: Cursor, now: u64) -> Self {
        Self {
            base,
            entries: Vec::new(),
            closed: false,
            keys: HashMap::new(),
            made: now,
            dropped_time: None,
            earliest: base.seq,
        }
    }

    pub(super) fn head(&self) -> Head {
        let cursor = self.entries.last().map_or(self.base, |(last, _)| last.cursor);
        Head { cursor, closed: self.closed }
    }

    /// Entries that were gone before they were seen, all appended at `stamp`.
    pub(super) fn dropped(&mut self, times: impl Iterator<Item = Option<u64>>, stamp: u64) {
        self.dropped_time = times.map(|time| time.unwrap_or(stamp).min(stamp)).max();
    }

    pub(super) fn remember(&mut self, key: &str, receipt: Receipt, event: &Event, now: u64) {
        self.keys.insert(key.to_owned(), (Receipt { duplicate: true, ..receipt }, event.clone(), now));
    }

    pub(super) fn key(&self, key: &str, retention: &Retention, now: u64) -> Known {
        let window = millis(retention.key_window);
        match self.keys.get(key) {
            Some((receipt, event, came)) if now - came < window => Known::Yes(*receipt, event.clone()),
            Some((.., came)) if now - came <= 2 * window => Known::Perhaps,
            _ => Known::No,
        }
    }

    /// The true position at `seq`.
    pub(super) fn position(&self, seq: u64) -> Option<Cursor> {
        match seq.checked_sub(self.base.seq)? {
            0 => Some(self.base),
            nth => self.entries.get(nth as usize - 1).map(|(entry, _)| entry.cursor),
        }
    }

    pub(super) fn after(&self, seq: u64) -> impl Iterator<Item = &Entry> {
        self.entries.iter().map(|(entry, _)| entry).filter(move |entry| entry.cursor.seq > seq)
    }

    /// Takes note of the oldest position that the store says it has; `None` when it may not be that.
    pub(super) fn note_earliest(&mut self, seen: Cursor, retention: &Retention, now: u64) -> Option<()> {
        let (oldest, newest) = (self.oldest_kept(retention, now, 2), self.oldest_kept(retention, now, 1));
        let allowed = (oldest.max(self.earliest)..=newest).contains(&seen.seq);
        (allowed && self.position(seen.seq) == Some(seen)).then(|| self.earliest = seen.seq)
    }

    /// The position before the oldest entry that is within `times` the limits. Twice the limits always hold the newest,
    /// which a store may keep however large it is, but not however old.
    fn oldest_kept(&self, retention: &Retention, now: u64, times: u64) -> u64 {
        let (mut count, mut bytes) = (0, 0);
        let kept = self.entries.iter().rev().take_while(|(entry, came)| {
            count += 1;
            bytes += entry.size() as u64;
            let small = bytes <= times * retention.bytes || (times > 1 && count == 1);
            let young = if times > 1 {
                now - came <= times * millis(retention.age)
            } else {
                now - came < millis(retention.age)
            };
            count <= times * retention.events && small && young
        });
        self.head().cursor.seq - kept.count() as u64
    }

    /// Whether the record must still be there: its last entry may only have gone when it was too old.
    pub(super) fn must_exist(&self, retention: &Retention, now: u64) -> bool {
        let last = self.entries.last().map_or(self.made, |(_, came)| came + millis(retention.age));
        now < last + millis(retention.forget_after)
    }

    /// How a resume ends when the oldest position is `earliest`.
    pub(super) fn outcome(&self, cursor: Cursor, earliest: u64) -> Outcome {
        let head = self.head().cursor;
        if cursor.epoch != head.epoch {
            Outcome::Reset(Reason::EpochChanged)
        } else if cursor.seq > head.seq {
            Outcome::Reset(Reason::Ahead)
        } else if cursor.seq < earliest {
            Outcome::Reset(Reason::Trimmed)
        } else if self.position(cursor.seq) == Some(cursor) {
            Outcome::Continued
        } else {
            Outcome::Reset(Reason::EpochChanged)
        }
    }

    /// How a start by time may end when the oldest position is `earliest`: of those that were dropped, one that was dated
    /// ahead may count with the stamp of a later one.
    pub(super) fn outcomes_of_time(&self, time: u64, earliest: u64) -> &'static [Outcome] {
        let lost = || self.entries.iter().map(|(entry, _)| entry).filter(|entry| entry.cursor.seq <= earliest);
        let before = self.dropped_time.is_some_and(|dropped| dropped > time);
        if before || lost().any(|entry| entry.time > time && entry.appended > time) {
            &[Outcome::Reset(Reason::Trimmed)]
        } else if lost().any(|entry| entry.time > time) && lost().any(|entry| entry.appended > time) {
            &[Outcome::Reset(Reason::Trimmed), Outcome::Continued]
        } else {
            &[Outcome::Continued]
        }
    }
}

pub(super) fn millis(duration: std::time::Duration) -> u64 {
    duration.as_millis() as u64
}
