//! What values take on the heap, as an allocator counts it: their contents, the spare capacity of collections, and
//! roughly what the allocator adds. Also shrinks collections that are mostly empty.

use std::collections::VecDeque;

use crate::{event::Event, store};

/// An allocation of this many bytes.
pub(super) fn allocation(bytes: usize) -> u64 {
    if bytes == 0 { 0 } else { (bytes + ALLOCATOR_HEADER).next_multiple_of(16).max(32) as u64 }
}

/// A reference-counted text, such as a name or a key.
pub(super) fn shared_text(text: &str) -> u64 {
    allocation(ARC_COUNTERS + text.len())
}

/// What an entry allocates.
pub(super) fn entry(entry: &store::Entry) -> u64 {
    content(entry.data.len(), entry.name.as_ref().map(|name| name.as_str()))
}

/// What the entry made of this event will allocate.
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

/// By how many bytes pushing `more` items one by one grows the allocation of a deque, which doubles when it is full.
pub(super) fn deque_growth<T>(full: &VecDeque<T>, more: usize) -> u64 {
    let (mut slots, needed) = (full.capacity(), full.len() + more);
    while slots < needed {
        slots = (2 * slots).max(MIN_CAPACITY);
    }
    allocation(slots * size_of::<T>()) - deque(full)
}

/// The nodes of a sorted set of `names` names, if every node holds as few as it may.
pub(super) fn btree_set(names: usize) -> u64 {
    (names + ROOT_SLACK) as u64 * NAME_BYTES
}

/// Frees slots that a deque no longer needs. Cheap per item, since it acts only after most items have gone.
pub(super) fn shrink_deque<T>(deque: &mut VecDeque<T>) {
    if deque.len() * MAX_SLOTS_PER_ITEM < deque.capacity() {
        deque.shrink_to(deque.len() * 2);
    }
}

/// What an allocator adds to each allocation.
const ALLOCATOR_HEADER: usize = 8;

/// The two counters of an `Arc`.
const ARC_COUNTERS: usize = 16;

/// The block that `Bytes` allocates once it is cloned.
const SHARED_BYTES_HEADER: u64 = 32;

/// The least that a deque allocates.
const MIN_CAPACITY: usize = 4;

/// The share of a name in the nodes of a set: each node holds 5 to 11, and one of 6 or more has nodes below it.
pub(super) const NAME_BYTES: u64 = 48;

/// The root may hold fewer names than other nodes: it counts as this many names.
const ROOT_SLACK: usize = 5;

/// A collection with more slots per item than this is shrunk.
pub(super) const MAX_SLOTS_PER_ITEM: usize = 4;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use allocation_counter::measure;

    use super::*;
    use crate::channel::Channel;

    /// The bytes that `act` leaves allocated, in one block at most.
    fn allocated(act: impl FnOnce()) -> i64 {
        measure(act).bytes_current
    }

    #[test]
    fn an_allocation_is_as_large_as_malloc_makes_it() {
        for (bytes, size) in [(0, 0), (1, 32), (24, 32), (25, 48), (40, 48), (41, 64), (1000, 1008), (1001, 1024)] {
            assert_eq!(allocation(bytes), size, "{bytes}");
        }
    }

    #[test]
    fn an_event_counts_its_data_and_its_name() {
        for (data, name) in (0..100).flat_map(|data| [(data, 0), (data, 1), (data, 100 - data)]) {
            let (mut kept, mut shared) = (Event::text("x".repeat(data)), None);
            let clone = allocated(|| shared = Some(kept.clone()));
            let named = match name {
                0 => 0,
                _ => allocated(|| kept = shared.take().unwrap().named("n".repeat(name)).unwrap()),
            };
            let allocations = [data, clone as usize, named as usize].map(allocation);
            assert_eq!(event(&kept), allocations.iter().sum::<u64>(), "{data}, {name}: {allocations:?}");
        }
    }

    #[test]
    fn a_deque_counts_its_allocation_and_predicts_its_growth() {
        for (few, more) in [0, 1, 3, 4, 5, 8, 9, 20].into_iter().flat_map(|few| (0..70).map(move |more| (few, more))) {
            let mut items = VecDeque::new();
            let mut bytes = allocated(|| items.extend((0..few).map(|n| [n; 3])));
            let (before, growth) = (deque(&items), deque_growth(&items, more));
            bytes += allocated(|| (0..more).for_each(|n| items.push_back([n; 3])));
            assert_eq!(
                (deque(&items), before + growth),
                (allocation(bytes as usize), deque(&items)),
                "{few} and {more}"
            );
        }
    }

    #[test]
    fn a_deque_has_at_most_four_slots_per_item() {
        for (slots, left, slots_after) in [(16, 16, 16), (16, 4, 16), (16, 3, 6), (16, 1, 2), (16, 0, 0), (0, 0, 0)] {
            let mut items = VecDeque::with_capacity(slots);
            items.extend(0..left);
            shrink_deque(&mut items);
            assert_eq!(items.capacity(), slots_after, "{left} of {slots}");
        }
    }

    #[test]
    fn a_set_of_names_counts_its_nodes() {
        for count in (0..100).chain([500, 1_000, 5_000]) {
            let names: Vec<_> = (0..count).map(|n| Channel::new(format!("{n:06}")).unwrap()).collect();
            let mut names_set = BTreeSet::new();
            let real = measure(|| {
                names_set.extend(names.iter().cloned());
                // Nodes hold six names when filled in order, and five after this.
                names.iter().step_by(7).for_each(|name| _ = names_set.remove(name));
            });
            let real = real.bytes_current as u64 + real.count_current as u64 * 16;
            let counted = btree_set(names_set.len());
            assert!((real..=real * 4 / 3 + 500).contains(&counted), "{count}: {real}, but {counted} counted");
        }
    }
}
