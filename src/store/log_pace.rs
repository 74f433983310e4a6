//! How often something that repeats is logged. Whether a line is due, not what it says.

#[cfg(any(feature = "nats", feature = "postgres", feature = "redis"))]
use std::collections::HashSet;
use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// Logs a problem that repeats at most once a minute.
#[derive(Debug, Default)]
pub(crate) struct LogPace(Mutex<Option<Instant>>);

impl LogPace {
    /// Whether this time is to be logged.
    #[must_use]
    pub(crate) fn is_due(&self) -> bool {
        let now = Instant::now();
        let mut last = lock(&self.0);
        let is_due = last.is_none_or(|last| now.duration_since(last) >= EVERY);
        if is_due {
            *last = Some(now);
        }
        is_due
    }

    /// Begins the minute now.
    #[cfg(any(feature = "file", feature = "nats", feature = "postgres", feature = "redis"))]
    pub(crate) fn restart(&self) {
        *lock(&self.0) = Some(Instant::now());
    }
}

/// Logs each channel that has a problem once an hour, but no more than a hundred of them.
#[cfg(any(feature = "nats", feature = "postgres", feature = "redis"))]
#[derive(Debug, Default)]
pub(crate) struct ChannelLog(Mutex<LoggedChannels>);

#[cfg(any(feature = "nats", feature = "postgres", feature = "redis"))]
#[derive(Debug, Default)]
struct LoggedChannels {
    names: HashSet<String>,
    since: Option<Instant>,
}

/// Logs no more than a hundred of something an hour.
#[derive(Debug, Default)]
pub(crate) struct LogBudget(Mutex<(usize, Option<Instant>)>);

impl LogBudget {
    /// Whether there may be another line.
    #[must_use]
    pub(crate) fn is_left(&self) -> bool {
        let (used, since) = &mut *lock(&self.0);
        let now = Instant::now();
        if since.is_none_or(|since| now.duration_since(since) >= HOUR) {
            (*used, *since) = (0, Some(now));
        }
        *used += 1;
        *used <= MAX_PER_HOUR
    }
}

#[cfg(any(feature = "nats", feature = "postgres", feature = "redis"))]
impl ChannelLog {
    /// Whether the channel is to be logged now.
    #[must_use]
    pub(crate) fn is_due(&self, channel: &str) -> bool {
        let mut logged = lock(&self.0);
        let now = Instant::now();
        if logged.since.is_none_or(|since| now.duration_since(since) >= HOUR) {
            *logged = LoggedChannels { names: HashSet::new(), since: Some(now) };
        }
        logged.names.len() < MAX_PER_HOUR && logged.names.insert(channel.to_owned())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

const EVERY: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(60 * 60);
const MAX_PER_HOUR: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    async fn seconds(seconds: u64) {
        tokio::time::advance(Duration::from_secs(seconds)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_failure_is_logged_and_then_one_a_minute() {
        let (pace, mut logged) = (LogPace::default(), Vec::new());
        for second in 0..180 {
            if pace.is_due() {
                logged.push(second);
            }
            seconds(1).await;
        }
        assert_eq!(logged, [0, 60, 120]);
    }

    #[cfg(any(feature = "nats", feature = "postgres", feature = "redis"))]
    #[tokio::test(start_paused = true)]
    async fn each_channel_is_logged_once_an_hour_and_not_too_many() {
        let log = ChannelLog::default();
        assert!(log.is_due("a") && log.is_due("b") && !log.is_due("a"));
        let logged = (0..1_000).filter(|n| log.is_due(&n.to_string())).count();
        assert_eq!(logged, MAX_PER_HOUR - 2);
        seconds(60 * 60).await;
        assert!(log.is_due("a") && log.is_due("999"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_budget_is_for_an_hour() {
        let budget = LogBudget::default();
        assert_eq!((0..1_000).filter(|_| budget.is_left()).count(), MAX_PER_HOUR);
        seconds(60 * 60).await;
        assert!(budget.is_left());
    }
}
