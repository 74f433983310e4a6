//! What is logged of the outages of a store: enough to see them, and never so much that it is a problem itself. Whether a line is
//! due, not what it says.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::store::log_pace::LogPace;

/// The parts of a store that fail and recover each on its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(dead_code, reason = "each store has some of them")]
pub(super) enum Part {
    /// All calls.
    Calls,
    Reads,
    Writes,
    /// The stream of changes that other nodes made.
    Changes,
    /// The janitor.
    Upkeep,
}

/// Logs that a store fails and that it works again: one line for all of its parts that fail, since they mostly do for one reason,
/// and one when all work. Each part is named at most once a minute.
#[derive(Debug, Default)]
pub(super) struct OutageLog(Mutex<Outages>);

#[derive(Debug, Default)]
struct Outages {
    failing: Vec<Part>,
    /// The parts that were logged since all worked. Those that work again are among them: a part that goes on failing without
    /// them has a reason of its own.
    logged: Vec<Part>,
    paces: HashMap<Part, LogPace>,
}

impl OutageLog {
    /// Records that a part fails; whether that is to be logged.
    #[must_use]
    pub(super) fn failed(&self, part: Part) -> bool {
        let mut outages = self.outages();
        if !outages.failing.contains(&part) {
            outages.failing.push(part);
        }
        let is_known = outages.failing.iter().any(|failing| outages.logged.contains(failing));
        let is_due = !is_known && outages.paces.entry(part).or_default().is_due();
        if is_due {
            outages.logged.push(part);
        }
        is_due
    }

    /// Records that a part works; whether it is to be logged that everything does again.
    #[must_use]
    pub(super) fn recovered(&self, part: Part) -> bool {
        let mut outages = self.outages();
        outages.failing.retain(|failing| *failing != part);
        let is_over = !outages.logged.is_empty() && outages.failing.is_empty();
        if is_over {
            for part in std::mem::take(&mut outages.logged) {
                outages.paces.entry(part).or_default().restart();
            }
        }
        is_over
    }

    fn outages(&self) -> MutexGuard<'_, Outages> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    async fn seconds(seconds: u64) {
        tokio::time::advance(Duration::from_secs(seconds)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn an_outage_of_several_parts_is_one_line_and_so_is_its_end() {
        let log = OutageLog::default();
        let fail = |part| log.failed(part);
        assert_eq!([Part::Reads, Part::Writes, Part::Changes].map(fail), [true, false, false]);
        for _ in 0..600 {
            assert!(!fail(Part::Reads) && !fail(Part::Changes));
            seconds(1).await;
        }
        assert_eq!([Part::Reads, Part::Writes].map(|part| log.recovered(part)), [false, false]);
        assert!(log.recovered(Part::Changes) && !log.recovered(Part::Changes));
        seconds(60).await;
        assert!(fail(Part::Changes), "the next outage");
    }

    #[tokio::test(start_paused = true)]
    async fn a_part_that_fails_for_a_reason_of_its_own_says_so() {
        let log = OutageLog::default();
        assert_eq!([Part::Calls, Part::Changes].map(|part| log.failed(part)), [true, false]);
        assert!(!log.recovered(Part::Calls));
        assert_eq!([log.failed(Part::Changes), log.failed(Part::Changes)], [true, false]);
        assert!(log.recovered(Part::Changes), "all work");
        assert!(log.failed(Part::Upkeep), "it has not been logged for a minute");
        assert!(log.recovered(Part::Upkeep) && !log.failed(Part::Upkeep));
    }

    #[tokio::test(start_paused = true)]
    async fn what_fails_and_recovers_all_the_time_is_logged_twice_a_minute_and_what_goes_on_is_not_forgotten() {
        let (log, mut lines) = (OutageLog::default(), 0);
        for _ in 0..600 {
            lines += usize::from(log.failed(Part::Calls));
            lines += usize::from(log.recovered(Part::Calls));
            seconds(1).await;
        }
        assert_eq!(lines, 20);
        let mut waited = 0;
        while !log.failed(Part::Calls) {
            seconds(1).await;
            waited += 1;
        }
        assert!(waited <= 60, "{waited}");
    }
}
