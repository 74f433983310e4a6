//! When to remove the void items from a list of weak references. Pure.

/// The length at which a list is swept next.
#[derive(Debug, Default)]
pub(super) struct SweepThreshold(usize);

impl SweepThreshold {
    /// Call before an item is added to `list`: sweeps it with `retain` if it has become long. The next sweep is due at twice
    /// the length that is left, so that adding stays O(1) amortised and void items never outnumber the others for long.
    pub(super) fn before_adding<L>(&mut self, list: &mut L, length: impl Fn(&L) -> usize, retain: impl FnOnce(&mut L)) {
        if length(list) >= self.0 {
            retain(list);
            self.0 = 2 * length(list) + MIN_LENGTH;
        }
    }
}

/// A list shorter than this is not worth a sweep.
const MIN_LENGTH: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    /// Adds 10,000 items, of which those at some indices are void at once; returns how many were examined.
    fn add(is_void: impl Fn(usize) -> bool) -> usize {
        let (mut threshold, mut list, mut valid, mut examined) = (SweepThreshold::default(), Vec::new(), 0, 0);
        for index in 0..10_000 {
            threshold.before_adding(&mut list, Vec::len, |list| {
                examined += list.len();
                list.retain(|is_void: &bool| !is_void);
            });
            list.push(is_void(index));
            valid += usize::from(!is_void(index));
            assert!(list.len() <= 2 * valid + MIN_LENGTH, "{} kept for {valid}", list.len());
        }
        examined
    }

    #[test]
    fn void_items_are_removed_at_little_cost() {
        let examined = [add(|_| false), add(|index| index % 100 < 50), add(|index| index >= 1_000), add(|_| true)];
        assert!(examined.iter().all(|examined| *examined <= 2 * 10_000), "{examined:?}");
    }
}
