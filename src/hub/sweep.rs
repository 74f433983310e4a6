//! When a list of weak references is looked through for those that are void. Pure.

/// How long such a list may become before it is looked through.
#[derive(Debug, Default)]
pub(super) struct SweepThreshold(usize);

impl SweepThreshold {
    /// Before one is added to `list`: looks it through by `retain` when it is long. The next time is when it is twice as long as
    /// what is left, so that adding one stays O(1) on average and the void ones are never the most.
    pub(super) fn before_adding<L>(&mut self, list: &mut L, length: impl Fn(&L) -> usize, retain: impl FnOnce(&mut L)) {
        if length(list) >= self.0 {
            retain(list);
            self.0 = 2 * length(list) + SMALL;
        }
    }
}

/// So few are not worth a look.
const SMALL: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    /// How many were looked at while `count` were added of which `void` of 100 are void at once, and the longest list.
    fn add(count: usize, void: usize) -> (usize, usize) {
        let (mut above, mut list, mut looked, mut longest) = (SweepThreshold::default(), Vec::new(), 0, 0);
        for n in 0..count {
            above.before_adding(&mut list, Vec::len, |list| {
                looked += list.len();
                list.retain(|is_void: &bool| !is_void);
            });
            list.push(n % 100 < void);
            longest = longest.max(list.len());
        }
        (looked, longest)
    }

    #[test]
    fn what_is_void_goes_and_looking_for_it_costs_little() {
        for (void, valid) in [(0, 10_000), (50, 5_000), (100, 0)] {
            let (looked, longest) = add(10_000, void);
            assert!(looked <= 2 * 10_000, "{void}: {looked} looked at");
            assert!(longest <= 2 * valid + 100, "{void}: {longest} kept");
        }
    }
}
