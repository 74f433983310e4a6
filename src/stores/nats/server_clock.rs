//! The time that decides what is old: the server's, which is the same for all nodes, whatever their clocks show. Does
//! not ask the server itself.

use std::sync::{
    Mutex,
    atomic::{AtomicU64, Ordering},
};

use tokio::time::Instant;

use super::sync::lock;
use crate::store::Clock;

/// The server's time, extrapolated from its last reading.
#[derive(Debug)]
pub(super) struct ServerClock {
    /// Replaces the server's time.
    override_clock: Option<Clock>,
    /// The server's time, and when it was read.
    reading: Mutex<Option<(u64, Instant)>>,
    /// The latest time returned. Time never goes back, even if another server leads the stream.
    latest: AtomicU64,
}

impl ServerClock {
    pub(super) fn new(override_clock: Option<Clock>) -> Self {
        Self { override_clock, reading: Mutex::default(), latest: AtomicU64::new(0) }
    }

    /// Whether the server's time has to be read periodically.
    pub(super) fn is_server_time(&self) -> bool {
        self.override_clock.is_none()
    }

    /// The server's time is at least this now. A value that is too low does no harm, and is corrected by later
    /// readings.
    pub(super) fn set(&self, millis: u64) {
        *lock(&self.reading) = Some((millis, Instant::now()));
    }

    /// The time is at least this: has no effect if a later time is known.
    pub(super) fn advance_to(&self, millis: u64) {
        if millis > self.now() {
            self.set(millis);
        }
    }

    /// The current time, given a message with this stamp. With an override clock, a node with a wrong clock may have
    /// written the message: then nothing counts as older than the stamp says.
    pub(super) fn since(&self, stamp: u64) -> u64 {
        let now = self.now();
        if self.is_server_time() { now } else { now.max(stamp) }
    }

    /// Unix milliseconds.
    pub(super) fn now(&self) -> u64 {
        if let Some(clock) = &self.override_clock {
            return clock.now();
        }
        // Without a reading, nothing counts as old.
        let reading = lock(&self.reading).map_or(0, |(millis, then)| millis.saturating_add(elapsed(then)));
        self.latest.fetch_max(reading, Ordering::Relaxed).max(reading)
    }
}

fn elapsed(then: Instant) -> u64 {
    u64::try_from(then.elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// The Unix milliseconds of a server's timestamp such as `2026-11-29T01:04:51.123456789Z`, with any number of digits
/// (RFC 3339, always UTC).
pub(super) fn unix_millis(text: &str) -> Option<u64> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let [year, month, day] = numbers(date, '-')?;
    let (time, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let [hour, minute, second] = numbers(time, ':')?;
    if !(1970..10_000).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let millis = format!("{fraction:0<3}").get(..3)?.parse::<u64>().ok()?;
    Some((((days(year, month, day) * 24 + hour) * 60 + minute) * 60 + second) * 1000 + millis)
}

fn numbers(text: &str, between: char) -> Option<[u64; 3]> {
    let numbers: Option<Vec<u64>> = text.split(between).map(|number| number.parse().ok()).collect();
    numbers?.try_into().ok()
}

/// Days since 1970-01-01, with years that start in March, so that a leap day is the last day of its year.
fn days(year: u64, month: u64, day: u64) -> u64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + day - 1 - 719_468
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use super::*;

    #[test]
    fn timestamps_of_servers_are_parsed() {
        for (text, millis) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2026-11-29T01:04:51.123456789Z", 1_795_914_291_123),
            ("2024-02-29T23:59:59.5Z", 1_709_251_199_500),
            ("2000-03-01T00:00:00.000Z", 951_868_800_000),
            ("2100-03-01T00:00:00Z", 4_107_542_400_000),
        ] {
            assert_eq!(unix_millis(text), Some(millis), "{text}");
        }
        for bad in ["", "2026", "2026-11-29T01:04:51", "2026-11-29T01:04Z", "2026-13-29T01:04:51Z", "x-1-1T0:0:0Z"] {
            assert_eq!(unix_millis(bad), None, "{bad}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn time_continues_from_the_last_reading_and_never_goes_back() {
        let time = ServerClock::new(None);
        assert_eq!(time.now(), 0);
        time.set(1_000);
        tokio::time::advance(Duration::from_millis(50)).await;
        assert_eq!(time.now(), 1_050);
        // Another server's clock is behind.
        time.set(500);
        assert_eq!(time.now(), 1_050);
        tokio::time::advance(Duration::from_millis(600)).await;
        assert_eq!(time.now(), 1_100);
        // Time continues although an old stamp is read repeatedly.
        for _ in 0..10 {
            time.advance_to(1_000);
            tokio::time::advance(Duration::from_millis(10)).await;
        }
        assert_eq!(time.now(), 1_200);
        time.advance_to(2_000);
        assert_eq!(time.now(), 2_000);
        let override_clock = Arc::new(AtomicU64::new(9));
        let moved = Arc::clone(&override_clock);
        let time = ServerClock::new(Some(Clock::new(move || moved.load(Ordering::Relaxed))));
        time.set(1_000);
        override_clock.store(7, Ordering::Relaxed);
        assert_eq!(time.now(), 7);
    }
}
