//! What things take in memory, as an allocator counts it: what they hold, what a collection has to spare, and about what
//! the allocator adds. Pure; collections that have become far too large are made smaller here.

use std::{
    borrow::Borrow,
    collections::{HashMap, VecDeque, hash_map::Entry},
    hash::Hash,
    ops::Deref,
};

use crate::{event::Event, store};

/// An allocation of so many bytes.
pub(super) fn allocation(bytes: usize) -> u64 {
    if bytes == 0 { 0 } else { (bytes + ALLOCATOR_HEADER).next_multiple_of(16).max(32) as u64 }
}

/// A shared text, such as a name or a key.
pub(super) fn shared_text(text: &str) -> u64 {
    allocation(ARC_COUNTERS + text.len())
}

/// What an entry holds beside its own place.
pub(super) fn entry(entry: &store::Entry) -> u64 {
    content(entry.data.len(), entry.name.as_ref().map(|name| name.as_str()))
}

/// What the entry that an event becomes will hold beside its own place.
pub(super) fn event(event: &Event) -> u64 {
    content(event.data().len(), event.name().map(|name| name.as_str()))
}

fn content(data: usize, name: Option<&str>) -> u64 {
    let shared = if data == 0 { 0 } else { SHARED_BYTES_HEADER };
    allocation(data) + shared + name.map_or(0, shared_text)
}

pub(super) fn deque<T>(deque: &VecDeque<T>) -> u64 {
    allocation(deque.capacity() * size_of::<T>())
}

/// The bytes that `more` items, pushed one by one, add to the allocation of a deque, which doubles when it is full.
pub(super) fn deque_growth<T>(full: &VecDeque<T>, more: usize) -> u64 {
    let (mut places, needed) = (full.capacity(), full.len() + more);
    while places < needed {
        places = (2 * places).max(LEAST_CAPACITY);
    }
    allocation(places * size_of::<T>()) - deque(full)
}

/// The bytes of the nodes of a sorted set of `names` names, if every node holds as few as it may.
pub(super) fn btree_set(names: usize) -> u64 {
    (names + ROOT_SLACK) as u64 * NAME_BYTES
}

/// Gives back what a deque no longer needs; costs little per item, for most of them have gone before it does anything.
pub(super) fn shrink_deque<T>(deque: &mut VecDeque<T>) {
    if deque.len() * MAX_PLACES_PER_ITEM < deque.capacity() {
        deque.shrink_to(deque.len() * 2);
    }
}

/// A map whose places are all counted, and which gives back those that it no longer needs.
pub(super) struct CountedMap<K, V> {
    items: HashMap<K, V>,
    /// How many places there were when an item was removed last: [`HashMap::capacity`] leaves out some of those that removed
    /// items had, until the map is made anew.
    places: usize,
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
        self.places = self.places();
        let removed = self.items.remove(key);
        if self.items.len() * MAX_PLACES_PER_ITEM < self.places {
            self.items.shrink_to(self.items.len() * 2);
            self.places = self.items.capacity();
        }
        removed
    }

    pub(super) fn heap_bytes(&self) -> u64 {
        self.bytes_for(self.places())
    }

    /// The bytes that `more` items add to the allocation of the map.
    pub(super) fn growth(&self, more: usize) -> u64 {
        let (places, needed) = (self.places(), self.items.len() + more);
        // At most half full, it is cleared of what removed items left.
        if needed <= self.items.capacity() || needed <= places / 2 {
            return 0;
        }
        self.bytes_for(needed.max(places + 1)) - self.heap_bytes()
    }

    fn places(&self) -> usize {
        self.places.max(self.items.capacity())
    }

    /// Seven of eight buckets are used at most; each has a byte of its own.
    fn bytes_for(&self, places: usize) -> u64 {
        if places == 0 {
            return 0;
        }
        let buckets = (places * 8).div_ceil(7).next_power_of_two().max(LEAST_BUCKETS);
        allocation(buckets * (size_of::<(K, V)>() + 1) + CONTROL_GROUP)
    }
}

impl<K, V> Default for CountedMap<K, V> {
    fn default() -> Self {
        Self { items: HashMap::new(), places: 0 }
    }
}

impl<K, V> Deref for CountedMap<K, V> {
    type Target = HashMap<K, V>;

    fn deref(&self) -> &Self::Target {
        &self.items
    }
}

/// What an allocator keeps of each allocation for itself.
const ALLOCATOR_HEADER: usize = 8;

/// The two counts of an `Arc`.
const ARC_COUNTERS: usize = 16;

/// The block that `Bytes` adds once it is cloned.
const SHARED_BYTES_HEADER: u64 = 32;

/// What a map keeps behind its buckets.
const CONTROL_GROUP: usize = 16;

/// The least that a map and a deque have.
const LEAST_BUCKETS: usize = 4;
const LEAST_CAPACITY: usize = 4;

/// The part of a name in the nodes of a set, of which each holds 5 to 11, and one of 6 or more has nodes below it.
pub(super) const NAME_BYTES: u64 = 48;

/// The root may hold fewer names than other nodes: it counts as the parts of this many.
const ROOT_SLACK: usize = 5;

