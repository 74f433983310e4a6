//! When a client should come back: the delays that responses and streams name, drawn at random so that clients do not all
//! return at once.

use std::time::Duration;

use http::HeaderValue;

pub(crate) use crate::store::kit::jittered;

/// When the same request may succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Retry {
    /// It is not known when; after about `backoff`, if that is longer than what is usual.
    Soon { backoff: Duration },
    /// Not before this delay, which the application gave.
    AtLeast(Duration),
    /// After exactly this delay, which was drawn for this client alone.
    After(Duration),
}

impl Retry {
    /// It is not known when.
    pub(crate) const SOON: Self = Self::Soon { backoff: Duration::ZERO };

    /// A delay: drawn around `usual` when it is not known when, and never shorter than what the application gave.
    pub(crate) fn jittered(self, usual: Duration) -> Duration {
        match self {
            Self::Soon { backoff } => jittered(usual.max(backoff)),
            Self::AtLeast(delay) => delay.min(MAX_DELAY).mul_f64(1.0 + fastrand::f64() / 2.0),
            Self::After(delay) => delay,
        }
    }

    /// The value of `Retry-After`. A 429 names the application's delay unchanged, so that it agrees with what else the
    /// application tells its clients.
    pub(crate) fn header_value(self) -> HeaderValue {
        retry_after(if let Self::AtLeast(delay) = self { delay } else { self.jittered(DEFAULT_RETRY) })
    }
}

/// Whole seconds, rounded up, at backoff 1 (RFC 9110, section 10.2.3: a delay is a whole number).
pub(crate) fn retry_after(retry: Duration) -> HeaderValue {
    let whole = retry.as_secs().saturating_add(u64::from(retry.subsec_nanos() > 0));
    HeaderValue::from(whole.max(1))
}

/// The delay when nothing else is known.
const DEFAULT_RETRY: Duration = Duration::from_secs(2);

/// Keeps durations far from overflow.
const MAX_DELAY: Duration = Duration::from_secs(365 * 24 * 60 * 60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_are_whole_seconds_and_spread() {
        for (millis, seconds) in [(0, "1"), (1, "1"), (1000, "1"), (1001, "2"), (60_000, "60")] {
            assert_eq!(retry_after(Duration::from_millis(millis)), seconds);
        }
        for base in [Duration::ZERO, Duration::from_secs(2), Duration::MAX] {
            let delay = jittered(base);
            assert!(delay >= base.min(MAX_DELAY) / 2 && delay <= base.min(MAX_DELAY) * 3 / 2);
        }
        let base = Duration::from_secs(8);
        spread_between(4, 12, || jittered(base));
        spread_between(4, 12, || Retry::Soon { backoff: base }.jittered(Duration::from_secs(1)));
        spread_between(4, 12, || Retry::SOON.jittered(base));
        // Never shorter than what the application gave.
        spread_between(8, 12, || Retry::AtLeast(base).jittered(Duration::from_secs(1)));
        assert_eq!(Retry::After(base).jittered(Duration::from_secs(1)), base);
    }

    /// Whether each quarter of the range of seconds gets its part.
    fn spread_between(first: u64, end: u64, draw: impl Fn() -> Duration) {
        let (first, width) = (Duration::from_secs(first), Duration::from_secs(end - first));
        let mut quarters = [0; 4];
        for _ in 0..800 {
            let part = draw().checked_sub(first).expect("not too soon").div_duration_f64(width);
            quarters[(part * 4.0) as usize] += 1;
        }
        assert!(quarters.iter().all(|count| *count > 120), "{quarters:?} from {first:?} on");
    }
}
