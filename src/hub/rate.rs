//! How often something may happen. Pure: time is passed in.

use std::time::Duration;

use tokio::time::Instant;

/// A rate, as the generic cell rate algorithm (ITU-T I.371) bounds it: all that is stored is when everything that was accepted
/// would have been spread at the rate.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rate {
    each: Duration,
}

impl Rate {
    /// At least 1.
    pub(crate) fn per_second(count: u32) -> Self {
        Self { each: BURST / count.max(1) }
    }

    /// Accepts `count` together, whatever their number, if there is room for one of them in the burst. Returns until when they are
    /// spread; `spread_until` is what was returned before.
    ///
    /// # Errors
    /// When to try again.
    pub(crate) fn accept(self, count: usize, spread_until: Option<Instant>, now: Instant) -> Result<Instant, Duration> {
        let ahead = spread_until.map_or(Duration::ZERO, |until| until.saturating_duration_since(now));
        let excess = (ahead + self.each).saturating_sub(BURST);
        // Less than a nanosecond for each is lost in the division.
        if excess > Duration::from_micros(1) {
            return Err(excess);
        }
        Ok(now + ahead + self.each.saturating_mul(u32::try_from(count).unwrap_or(u32::MAX)))
    }
}

/// What may come at once: as much as in this time.
const BURST: Duration = Duration::from_secs(1);

#[cfg(all(test, not(tower_events_loom)))]
mod tests {
    use super::*;

    /// How many of `attempts` are accepted one by one at this time.
    fn accepted(rate: Rate, until: &mut Option<Instant>, now: Instant, attempts: usize) -> usize {
        let mut accept = || rate.accept(1, *until, now).map(|spread| *until = Some(spread)).is_ok();
        (0..attempts).filter(|_| accept()).count()
    }

    #[test]
    fn a_burst_of_one_second_is_accepted_and_then_the_rate() {
        let (rate, mut until, start) = (Rate::per_second(10), None, Instant::now());
        let table = [(0, 10), (0, 0), (1_000, 10), (1_050, 0), (1_500, 5), (100_000, 10)];
        for (ms, expected) in table {
            assert_eq!(accepted(rate, &mut until, start + Duration::from_millis(ms), 50), expected, "at {ms} ms");
        }
        assert_eq!(rate.accept(1, until, start + Duration::from_secs(100)), Err(Duration::from_millis(100)));
    }

    #[test]
    fn a_batch_is_accepted_whole_and_made_up_for_afterwards() {
        let (rate, start) = (Rate::per_second(100), Instant::now());
        let until = rate.accept(1_000, None, start).unwrap();
        let at = |ms| start + Duration::from_millis(ms);
        assert_eq!(rate.accept(1, Some(until), at(2_000)), Err(Duration::from_millis(7_010)));
        assert!(rate.accept(1, Some(until), at(9_010)).is_ok());
    }

    #[test]
    fn no_rate_and_no_number_overflows() {
        let now = Instant::now();
        let until = Rate::per_second(0).accept(usize::MAX, None, now).unwrap();
        assert!(Rate::per_second(0).accept(0, Some(until), now).is_err());
        assert!(Rate::per_second(u32::MAX).accept(usize::MAX, None, now).is_ok());
    }
}
