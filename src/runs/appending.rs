//! Appends whose outcome becomes known: repeated unchanged until the store says what happened.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use crate::{
    channel::Channel,
    hub::Hub,
    store::{Append, Appended, Store, StoreError},
};

/// Repeats `append` while the store is unavailable or does not know, for as long as `patience`. Its events have keys, so that a
/// repetition of what was stored changes nothing and says so.
pub(super) async fn append_surely<S: Store>(
    hub: &Hub<S>,
    channel: &Channel,
    append: &Append,
    patience: Duration,
) -> Result<Appended, StoreError> {
    let since = Instant::now();
    let mut attempt = 0;
    loop {
        let error = match append_once(hub, channel, append).await {
            Ok(appended) => return Ok(appended),
            Err(error) => error,
        };
        match pause(&error, attempt, since.elapsed(), patience) {
            Some(pause) => sleep(pause.mul_f64(0.5 + fastrand::f64() / 2.0)).await,
            None => return Err(error),
        }
        attempt += 1;
    }
}

/// One attempt; one that takes too long has an unknown outcome.
pub(super) async fn append_once<S: Store>(
    hub: &Hub<S>,
    channel: &Channel,
    append: &Append,
) -> Result<Appended, StoreError> {
    match timeout(LONGEST_APPEND, hub.append(channel, append.clone())).await {
        Ok(result) => result,
        Err(_) => Err(StoreError::Unknown("the append took too long".into())),
    }
}

/// How long one append may take.
const LONGEST_APPEND: Duration = Duration::from_secs(10);

/// How long to wait before repeating; `None` if that is pointless, or `spent` exceeds `patience`.
fn pause(error: &StoreError, attempt: u32, spent: Duration, patience: Duration) -> Option<Duration> {
    let (first, longest) = (Duration::from_millis(50), Duration::from_secs(2));
    let pause = first.saturating_mul(2_u32.saturating_pow(attempt)).min(longest);
    (error.is_retryable() && spent + pause <= patience).then_some(pause)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Head;

    #[test]
    fn an_append_is_repeated_with_growing_pauses_until_patience_ends() {
        let (unknown, unavailable) = (StoreError::Unknown("".into()), StoreError::Unavailable("".into()));
        let head = Head::open(crate::cursor::Cursor { epoch: 1, seq: 1, tag: 1 });
        let conflict = StoreError::Conflict { head };
        let table = [
            (&unknown, 0, 0, Some(50)),
            (&unavailable, 1, 50, Some(100)),
            (&unavailable, 5, 2_000, Some(1_600)),
            (&unavailable, 6, 5_000, Some(2_000)),
            (&unknown, u32::MAX, 8_000, Some(2_000)),
            (&unknown, 9, 8_001, None),
            (&conflict, 0, 0, None),
        ];
        for (error, attempt, spent, expected) in table {
            let pause = pause(error, attempt, Duration::from_millis(spent), Duration::from_secs(10));
            assert_eq!(pause.map(|pause| pause.as_millis()), expected, "{error:?} {attempt} {spent}");
        }
    }
}
