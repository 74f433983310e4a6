//! [`Retention`] in the units that stores calculate with.

use std::time::Duration;

use crate::store::Retention;

/// A [`Retention`] with its times in milliseconds, and the decisions that follow from it. `now` and the times that are compared
/// with it are the stamps of appends, in Unix milliseconds.
///
/// ```
/// use std::time::Duration;
/// use tower_events::{Retention, store::kit::Keep};
///
/// let keep = Keep::new(&Retention::default().events(2).age(Duration::from_secs(60)));
/// assert!(keep.holds(2, 1_000, 500, 60_000)); // of 2 entries with 1 000 bytes, the oldest was appended at 500
/// assert!(!keep.holds(3, 1_000, 500, 60_000) && !keep.holds(2, 1_000, 500, 61_000));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Keep {
    /// Maximum number of entries.
    pub events: u64,
    /// Maximum number of bytes.
    pub bytes: u64,
    /// Maximum age of an entry, in milliseconds.
    pub age: u64,
    /// How long a record is kept after its last entry was dropped, in milliseconds.
    pub forget_after: u64,
    /// How long a key is remembered, in milliseconds.
    pub key_window: u64,
}

impl Keep {
    /// The same limits; a time that is too long for an `i64` of milliseconds is the longest.
    #[must_use]
    pub fn new(retention: &Retention) -> Self {
        Self {
            events: retention.events,
            bytes: retention.bytes,
            age: millis(retention.age),
            forget_after: millis(retention.forget_after),
            key_window: millis(retention.key_window),
        }
    }

    /// All of them, in the order of the fields, for a store that stores numbers.
    #[must_use]
    pub fn to_numbers(&self) -> [u64; 5] {
        let Self { events, bytes, age, forget_after, key_window } = *self;
        [events, bytes, age, forget_after, key_window]
    }

    /// What [`to_numbers`](Self::to_numbers) returned.
    #[must_use]
    pub fn from_numbers([events, bytes, age, forget_after, key_window]: [u64; 5]) -> Self {
        Self { events, bytes, age, forget_after, key_window }
    }

    /// The larger of each setting: what a place keeps that is shared by stores with different settings.
    #[must_use]
    pub fn largest(&self, other: &Self) -> Self {
        Self {
            events: self.events.max(other.events),
            bytes: self.bytes.max(other.bytes),
            age: self.age.max(other.age),
            forget_after: self.forget_after.max(other.forget_after),
            key_window: self.key_window.max(other.key_window),
        }
    }

    /// Each setting, but at most `most`: for a database whose numbers end earlier.
    #[must_use]
    pub fn at_most(&self, most: u64) -> Self {
        Self {
            events: self.events.min(most),
            bytes: self.bytes.min(most),
            age: self.age.min(most),
            forget_after: self.forget_after.min(most),
            key_window: self.key_window.min(most),
        }
    }

    /// How often an unused channel must be checked so that nothing stays for more than twice its time, in milliseconds.
    #[must_use]
    pub fn period(&self) -> u64 {
        self.age.min(self.forget_after).min(self.key_window).max(1)
    }

    /// Whether the oldest of `count` entries, which have `bytes` together, is still to be kept; it was appended at `appended`. The
    /// newest entry may stay however large it is.
    #[must_use]
    pub fn holds(&self, count: u64, bytes: u64, appended: u64, now: u64) -> bool {
        count <= self.events && (bytes <= self.bytes || count == 1) && appended >= self.oldest(now)
    }

    /// Entries appended before this are expired, even if they are still stored.
    #[must_use]
    pub fn oldest(&self, now: u64) -> u64 {
        now.saturating_sub(self.age)
    }

    /// Keys that were first appended before this are no longer remembered.
    #[must_use]
    pub fn oldest_key(&self, now: u64) -> u64 {
        now.saturating_sub(self.key_window)
    }
}

/// A duration in milliseconds; one that is too long for an `i64` is the longest.
fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX).min(i64::MAX as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In milliseconds.
    fn keep(age: u64, forget_after: u64, key_window: u64) -> Keep {
        let millis = Duration::from_millis;
        let retention = Retention::default().age(millis(age)).forget_after(millis(forget_after));
        Keep::new(&retention.key_window(millis(key_window)))
    }

    #[test]
    fn a_look_is_due_as_often_as_the_shortest_time_ends() {
        for (age, forget_after, key_window, period) in
            [(5, 6, 7, 5), (6, 5, 7, 5), (7, 6, 5, 5), (1, 1, 1, 1), (0, 5, 5, 1), (2, 9, 9, 2)]
        {
            assert_eq!(keep(age, forget_after, key_window).period(), period, "{age} {forget_after} {key_window}");
        }
    }

    #[test]
    fn what_is_too_old_is_older_than_its_time() {
        let keep = keep(10, 20, 30);
        assert_eq!((keep.oldest(100), keep.oldest_key(100)), (90, 70));
        assert_eq!((keep.oldest(9), keep.oldest_key(9)), (0, 0));
    }

    #[test]
    fn a_time_without_end_is_one_that_never_ends() {
        let (all, most) = (Duration::MAX, i64::MAX as u64);
        let keep = Keep::new(&Retention::default().age(all).forget_after(all).key_window(all).events(3).bytes(4));
        assert_eq!(keep, Keep { events: 3, bytes: 4, age: most, forget_after: most, key_window: most });
        assert_eq!((keep.oldest(most - 1), keep.period()), (0, most));
    }

    #[test]
    fn of_two_who_keep_the_longer_counts() {
        let (one, other) = (keep(1, 20, 3), Keep { events: 7, bytes: 1, ..keep(10, 2, 30) });
        let both = Keep { events: 1_000, bytes: 8 << 20, ..keep(10, 20, 30) };
        assert_eq!((one.largest(&other), other.largest(&one)), (both, both));
        assert_eq!(both.at_most(20), Keep { events: 20, bytes: 20, ..keep(10, 20, 20) });
    }

    #[test]
    fn the_oldest_entry_stays_within_every_limit() {
        let keep = Keep { events: 3, bytes: 100, ..keep(10, 20, 30) };
        for (count, bytes, appended, now, holds) in [
            (3, 100, 90, 100, true),
            (4, 100, 90, 100, false),
            (3, 101, 90, 100, false),
            (3, 100, 89, 100, false),
            (1, 101, 90, 100, true), // the newest may be large, but not too old
            (1, 101, 89, 100, false),
            (3, 100, 0, 9, true),
            (3, 100, 200, 100, true), // the clock stepped back
        ] {
            assert_eq!(keep.holds(count, bytes, appended, now), holds, "{count} {bytes} {appended} {now}");
        }
        assert!(!Keep { events: 0, ..keep }.holds(1, 1, 100, 100));
    }
}
