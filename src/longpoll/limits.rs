//! How long a poll waits, and for how many events.

use std::time::Duration;

use super::options::LongPollOptions;
use crate::request::Wait;

/// What the request asks for, within the bounds of the service.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct PollLimits {
    pub(super) wait: Duration,
    pub(super) limit: usize,
    /// The seconds of a `Prefer: wait` that was honoured.
    pub(super) honored_wait: Option<u64>,
    wait_source: WaitSource,
}

/// Where the wait comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WaitSource {
    Client,
    Service,
}

impl PollLimits {
    pub(super) fn new(wait: Option<Wait>, limit: Option<u64>, options: &LongPollOptions) -> Self {
        let capped = |seconds: u64| seconds.min(options.max_wait.as_secs());
        let (wait, honored_wait, wait_source) = match wait {
            None => (options.wait.min(options.max_wait), None, WaitSource::Service),
            Some(Wait::Parameter(seconds)) => (Duration::from_secs(capped(seconds)), None, WaitSource::Client),
            Some(Wait::Preferred(seconds)) => {
                (Duration::from_secs(capped(seconds)), Some(capped(seconds)), WaitSource::Client)
            }
        };
        let limit = limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX);
        Self { wait, limit: limit.min(options.limit), honored_wait, wait_source }
    }

    /// Shortens a wait that the client did not set by up to a tenth: polls that one event answered come back together, and
    /// would otherwise keep ending together.
    pub(super) fn with_jitter(self) -> Self {
        match self.wait_source {
            WaitSource::Client => self,
            WaitSource::Service => Self { wait: self.wait.mul_f64(1.0 - fastrand::f64() / 10.0), ..self },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_client_asks_for_is_bounded() {
        let options = LongPollOptions::default();
        let table = [
            (None, None, 25, 100, None, WaitSource::Service),
            (Some(Wait::Parameter(0)), Some(7), 0, 7, None, WaitSource::Client),
            (Some(Wait::Parameter(56)), Some(101), 55, 100, None, WaitSource::Client),
            (Some(Wait::Preferred(9)), Some(u64::MAX), 9, 100, Some(9), WaitSource::Client),
            (Some(Wait::Preferred(u64::MAX)), None, 55, 100, Some(55), WaitSource::Client),
        ];
        for (wait, limit, seconds, most, honored_wait, wait_source) in table {
            let limits = PollLimits::new(wait, limit, &options);
            let expected = PollLimits { wait: Duration::from_secs(seconds), limit: most, honored_wait, wait_source };
            assert_eq!(limits, expected, "{wait:?} {limit:?}");
        }
        let short = LongPollOptions::default().max_wait(Duration::from_secs(3));
        assert_eq!(PollLimits::new(None, None, &short).wait, Duration::from_secs(3));
    }

    #[test]
    fn waits_are_finite_and_responses_have_room_for_an_event() {
        let options = LongPollOptions::default().max_wait(Duration::MAX).limit(0);
        let limits = PollLimits::new(Some(Wait::Parameter(u64::MAX)), None, &options);
        assert_eq!((limits.wait, limits.limit), (Duration::from_secs(24 * 60 * 60), 1));
    }

    #[test]
    fn waits_that_no_client_set_are_spread() {
        let options = LongPollOptions::default();
        let wait = |wait: Option<Wait>| PollLimits::new(wait, None, &options).with_jitter().wait.as_millis();
        let waits: Vec<_> = (0..1_000).map(|_| wait(None)).collect();
        let (shortest, longest) = (waits.iter().min().unwrap(), waits.iter().max().unwrap());
        assert!((22_500..22_700).contains(shortest) && (24_800..=25_000).contains(longest), "{shortest} to {longest}");
        assert_eq!((wait(Some(Wait::Parameter(9))), wait(Some(Wait::Preferred(7)))), (9_000, 7_000));
    }
}
