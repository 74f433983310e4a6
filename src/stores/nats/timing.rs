//! Bounded and jittered waiting.

use std::time::Duration;

use tokio::time::Instant;

use super::error::unavailable;
use crate::store::StoreError;

/// Between half of it and all of it.
pub(super) fn jittered(most: Duration) -> Duration {
    most.mul_f64(0.5 + fastrand::f64() / 2.0)
}

/// What changes nothing, given up when its time is over.
pub(super) async fn in_time<T>(by: Instant, ask: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    tokio::time::timeout_at(by, ask).await.unwrap_or_else(|_| Err(unavailable("no answer in time")))
}

pub(super) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(i64::MAX as u64)
}
