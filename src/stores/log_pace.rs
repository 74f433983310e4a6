//! How often it is logged that something keeps failing: at once, and then once a minute.

use std::time::Duration;

use tokio::time::Instant;

#[derive(Default)]
pub(super) struct LogPace {
    last: Option<Instant>,
}

impl LogPace {
    /// Whether this failure is to be logged.
    pub(super) fn is_due(&mut self) -> bool {
        let now = Instant::now();
        let is_due = self.last.is_none_or(|last| now.duration_since(last) >= EVERY);
        if is_due {
            self.last = Some(now);
        }
        is_due
    }
}

const EVERY: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_first_failure_is_logged_and_then_one_a_minute() {
        let mut pace = LogPace::default();
        let mut logged = Vec::new();
        for second in 0..180 {
            if pace.is_due() {
                logged.push(second);
            }
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        assert_eq!(logged, [0, 60, 120]);
    }
}
