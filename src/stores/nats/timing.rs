//! Waiting with bounds and jitter.

use std::time::Duration;

use tokio::time::Instant;

use super::error::unavailable;
use crate::store::StoreError;

/// A random duration between half of this and all of it.
pub(super) fn jittered(most: Duration) -> Duration {
    most.mul_f64(0.5 + fastrand::f64() / 2.0)
}

/// Awaits something that changes nothing, and gives up at the deadline.
pub(super) async fn in_time<T>(
    deadline: Instant,
    ask: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    tokio::time::timeout_at(deadline, ask).await.unwrap_or_else(|_| Err(unavailable("no response in time")))
}

pub(super) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(i64::MAX as u64)
}
