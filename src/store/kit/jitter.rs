//! Delays before another attempt, drawn at random so that what failed together does not try again together.

use std::time::Duration;

/// A random duration between half and one and a half of `base`; `base` counts as at most a year.
///
/// ```
/// use std::time::Duration;
/// use tower_events::store::kit::jittered;
///
/// let second = Duration::from_secs(1);
/// assert!((second / 2..=second * 3 / 2).contains(&jittered(second)));
/// ```
#[must_use]
pub fn jittered(base: Duration) -> Duration {
    base.min(MAX_DELAY).mul_f64(0.5 + fastrand::f64())
}

/// The delays between attempts to reach something: they double with each failure, up to a longest, and each is
/// [jittered](jittered()).
///
/// ```
/// use std::time::Duration;
/// use tower_events::store::kit::Backoff;
///
/// const RECONNECT: Backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(1));
/// assert!(RECONNECT.delay(0) <= Duration::from_millis(75)); // after an attempt that had succeeded
/// assert!(RECONNECT.delay(20) <= Duration::from_millis(1_500)); // after 20 that failed
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
}

impl Backoff {
    /// Delays from about `first` to about `longest`.
    #[must_use]
    pub const fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest }
    }

    /// The delay before the next attempt, after that many have failed in a row.
    #[must_use]
    pub fn delay(&self, failed_attempts: u32) -> Duration {
        jittered(self.base(failed_attempts))
    }

    fn base(&self, failed_attempts: u32) -> Duration {
        let factor = 1_u32.checked_shl(failed_attempts).unwrap_or(u32::MAX);
        self.first.saturating_mul(factor).min(self.longest)
    }
}

/// Keeps durations far from overflow.
const MAX_DELAY: Duration = Duration::from_secs(365 * 24 * 60 * 60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_are_spread_around_their_base() {
        for base in [Duration::ZERO, Duration::from_secs(2), Duration::MAX] {
            let bounded = base.min(MAX_DELAY);
            let drawn: Vec<_> = (0..800).map(|_| jittered(base)).collect();
            assert!(drawn.iter().all(|delay| (bounded / 2..=bounded * 3 / 2).contains(delay)), "{base:?}");
            let short = drawn.iter().filter(|delay| **delay < bounded).count();
            assert!(base.is_zero() || (240..560).contains(&short), "{short} of 800 below {base:?}");
        }
    }

    #[test]
    fn delays_double_up_to_the_longest() {
        let backoff = Backoff::new(Duration::from_millis(50), Duration::from_millis(1_000));
        let bases = [0, 1, 2, 3, 4, 5, 31, 32, u32::MAX].map(|failed| backoff.base(failed).as_millis());
        assert_eq!(bases, [50, 100, 200, 400, 800, 1_000, 1_000, 1_000, 1_000]);
        let delay = backoff.delay(1);
        assert!((Duration::from_millis(50)..=Duration::from_millis(150)).contains(&delay), "{delay:?}");
    }
}