/// A collection with more than this many places per item is made smaller.
const MAX_PLACES_PER_ITEM: usize = 4;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use allocation_counter::measure;

    use super::*;
    use crate::channel::Channel;

    /// How many bytes an act takes that leaves one block at most.
    fn taken(act: impl FnOnce()) -> i64 {
        measure(act).bytes_current
    }

    #[test]
    fn a_block_is_as_large_as_malloc_makes_it() {
        for (bytes, taken) in [(0, 0), (1, 32), (24, 32), (25, 48), (40, 48), (41, 64), (1000, 1008), (1001, 1024)] {
            assert_eq!(allocation(bytes), taken, "{bytes}");
        }
    }

    #[test]
    fn an_event_counts_its_datum_and_its_name() {
        for (data, name) in (0..100).flat_map(|data| [(data, 0), (data, 1), (data, 100 - data)]) {
            let (mut kept, mut shared) = (Event::text("x".repeat(data)), None);
            let clone = taken(|| shared = Some(kept.clone()));
            let named = match name {
                0 => 0,
                _ => taken(|| kept = shared.take().unwrap().named("n".repeat(name)).unwrap()),
            };
            let allocations = [data, clone as usize, named as usize].map(allocation);
            assert_eq!(event(&kept), allocations.iter().sum::<u64>(), "{data}, {name}: {allocations:?}");
        }
    }

    #[test]
    fn a_deque_counts_what_it_takes_and_foresees_its_growth() {
        for (few, more) in [0, 1, 3, 4, 5, 8, 9, 20].into_iter().flat_map(|few| (0..70).map(move |more| (few, more))) {
            let mut items = VecDeque::new();
            let mut bytes = taken(|| items.extend((0..few).map(|n| [n; 3])));
            let (before, growth) = (deque(&items), deque_growth(&items, more));
            bytes += taken(|| (0..more).for_each(|n| items.push_back([n; 3])));
            assert_eq!((deque(&items), before + growth), (allocation(bytes as usize), deque(&items)), "{few} and {more}");
        }
    }

    #[test]
    fn a_deque_has_at_most_four_places_for_each_item() {
        for (places, left, places_after) in [(16, 16, 16), (16, 4, 16), (16, 3, 6), (16, 1, 2), (16, 0, 0), (0, 0, 0)] {
            let mut items = VecDeque::with_capacity(places);
            items.extend(0..left);
            shrink_deque(&mut items);
            assert_eq!(items.capacity(), places_after, "{left} of {places}");
        }
    }

    #[test]
    fn a_table_foresees_its_growth() {
        for (few, more) in
            [0, 1, 3, 4, 7, 8, 14, 15, 28].into_iter().flat_map(|few| (0..70).map(move |more| (few, more)))
        {
            let mut map = CountedMap::default();
            (0..few).for_each(|n| map.insert(n, [n; 3]));
            let foreseen = map.heap_bytes() + map.growth(more);
            (few..few + more).for_each(|n| map.insert(n, [n; 3]));
            assert_eq!(map.heap_bytes(), foreseen, "{few} and {more}");
        }
    }

    #[test]
    fn a_table_counts_what_it_takes_however_often_its_items_change() {
        for (stays, rounds) in [(0, 10), (1, 10), (7, 100), (28, 1_000), (447, 30_000), (500, 10_000), (896, 5_000)] {
            let (mut map, mut bytes) = (CountedMap::default(), 0);
            for n in 0..rounds {
                let (before, growth) = (map.heap_bytes(), map.growth(1));
                bytes += taken(|| map.insert(n, n));
                assert!(map.heap_bytes() <= before + growth, "{stays}, {n}: {before} and {growth}");
                assert!(n < 896 || stays != 447 || growth == 0, "half full, and to grow by {growth}");
                if n >= stays {
                    bytes += taken(|| assert_eq!(map.remove(&(n - stays)), Some(n - stays)));
                }
                assert_eq!(map.heap_bytes(), allocation(bytes as usize), "{stays}, {n}");
            }
        }
    }

    #[test]
    fn a_table_has_at_most_four_places_for_each_item() {
        let mut map = CountedMap::default();
        (0..896).for_each(|n| map.insert(n, n));
        let mut sizes = vec![(896, map.heap_bytes())];
        for n in 0..896 {
            map.remove(&n);
            if sizes.last().unwrap().1 != map.heap_bytes() {
                sizes.push((map.len(), map.heap_bytes()));
            }
        }
        let places = |places: usize| allocation(places * 8 / 7 * 9 + CONTROL_GROUP);
        assert_eq!(sizes[..3], [(896, places(896)), (223, places(448)), (111, places(224))]);
        assert_eq!(sizes.last(), Some(&(0, 0)));
    }

    #[test]
    fn the_names_of_a_set_count_what_their_nodes_take() {
        for count in (0..100).chain([500, 1_000, 5_000]) {
            let names: Vec<_> = (0..count).map(|n| Channel::new(format!("{n:06}")).unwrap()).collect();
            let mut names_set = BTreeSet::new();
            let real = measure(|| {
                names_set.extend(names.iter().cloned());
                // Added in a row, nodes hold six; now they hold five.
                names.iter().step_by(7).for_each(|name| _ = names_set.remove(name));
            });
            let real = real.bytes_current as u64 + real.count_current as u64 * 16;
            let counted_bytes = btree_set(names_set.len());
            assert!((real..=real * 4 / 3 + 500).contains(&counted_bytes), "{count}: {real}, and {counted_bytes} counted");
        }
    }
}
