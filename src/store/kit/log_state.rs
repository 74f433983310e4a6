//! What retention has to know of a log.

use super::keep::Keep;
use crate::{
    cursor::Cursor,
    store::{
        Entry, Head,
        resume::{self, Record},
    },
};

/// The record of a channel, and what retention has to know of its log, for a store that keeps entries one by one. It is stored
/// with the channel.
///
/// ```
/// use std::time::Duration;
/// use tower_events::{Channel, Cursor, Event, Retention, store::kit::{Keep, LogState, Sequencer}};
///
/// let (room, keep) = (Channel::new("room")?, Keep::new(&Retention::default().events(1)));
/// let start = Cursor { epoch: 7, seq: 41, tag: 0 };
/// let mut state = LogState::new(start, 1_000);
/// let mut log = Sequencer::new(&room, start, state.stamp(2_000));
/// let entries = [log.entry(Event::text("hello"), 11), log.entry(Event::text("again"), 12)];
/// entries.iter().for_each(|entry| state.add(entry));
/// assert!(state.exceeds(&keep, 2_000)); // so the oldest entry is deleted
/// state.drop_oldest(entries[0].cursor, entries[0].time, entries[0].size() as u64, 2_000);
/// state.oldest = entries[1].appended;
/// assert!(!state.exceeds(&keep, 2_000) && state.record.earliest == entries[0].cursor);
/// # Ok::<(), tower_events::InvalidChannel>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LogState {
    /// The record. The retained entries are those from just after its earliest position up to its head.
    pub record: Record,
    /// The size of the retained entries, in bytes.
    pub bytes: u64,
    /// The append stamp of the newest entry ever, or when the log was created, in Unix milliseconds.
    pub newest: u64,
    /// The append stamp of the oldest retained entry; meaningless when there is none.
    pub oldest: u64,
    /// When the last entry was dropped, or the log was created; meaningless while there are entries.
    pub empty_since: u64,
    /// The append stamp of its newest key. `None` if it has no key, or if the store does not store this and asks its keys instead.
    pub newest_key: Option<u64>,
    /// When the store applies retention to the channel next although it is not used; 0 until the store has decided that.
    pub due: u64,
}

impl LogState {
    /// An empty, open log that was created at `now` and continues above `start`.
    #[must_use]
    pub fn new(start: Cursor, now: u64) -> Self {
        let record = Record::new(Head::open(start), start);
        Self { record, bytes: 0, newest: now, oldest: now, empty_since: now, newest_key: None, due: 0 }
    }

    /// All of it, for a store that stores numbers.
    #[must_use]
    pub fn to_numbers(&self) -> [u64; 13] {
        let Self { record, bytes, newest, oldest, empty_since, newest_key, due } = *self;
        let Record { head, earliest, dropped_time } = record;
        let (Cursor { epoch, seq, tag }, closed) = (head.cursor, u64::from(head.closed));
        // No time is later than `i64::MAX`.
        let [dropped_time, newest_key] = [dropped_time, newest_key].map(|time| time.unwrap_or(u64::MAX));
        [
            epoch,
            seq,
            tag.into(),
            closed,
            earliest.seq,
            earliest.tag.into(),
            dropped_time,
            bytes,
            newest,
            oldest,
            empty_since,
            newest_key,
            due,
        ]
    }

    /// What [`to_numbers`](Self::to_numbers) returned.
    ///
    /// ```
    /// use tower_events::{Cursor, store::kit::LogState};
    ///
    /// let state = LogState::new(Cursor { epoch: 7, seq: 41, tag: 11 }, 1_732_094_400_123);
    /// assert_eq!(LogState::from_numbers(state.to_numbers()), state);
    /// ```
    #[must_use]
    pub fn from_numbers(numbers: [u64; 13]) -> Self {
        let [epoch, seq, tag, closed, earliest_seq, earliest_tag, dropped_time, bytes, ..] = numbers;
        let [.., newest, oldest, empty_since, newest_key, due] = numbers;
        let time = |number| Some(number).filter(|time| *time != u64::MAX);
        let cursor = Cursor { epoch, seq, tag: tag as u32 };
        let head = if closed == 0 { Head::open(cursor) } else { Head::closed(cursor) };
        let earliest = Cursor { epoch, seq: earliest_seq, tag: earliest_tag as u32 };
        let record = Record::new(head, earliest).dropped(time(dropped_time));
        Self { record, bytes, newest, oldest, empty_since, newest_key: time(newest_key), due }
    }

