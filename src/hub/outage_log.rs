//! What is logged of the outages of a store or a snapshot provider: one line when the first kind of call begins to fail, one a
//! minute for all kinds while any goes on, and one when all succeed again.

use std::{
    error::Error,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

#[derive(Debug)]
pub(super) struct OutageLog {
    /// What is called.
    callee: &'static str,
    going_on: Mutex<Option<GoingOn>>,
}

#[derive(Debug)]
struct GoingOn {
    since: Instant,
    logged: Instant,
    failures: u64,
    /// The kinds of calls whose last one failed, and those that succeed again, in the order of their first failures.
    failing: Vec<&'static str>,
    recovered: Vec<&'static str>,
}

/// What a line says of an outage.
#[must_use]
pub(super) struct Line {
    callee: &'static str,
    calls: String,
    failures: u64,
    seconds: u64,
}

impl OutageLog {
    pub(super) fn of_store() -> Self {
        Self::of("the event store")
    }

    pub(super) fn of_snapshots() -> Self {
        Self::of("a snapshot provider")
    }

    fn of(callee: &'static str) -> Self {
        Self { callee, going_on: Mutex::default() }
    }

    /// Records a failed call; returns the line if one is due. Calls of each kind must be recorded one after another.
    pub(super) fn failed(&self, calls: &'static str) -> Option<Line> {
        let now = Instant::now();
        let mut going_on = self.going_on.lock().unwrap_or_else(PoisonError::into_inner);
        let is_first = going_on.is_none();
        let outage = going_on.get_or_insert_with(|| GoingOn::new(now));
        outage.failures += 1;
        outage.recovered.retain(|kind| *kind != calls);
        if !outage.failing.contains(&calls) {
            outage.failing.push(calls);
        }
        if !is_first && now.duration_since(outage.logged) < EVERY {
            return None;
        }
        outage.logged = now;
        Some(outage.line(self.callee, &outage.failing, now))
    }

    /// Records the first call of a kind that succeeded again; returns the line if it was the last kind that failed.
    pub(super) fn recovered(&self, calls: &'static str) -> Option<Line> {
        let mut going_on = self.going_on.lock().unwrap_or_else(PoisonError::into_inner);
        let outage = going_on.as_mut()?;
        outage.failing.retain(|kind| *kind != calls);
        outage.recovered.push(calls);
        if !outage.failing.is_empty() {
            return None;
        }
        let ended = going_on.take()?;
        Some(ended.line(self.callee, &ended.recovered, Instant::now()))
    }
}

impl GoingOn {
    fn new(now: Instant) -> Self {
        Self { since: now, logged: now, failures: 0, failing: Vec::new(), recovered: Vec::new() }
    }

    fn line(&self, callee: &'static str, calls: &[&str], now: Instant) -> Line {
        let seconds = now.duration_since(self.since).as_secs();
        Line { callee, calls: calls.join(", "), failures: self.failures, seconds }
    }
}

impl Line {
    pub(super) fn warn(self, error: &(dyn Error + 'static)) {
        let Self { callee, calls, failures, seconds } = self;
        tracing::warn!(
            calls,
            failures,
            seconds,
            %error,
            source = error.source(),
            "{callee} fails; while it does, this is logged once a minute"
        );
    }

    pub(super) fn info(self) {
        let Self { callee, calls, failures, seconds } = self;
        tracing::info!(calls, failures, seconds, "{callee} answers again");
    }
}

/// How often it is logged that an outage goes on.
const EVERY: Duration = Duration::from_secs(60);
