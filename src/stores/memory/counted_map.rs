//! A hash map that counts what it takes on the heap.

use std::{
    borrow::Borrow,
    collections::{HashMap, hash_map::Entry},
    hash::Hash,
    ops::Deref,
};

use super::heap_size::{MAX_SLOTS_PER_ITEM, allocation};

/// A map that knows its allocation, and frees slots that it no longer needs.
pub(super) struct CountedMap<K, V> {
    items: HashMap<K, V>,
    /// The slots at the last removal: [`HashMap::capacity`] leaves out some that removed items had, until the map
    /// reallocates.
    slots: usize,
}

impl<K: Eq + Hash, V> CountedMap<K, V> {
    pub(super) fn insert(&mut self, key: K, item: V) {
        self.items.insert(key, item);
    }

    pub(super) fn entry(&mut self, key: K) -> Entry<'_, K, V> {
        self.items.entry(key)
    }

    pub(super) fn get_mut<Q: Eq + Hash + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        self.items.get_mut(key)
    }

    pub(super) fn remove(&mut self, key: &K) -> Option<V> {
        self.slots = self.slots();
        let removed = self.items.remove(key);
        if self.items.len() * MAX_SLOTS_PER_ITEM < self.slots {
            self.items.shrink_to(self.items.len() * 2);
            self.slots = self.items.capacity();
        }
        removed
    }

    pub(super) fn heap_bytes(&self) -> u64 {
        self.bytes_for(self.slots())
    }

    /// By how many bytes `more` items grow the allocation of the map.
    pub(super) fn growth(&self, more: usize) -> u64 {
        let (slots, needed) = (self.slots(), self.items.len() + more);
        // A map that is at most half full reuses the slots of removed items instead of growing.
        if needed <= self.items.capacity() || needed <= slots / 2 {
            return 0;
        }
        self.bytes_for(needed.max(slots + 1)) - self.heap_bytes()
    }

    fn slots(&self) -> usize {
        self.slots.max(self.items.capacity())
    }

    /// At most seven of eight buckets are used; each has a control byte.
    fn bytes_for(&self, slots: usize) -> u64 {
        if slots == 0 {
            return 0;
        }
        let buckets = (slots * 8).div_ceil(7).next_power_of_two().max(MIN_BUCKETS);
        allocation(buckets * (size_of::<(K, V)>() + 1) + CONTROL_GROUP)
    }
}

impl<K, V> Default for CountedMap<K, V> {
    fn default() -> Self {
        Self { items: HashMap::new(), slots: 0 }
    }
}

impl<K, V> Deref for CountedMap<K, V> {
    type Target = HashMap<K, V>;

    fn deref(&self) -> &Self::Target {
        &self.items
    }
}

/// The control bytes that a map keeps after those of its buckets.
const CONTROL_GROUP: usize = 16;

/// The least that a map allocates.
const MIN_BUCKETS: usize = 4;

#[cfg(test)]
mod tests {
    use allocation_counter::measure;

    use super::*;

    /// The bytes that `act` leaves allocated, in one block at most.
    fn allocated(act: impl FnOnce()) -> i64 {
        measure(act).bytes_current
    }

    #[test]
    fn a_map_predicts_its_growth() {
        for (few, more) in
            [0, 1, 3, 4, 7, 8, 14, 15, 28].into_iter().flat_map(|few| (0..70).map(move |more| (few, more)))
        {
            let mut map = CountedMap::default();
            (0..few).for_each(|n| map.insert(n, [n; 3]));
            let predicted = map.heap_bytes() + map.growth(more);
            (few..few + more).for_each(|n| map.insert(n, [n; 3]));
            assert_eq!(map.heap_bytes(), predicted, "{few} and {more}");
        }
    }

    #[test]
    fn a_map_counts_its_allocation_however_often_its_items_change() {
        for (stays, rounds) in [(0, 10), (1, 10), (7, 100), (28, 1_000), (447, 30_000), (500, 10_000), (896, 5_000)] {
            let (mut map, mut bytes) = (CountedMap::default(), 0);
            for n in 0..rounds {
                let (before, growth) = (map.heap_bytes(), map.growth(1));
                bytes += allocated(|| map.insert(n, n));
                assert!(map.heap_bytes() <= before + growth, "{stays}, {n}: {before} and {growth}");
                assert!(n < 896 || stays != 447 || growth == 0, "half full, and to grow by {growth}");
                if n >= stays {
                    bytes += allocated(|| assert_eq!(map.remove(&(n - stays)), Some(n - stays)));
                }
                assert_eq!(map.heap_bytes(), allocation(bytes as usize), "{stays}, {n}");
            }
        }
    }

    #[test]
    fn a_map_has_at_most_four_slots_per_item() {
        let mut map = CountedMap::default();
        (0..896).for_each(|n| map.insert(n, n));
        let mut sizes = vec![(896, map.heap_bytes())];
        for n in 0..896 {
            map.remove(&n);
            if sizes.last().unwrap().1 != map.heap_bytes() {
                sizes.push((map.len(), map.heap_bytes()));
            }
        }
        let slots = |slots: usize| allocation(slots * 8 / 7 * 9 + CONTROL_GROUP);
        assert_eq!(sizes[..3], [(896, slots(896)), (223, slots(448)), (111, slots(224))]);
        assert_eq!(sizes.last(), Some(&(0, 0)));
    }
}
