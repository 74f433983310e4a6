//! The model of one channel: everything that was appended, and which of it may or must still be retained.

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
    /// The receipt and the event of each key, and the model's time of its append.
    keys: HashMap<String, (Receipt, Event, u64)>,
    /// When the record was created.
    made: u64,
    /// The largest time of the events that `init` dropped at once; a time after the append counts as the time of the append.
    dropped_time: Option<u64>,
    /// The `seq` of the oldest position that the store last returned; it never decreases.
    earliest: u64,
}

/// Whether the store must know a key.
pub(super) enum Known {
    No,
    /// More than its window has passed, but not twice its window: both answers are correct.
    Perhaps,
    /// With this receipt, for this event.
    Yes(Receipt, Event),
}

/// The result that an append must have.
#[derive(Clone, Copy, Debug)]
pub(super) enum Verdict {
    /// It is larger than half of what is kept.
    TooLarge,
    /// The event at this index has a key that identifies another event.
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

    /// Records the times of events that `init` dropped at once, all appended at `stamp`.
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

    /// The log's cursor at `seq`.
    pub(super) fn position(&self, seq: u64) -> Option<Cursor> {
        match seq.checked_sub(self.base.seq)? {
            0 => Some(self.base),
            nth => self.entries.get(nth as usize - 1).map(|(entry, _)| entry.cursor),
        }
    }

    pub(super) fn after(&self, seq: u64) -> impl Iterator<Item = &Entry> {
        self.entries.iter().map(|(entry, _)| entry).filter(move |entry| entry.cursor.seq > seq)
    }

    /// Records the oldest position that the store returned; `None` if the limits do not allow it.
    pub(super) fn note_earliest(&mut self, seen: Cursor, retention: &Retention, now: u64) -> Option<()> {
        let (oldest, newest) = (self.oldest_kept(retention, now, 2), self.oldest_kept(retention, now, 1));
        let allowed = (oldest.max(self.earliest)..=newest).contains(&seen.seq);
        (allowed && self.position(seen.seq) == Some(seen)).then(|| self.earliest = seen.seq)
    }

    /// The `seq` before the oldest entry that is within `times` the limits. Twice the limits include the newest entry whatever
    /// its size, since a store may keep it however large it is, but not whatever its age.
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

    /// Whether the record must still exist, given that the last entry is dropped only because of its age.
    pub(super) fn must_exist(&self, retention: &Retention, now: u64) -> bool {
        let last = self.entries.last().map_or(self.made, |(_, came)| came + millis(retention.age));
        now < last + millis(retention.forget_after)
    }

    /// The outcome of a resume when the oldest position is `earliest`.
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

    /// The outcomes that are allowed for a start at a time when the oldest position is `earliest`. Among the dropped entries, one
    /// that is dated after its append may count with the append's timestamp of a later one.
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
