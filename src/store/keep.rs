//! [`Retention`] in the units that stores calculate with.

use std::time::Duration;

use super::retention::Retention;

/// A [`Retention`] with its times in milliseconds; every value fits an `i64`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Keep {
    pub(crate) events: u64,
    pub(crate) bytes: u64,
    pub(crate) age: u64,
    pub(crate) forget_after: u64,
    pub(crate) key_window: u64,
}

impl Keep {
    pub(crate) fn new(retention: &Retention) -> Self {
        Self {
            events: retention.events,
            bytes: retention.bytes,
            age: millis(retention.age),
            forget_after: millis(retention.forget_after),
            key_window: millis(retention.key_window),
        }
    }

    /// The larger of each setting.
    #[cfg(any(feature = "file", feature = "nats"))]
    pub(crate) fn largest(&self, other: &Self) -> Self {
        Self {
            events: self.events.max(other.events),
            bytes: self.bytes.max(other.bytes),
            age: self.age.max(other.age),
            forget_after: self.forget_after.max(other.forget_after),
            key_window: self.key_window.max(other.key_window),
        }
    }

    /// How often an unused channel must be checked so that nothing stays for more than twice its time.
    pub(crate) fn period(&self) -> u64 {
        self.age.min(self.forget_after).min(self.key_window).max(1)
    }

    /// Entries appended before this are expired, even if they are still stored.
    pub(crate) fn oldest(&self, now: u64) -> u64 {
        now.saturating_sub(self.age)
    }

    /// Records that have been empty since before this must be forgotten.
    #[cfg(feature = "file")]
    pub(crate) fn oldest_record(&self, now: u64) -> u64 {
        now.saturating_sub(self.forget_after)
    }

    /// Keys that were first appended before this are no longer remembered.
    pub(crate) fn oldest_key(&self, now: u64) -> u64 {
        now.saturating_sub(self.key_window)
    }
}

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

    #[cfg(feature = "file")]
    #[test]
    fn of_two_who_keep_the_longer_counts() {
        let (one, other) = (keep(1, 20, 3), Keep { events: 7, bytes: 1, ..keep(10, 2, 30) });
        let both = Keep { events: 1_000, bytes: 8 << 20, ..keep(10, 20, 30) };
        assert_eq!((one.largest(&other), other.largest(&one)), (both, both));
        assert_eq!((both.oldest_record(100), both.oldest_record(19)), (80, 0));
    }
}