    /// How many entries are retained.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.record.head.cursor.seq.saturating_sub(self.record.earliest.seq)
    }

    /// The stamp of an append at `now`: stamps do not decrease when a clock steps back.
    #[must_use]
    pub fn stamp(&self, now: u64) -> u64 {
        now.max(self.newest)
    }

    /// Adds the next entry.
    pub fn add(&mut self, entry: &Entry) {
        if self.count() == 0 {
            self.oldest = entry.appended;
        }
        self.newest = entry.appended;
        self.bytes += entry.size() as u64;
        self.record.head.cursor = entry.cursor;
    }

    /// Whether the oldest entry is to be dropped.
    #[must_use]
    pub fn exceeds(&self, keep: &Keep, now: u64) -> bool {
        self.count() > 0 && !keep.holds(self.count(), self.bytes, self.oldest, now)
    }

    /// Drops the oldest entry, which has this position, time and size. If another one is left, the caller sets
    /// [`oldest`](Self::oldest) to its stamp.
    pub fn drop_oldest(&mut self, cursor: Cursor, time: u64, size: u64, now: u64) {
        let time = resume::dropped_time(time, self.oldest);
        self.record.earliest = cursor;
        self.record.dropped_time = self.record.dropped_time.max(Some(time));
        self.bytes = self.bytes.saturating_sub(size);
        if self.count() == 0 {
            self.empty_since = now;
        }
    }

    /// Whether the record is to be forgotten. A store that does not store [`newest_key`](Self::newest_key) also checks that all
    /// keys have expired.
    #[must_use]
    pub fn is_over(&self, keep: &Keep, now: u64) -> bool {
        let has_keys = self.newest_key.is_some_and(|newest| newest >= keep.oldest_key(now));
        self.count() == 0 && now.saturating_sub(self.empty_since) > keep.forget_after && !has_keys
    }

    /// When retention has something to do if nothing is appended until then: the oldest entry expires, or the record. If it is
    /// already over, and the store keeps it for its keys, then after another [`Keep::key_window`].
    #[must_use]
    pub fn next_due(&self, keep: &Keep, now: u64) -> u64 {
        let last = match self.count() {
            0 if self.is_over(keep, now) => now.saturating_add(keep.key_window),
            0 => {
                let keys = self.newest_key.map_or(0, |newest| newest.saturating_add(keep.key_window));
                self.empty_since.saturating_add(keep.forget_after).max(keys)
            }
            _ => self.oldest.saturating_add(keep.age),
        };
        last.saturating_add(1)
    }
}

impl AsRef<Self> for LogState {
    fn as_ref(&self) -> &Self {
        self
    }
}

impl AsMut<Self> for LogState {
    fn as_mut(&mut self) -> &mut Self {
        self
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{channel::Channel, event::Data, store::Retention};

    fn at(seq: u64) -> Cursor {
        Cursor { epoch: 1, seq, tag: seq as u32 }
    }

    /// 65 bytes.
    fn entry(seq: u64, appended: u64, time: u64) -> Entry {
        Entry::new(Channel::new("a").unwrap(), at(seq), Data::text("")).appended(appended).at(time)
    }

    fn drop_oldest(state: &mut LogState, entry: &Entry, now: u64) {
        state.drop_oldest(entry.cursor, entry.time, entry.size() as u64, now);
    }

    #[test]
    fn entries_are_counted_until_they_are_dropped() {
        let mut state = LogState::new(at(5), 100);
        let entries = [entry(6, 110, 400), entry(7, 120, 20)];
        entries.iter().for_each(|entry| state.add(entry));
        assert_eq!((state.count(), state.bytes, state.oldest, state.newest), (2, 130, 110, 120));
        assert_eq!((state.record.head, state.record.earliest), (Head::open(at(7)), at(5)));
        // A time ahead of its append counts as that.
        drop_oldest(&mut state, &entries[0], 200);
        state.oldest = 120;
        assert_eq!((state.record.earliest, state.record.dropped_time, state.bytes), (at(6), Some(110), 65));
        drop_oldest(&mut state, &entries[1], 210);
        assert_eq!((state.count(), state.bytes, state.empty_since), (0, 0, 210));
        assert_eq!(state.record.dropped_time, Some(110), "the largest");
        state.add(&entry(8, 300, 300));
        assert_eq!((state.count(), state.oldest), (1, 300));
    }

    #[test]
    fn stamps_do_not_decrease() {
        let mut state = LogState::new(at(5), 100);
        assert_eq!((state.stamp(99), state.stamp(101)), (100, 101));
        state.add(&entry(6, 110, 0));
        assert_eq!((state.stamp(105), state.stamp(111)), (110, 111));
    }

    #[test]
    fn the_oldest_entry_and_then_the_record_outlive_their_time_by_nothing() {
        let millis = Duration::from_millis;
        let keep = Keep::new(&Retention::default().events(1).age(millis(50)).forget_after(millis(70)));
        let mut state = LogState::new(at(5), 100);
        assert_eq!(
            [170, 171].map(|now| (state.exceeds(&keep, now), state.is_over(&keep, now))),
            [(false, false), (false, true)]
        );
        state.add(&entry(6, 110, 0));
        assert_eq!(
            [160, 161].map(|now| (state.exceeds(&keep, now), state.is_over(&keep, now))),
            [(false, false), (true, false)]
        );
        state.add(&entry(7, 111, 0));
        assert!(state.exceeds(&keep, 111), "by count");
    }
}
