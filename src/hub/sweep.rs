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

    /// Adds `count` items, of which `void` in 100 are void at once; returns how many were examined, and the greatest length.
    fn add(count: usize, void: usize) -> (usize, usize) {
        let (mut threshold, mut list, mut examined, mut longest) = (SweepThreshold::default(), Vec::new(), 0, 0);
        for n in 0..count {
            threshold.before_adding(&mut list, Vec::len, |list| {
                examined += list.len();
                list.retain(|is_void: &bool| !is_void);
            });
            list.push(n % 100 < void);
            longest = longest.max(list.len());
        }
        (examined, longest)
    }

    #[test]
    fn void_items_are_removed_at_little_cost() {
        for (void, valid) in [(0, 10_000), (50, 5_000), (100, 0)] {
            let (examined, longest) = add(10_000, void);
            assert!(examined <= 2 * 10_000, "{void}: {examined} examined");
            assert!(longest <= 2 * valid + 100, "{void}: {longest} kept");
        }
    }
}
