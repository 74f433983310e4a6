//! Whether a run is abandoned, as one process sees it. Pure: time is passed in.

use std::time::Duration;

use tokio::time::Instant;

use crate::cursor::Cursor;

/// What is known of a run that has not ended: what was seen last, and since when nothing else was.
#[derive(Clone, Copy, Debug)]
pub(super) struct Watch {
    seen: Option<Signs>,
    /// When the answer came that first showed this.
    since: Instant,
    /// When the last answer came.
    last: Instant,
}

/// The signs of life of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Signs {
    /// The head of its channel.
    pub(super) head: Cursor,
    /// The head of its process's beats; `None` if that process will never write any.
    pub(super) beat: Option<Cursor>,
}

/// When the signs were read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Look {
    pub(super) asked: Instant,
    pub(super) answered: Instant,
}

impl Watch {
    pub(super) fn new(now: Instant) -> Self {
        Self { seen: None, since: now, last: now }
    }

    /// Adds what was seen; whether the run is abandoned.
    ///
    /// The signs may have changed at any moment between the question and the answer, so the time without a change counts from the
    /// answer that first showed them to the question that showed them last. An observer that could not look for a while (the
    /// store was unavailable, the process was suspended) begins anew: the others may not have been able to write either.
    pub(super) fn is_abandoned(&mut self, signs: Signs, look: Look, after: Duration) -> bool {
        let is_gap = look.asked.saturating_duration_since(self.last) > after / 2;
        self.last = look.answered;
        if self.seen != Some(signs) || is_gap {
            self.seen = Some(signs);
            self.since = look.answered;
            return false;
        }
        look.asked.saturating_duration_since(self.since) >= after
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signs(head: u64, beat: u64) -> Signs {
        let at = |seq| Cursor { epoch: 1, seq, tag: 1 };
        Signs { head: at(head), beat: Some(at(beat)) }
    }

    /// Looks at these milliseconds (asked, answered), and returns which look found the run abandoned.
    fn first_abandoned(looks: &[(u64, u64, Signs)]) -> Option<usize> {
        let start = Instant::now();
        let mut watch = Watch::new(start);
        let at = |ms| start + Duration::from_millis(ms);
        looks.iter().position(|(asked, answered, signs)| {
            let look = Look { asked: at(*asked), answered: at(*answered) };
            watch.is_abandoned(*signs, look, Duration::from_secs(15))
        })
    }

    #[test]
    fn a_run_is_abandoned_when_neither_sign_has_changed_for_long_enough() {
        let still = |times: &[u64]| times.iter().map(|ms| (*ms, *ms, signs(1, 1))).collect::<Vec<_>>();
        assert_eq!(first_abandoned(&still(&[0, 5_000, 10_000, 14_999])), None);
        assert_eq!(first_abandoned(&still(&[0, 5_000, 10_000, 15_000])), Some(3));
        for changed in [signs(2, 1), signs(1, 2)] {
            let mut looks = still(&[0, 5_000, 10_000]);
            looks.extend([15_000, 20_000, 25_000, 29_999, 30_000].map(|ms| (ms, ms, changed)));
            assert_eq!(first_abandoned(&looks), Some(7), "{changed:?}");
        }
    }

    #[test]
    fn time_without_looks_does_not_count() {
        let table = [(0, 7_500, 15_000, Some(2)), (0, 7_501, 15_000, None), (0, 60_000, 67_000, None)];
        for (first, second, third, expected) in table {
            let looks = [first, second, third].map(|ms| (ms, ms, signs(1, 1)));
            assert_eq!(first_abandoned(&looks), expected, "{second}");
        }
    }

    #[test]
    fn slow_answers_never_make_the_time_longer_than_it_was() {
        // Answered at 2 s for the first time, and asked at 16 s for the last: 14 s without a change.
        let looks = [(0, 2_000), (7_000, 8_000), (12_000, 13_000), (16_000, 18_000), (17_000, 19_000)];
        assert_eq!(first_abandoned(&looks.map(|(asked, answered)| (asked, answered, signs(1, 1)))), Some(4));
    }
}
