//! Durations, counted by their size.

use std::{
    array, fmt,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

/// How many durations lay between two [bounds](Self::BOUNDS), and their sum.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Histogram {
    buckets: [Bucket; Histogram::BOUNDS.len() + 1],
}

/// The durations between two bounds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Bucket {
    /// How many.
    pub count: u64,
    /// Their sum.
    pub sum: Duration,
}

impl Histogram {
    /// The upper bounds of the buckets; each belongs to its bucket. One more holds what is longer than the last bound.
    pub const BOUNDS: [Duration; 16] = [
        Duration::from_micros(100),
        Duration::from_micros(250),
        Duration::from_micros(500),
        Duration::from_millis(1),
        Duration::from_micros(2_500),
        Duration::from_millis(5),
        Duration::from_millis(10),
        Duration::from_millis(25),
        Duration::from_millis(50),
        Duration::from_millis(100),
        Duration::from_millis(250),
        Duration::from_millis(500),
        Duration::from_secs(1),
        Duration::from_millis(2_500),
        Duration::from_secs(5),
        Duration::from_secs(10),
    ];

    /// The buckets, from the shortest durations to the longest.
    pub fn buckets(&self) -> impl ExactSizeIterator<Item = Bucket> {
        self.buckets.iter().copied()
    }

    /// How many durations there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(|bucket| bucket.count).sum()
    }

    /// Their sum.
    #[must_use]
    pub fn sum(&self) -> Duration {
        self.buckets.iter().fold(Duration::ZERO, |sum, bucket| sum.saturating_add(bucket.sum))
    }

    /// The upper bound of the bucket in which the `quantile` lies, 0.0 to 1.0: that many of the durations are at most this long.
    /// `None` when there were none; the last bound when it is longer than that.
    #[must_use]
    pub fn quantile(&self, quantile: f64) -> Option<Duration> {
        let count = self.count();
        let rank = (quantile.clamp(0.0, 1.0) * count as f64).ceil() as u64;
        let mut below = 0;
        let reaches = |bucket: &Bucket| {
            below += bucket.count;
            below >= rank.max(1)
        };
        let index = self.buckets.iter().position(reaches)?;
        Self::BOUNDS.get(index).or(Self::BOUNDS.last()).copied()
    }

    /// What was added since `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let difference = |(now, then): (Bucket, Bucket)| Bucket {
            count: now.count.saturating_sub(then.count),
            sum: now.sum.saturating_sub(then.sum),
        };
        let mut buckets = self.buckets().zip(earlier.buckets()).map(difference);
        Self { buckets: array::from_fn(|_| buckets.next().unwrap_or_default()) }
    }
}

impl fmt::Debug for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Histogram").field("count", &self.count()).field("sum", &self.sum()).finish_non_exhaustive()
    }
}

/// Counts durations. Nothing else depends on the counts, so that their order does not matter.
#[derive(Debug, Default)]
pub(in crate::hub) struct AtomicHistogram {
    buckets: [AtomicBucket; Histogram::BOUNDS.len() + 1],
}

#[derive(Debug, Default)]
struct AtomicBucket {
    count: AtomicU64,
    nanos: AtomicU64,
}

impl AtomicHistogram {
    pub(in crate::hub) fn record(&self, duration: Duration) {
        let index = Histogram::BOUNDS.partition_point(|bound| *bound < duration);
        let Some(bucket) = self.buckets.get(index) else { return };
        bucket.count.fetch_add(1, Relaxed);
        bucket.nanos.fetch_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX), Relaxed);
    }

    pub(in crate::hub) fn load(&self) -> Histogram {
        let load = |bucket: &AtomicBucket| Bucket {
            count: bucket.count.load(Relaxed),
            sum: Duration::from_nanos(bucket.nanos.load(Relaxed)),
        };
        Histogram { buckets: self.buckets.each_ref().map(load) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_counted_between_their_bounds() {
        let histogram = AtomicHistogram::default();
        assert_eq!(histogram.load().quantile(0.5), None);
        let millis = Duration::from_millis;
        for duration in [Duration::ZERO, millis(1), millis(1), Duration::from_micros(1_001), Duration::from_secs(60)] {
            histogram.record(duration);
        }
        let first = histogram.load();
        let counts: Vec<_> = first.buckets().map(|bucket| bucket.count).collect();
        assert_eq!(counts, [1, 0, 0, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        assert_eq!((first.count(), first.sum()), (5, Duration::from_micros(60_003_001)));
        let quantiles = [0.0, 0.2, 0.5, 0.8, 1.0].map(|quantile| first.quantile(quantile).unwrap());
        let longest = Duration::from_secs(10);
        assert_eq!(
            quantiles,
            [Duration::from_micros(100), Duration::from_micros(100), millis(1), Duration::from_micros(2_500), longest]
        );
        histogram.record(millis(7));
        let since = histogram.load().since(&first);
        assert_eq!((since.count(), since.sum(), since.quantile(1.0)), (1, millis(7), Some(millis(10))));
    }
}
