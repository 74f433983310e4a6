//! How often each subject publishes: a token bucket per subject.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::hub::{rate::Rate, sweep::SweepThreshold};

/// The buckets of the subjects that published within the last second.
#[derive(Debug, Default)]
pub(super) struct PublishRates(Mutex<Buckets>);

#[derive(Debug, Default)]
struct Buckets {
    /// When each subject's bucket is full again.
    full_at: HashMap<Box<str>, Instant>,
    sweep_threshold: SweepThreshold,
}

impl PublishRates {
    /// Takes one of the `per_second` tokens of `subject`, or says when there is one again.
    pub(super) fn take(&self, subject: &str, per_second: u32, now: Instant) -> Result<(), Duration> {
        if per_second == u32::MAX {
            return Ok(());
        }
        let Buckets { full_at, sweep_threshold } = &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // A bucket that is full is as good as none.
        sweep_threshold.before_adding(full_at, HashMap::len, |full_at| full_at.retain(|_, full_at| *full_at > now));
        let full = Rate::per_second(per_second).accept(1, full_at.get(subject).copied(), now)?;
        match full_at.get_mut(subject) {
            Some(known) => *known = full,
            None => _ = full_at.insert(subject.into(), full),
        }
        Ok(())
    }
}

#[cfg(all(test, not(tower_events_loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_second_has_as_many_tokens_and_each_comes_back_in_its_part_of_it() {
        let (rates, start) = (PublishRates::default(), Instant::now());
        let take = |subject: &str, ms| rates.take(subject, 4, start + Duration::from_millis(ms));
        assert_eq!([0; 4].map(|ms| take("ann", ms)), [Ok(()); 4]);
        assert_eq!(take("ann", 0), Err(Duration::from_millis(250)));
        assert_eq!(take("ann", 200), Err(Duration::from_millis(50)));
        assert_eq!(take("bob", 200), Ok(()));
        assert_eq!([take("ann", 250), take("ann", 250)], [Ok(()), Err(Duration::from_millis(250))]);
        assert_eq!([9_000; 4].map(|ms| take("ann", ms)), [Ok(()); 4]);
        assert_eq!(rates.take("ann", u32::MAX, start), Ok(()));
    }

    #[test]
    fn subjects_that_do_not_publish_take_no_memory() {
        let (rates, start) = (PublishRates::default(), Instant::now());
        for n in 0..10_000 {
            rates.take(&n.to_string(), 1, start + Duration::from_millis(n * 10)).unwrap();
        }
        assert!(rates.0.lock().unwrap().full_at.len() < 400);
    }
}
