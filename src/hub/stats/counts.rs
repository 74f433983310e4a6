//! Counts by a label.

use std::{
    array, fmt,
    marker::PhantomData,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use super::labels::Label;

/// A count for each value of a [`Label`].
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Counts<L> {
    by_index: [u64; MAX_VALUES],
    label: PhantomData<L>,
}

/// The most values of a label.
pub(super) const MAX_VALUES: usize = 12;

impl<L: Label> Counts<L> {
    /// The count of one value.
    #[must_use]
    pub fn of(&self, label: L) -> u64 {
        self.by_index.get(label.index()).copied().unwrap_or(0)
    }

    /// The sum over all values.
    #[must_use]
    pub fn sum(&self) -> u64 {
        self.by_index.iter().fold(0, |sum, count| sum.wrapping_add(*count))
    }

    /// Every value with its count.
    pub fn iter(&self) -> impl Iterator<Item = (L, u64)> {
        L::ALL.iter().map(|label| (*label, self.of(*label)))
    }

    pub(in crate::hub) fn from_fn(count: impl Fn(L) -> u64) -> Self {
        let count = |index| L::ALL.get(index).map_or(0, |label| count(*label));
        Self { by_index: array::from_fn(count), label: PhantomData }
    }
}

impl<L> Default for Counts<L> {
    fn default() -> Self {
        Self { by_index: [0; MAX_VALUES], label: PhantomData }
    }
}

impl<L: Label> fmt::Debug for Counts<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter().filter(|(_, count)| *count > 0)).finish()
    }
}

/// Counters for each value of a label. Nothing else depends on the counts, so that their order does not matter.
pub(in crate::hub) struct LabelledCounters<L> {
    by_index: [AtomicU64; MAX_VALUES],
    label: PhantomData<L>,
}

impl<L: Label> LabelledCounters<L> {
    pub(in crate::hub) fn add(&self, label: L, count: u64) {
        if let Some(counter) = self.by_index.get(label.index()) {
            counter.fetch_add(count, Relaxed);
        }
    }

    pub(in crate::hub) fn subtract(&self, label: L, count: u64) {
        if let Some(counter) = self.by_index.get(label.index()) {
            counter.fetch_sub(count, Relaxed);
        }
    }

    pub(in crate::hub) fn load(&self) -> Counts<L> {
        let load = |label: L| self.by_index.get(label.index()).map_or(0, |counter| counter.load(Relaxed));
        Counts::from_fn(load)
    }
}

impl<L> Default for LabelledCounters<L> {
    fn default() -> Self {
        Self { by_index: array::from_fn(|_| AtomicU64::new(0)), label: PhantomData }
    }
}

impl<L: Label> fmt::Debug for LabelledCounters<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.load().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Reason;

    #[test]
    fn each_value_is_counted_apart() {
        let counters = LabelledCounters::default();
        counters.add(Reason::Trimmed, 2);
        counters.add(Reason::Unknown, 3);
        counters.subtract(Reason::Unknown, 1);
        let counts: Counts<Reason> = counters.load();
        let counted: Vec<_> = counts.iter().filter(|(_, count)| *count > 0).collect();
        assert_eq!(counted, [(Reason::Trimmed, 2), (Reason::Unknown, 2)]);
        assert_eq!((counts.sum(), counts.of(Reason::Unknown), counts.of(Reason::Ahead)), (4, 2, 0));
        assert_eq!(format!("{counts:?}"), "{Trimmed: 2, Unknown: 2}");
    }
}
