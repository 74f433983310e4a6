//! Bounds how many events a second a service accepts. Time is passed in.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// What was accepted in one second more than the rate has to be made up for before more is accepted.
const BURST: Duration = Duration::from_secs(1);

/// The generic cell rate algorithm: all that it stores is when everything accepted would have arrived at the full rate.
#[derive(Debug)]
pub(super) struct RateLimit {
    events_per_second: f64,
    arrived_at: Mutex<Option<Instant>>,
}

impl RateLimit {
    pub(super) fn new(events_per_second: u32) -> Self {
        Self { events_per_second: events_per_second.max(1).into(), arrived_at: Mutex::new(None) }
    }

    /// Accepts these events together, whatever their number, unless too many were accepted before.
    ///
    /// # Errors
    /// When to try again.
    pub(super) fn accept(&self, events: usize, now: Instant) -> Result<(), Duration> {
        let mut arrived_at = self.arrived_at.lock().unwrap_or_else(PoisonError::into_inner);
        let ahead = arrived_at.map_or(Duration::ZERO, |at| at.saturating_duration_since(now));
        match ahead.checked_sub(BURST) {
            Some(excess) if !excess.is_zero() => Err(excess),
            _ => {
                *arrived_at = Some(now + ahead + Duration::from_secs_f64(events as f64 / self.events_per_second));
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_accepted_at_the_rate_after_a_burst_of_one_second() {
        let (limit, start) = (RateLimit::new(10), Instant::now());
        let at = |seconds: f64| start + Duration::from_secs_f64(seconds);
        let accepted = |count: usize, seconds: f64| (0..count).filter(|_| limit.accept(1, at(seconds)).is_ok()).count();
        // One more than the burst: the first that comes when a second's events were accepted is still within it.
        assert_eq!([accepted(50, 0.0), accepted(50, 0.0)], [11, 0]);
        assert_eq!([accepted(50, 1.0), accepted(50, 1.05), accepted(50, 1.5)], [10, 0, 5]);
        assert_eq!(accepted(50, 100.0), 11, "what was not used is not saved up");
    }

    #[test]
    fn a_batch_is_accepted_whole_and_paid_for_afterwards() {
        let (limit, start) = (RateLimit::new(100), Instant::now());
        assert_eq!(limit.accept(1_000, start), Ok(()));
        let later = start + Duration::from_secs(2);
        assert_eq!(limit.accept(1, later), Err(Duration::from_secs(7)));
        assert_eq!(limit.accept(1, start + Duration::from_secs(9)), Ok(()));
    }

    #[test]
    fn no_rate_and_no_number_overflows() {
        let (limit, now) = (RateLimit::new(0), Instant::now());
        assert_eq!(limit.accept(1, now), Ok(()));
        assert_eq!(limit.accept(100_000, now), Ok(()));
        assert!(limit.accept(0, now).is_err());
    }
}
