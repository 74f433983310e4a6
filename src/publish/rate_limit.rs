//! Bounds how many events a second a service accepts.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::hub::Rate;

/// A rate that the clones of a service share.
#[derive(Debug)]
pub(super) struct RateLimit {
    rate: Rate,
    spread_until: Mutex<Option<Instant>>,
}

impl RateLimit {
    pub(super) fn new(events_per_second: u32) -> Self {
        Self { rate: Rate::per_second(events_per_second), spread_until: Mutex::new(None) }
    }

    /// Accepts these events together, whatever their number, unless too many were accepted before.
    ///
    /// # Errors
    /// When to try again.
    pub(super) fn accept(&self, events: usize, now: Instant) -> Result<(), Duration> {
        let mut spread_until = self.spread_until.lock().unwrap_or_else(PoisonError::into_inner);
        *spread_until = Some(self.rate.accept(events, *spread_until, now)?);
        Ok(())
    }
}
