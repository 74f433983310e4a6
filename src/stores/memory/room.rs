//! What things take in memory, as an allocator counts it: what they hold, what a collection has to spare, and about what
//! the allocator adds. Pure; collections that have become far too large are made smaller here.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    hash::Hash,
};

use crate::{event::Event, store::Entry};

/// An allocation of so many bytes.
pub(super) fn block(bytes: usize) -> u64 {
    if bytes == 0 { 0 } else { (bytes + ALLOCATOR).next_multiple_of(16).max(32) as u64 }
}

/// A shared text, such as a name or a key.
pub(super) fn shared_text(text: &str) -> u64 {
    block(COUNTS + text.len())
}

/// What an entry holds beside its own place.
pub(super) fn entry(entry: &Entry) -> u64 {
    content(entry.data.len(), entry.name.as_ref().map(|name| name.as_str()))
}

/// What the entry that an event becomes will hold beside its own place.
pub(super) fn event(event: &Event) -> u64 {
    content(event.data().len(), event.name().map(|name| name.as_str()))
}

fn content(data: usize, name: Option<&str>) -> u64 {
    let shared = if data == 0 { 0 } else { block(SHARED_BYTES) };
    block(data) + shared + name.map_or(0, shared_text)
}

pub(super) fn deque<T>(deque: &VecDeque<T>) -> u64 {
    block(deque.capacity() * size_of::<T>())
}

/// By how much a deque grows that takes so many more.
pub(super) fn deque_growth<T>(full: &VecDeque<T>, more: usize) -> u64 {
    let needed = full.len() + more;
    if needed <= full.capacity() {
        return 0;
    }
    block(needed.max(2 * full.capacity()).max(LEAST_CAPACITY) * size_of::<T>()).saturating_sub(deque(full))
}

pub(super) fn map<K, V>(map: &HashMap<K, V>) -> u64 {
    table::<K, V>(map.capacity())
}

/// By how much a map grows that takes so many more.
pub(super) fn map_growth<K, V>(full: &HashMap<K, V>, more: usize) -> u64 {
    let needed = full.len() + more;
    if needed <= full.capacity() {
        return 0;
    }
    table::<K, V>(needed.max(full.capacity() + 1)).saturating_sub(map(full))
}

/// The nodes of a set, at their emptiest.
pub(super) fn set<T>(set: &BTreeSet<T>) -> u64 {
    nodes::<T>(set.len())
}

/// By how much a set grows that takes one more.
pub(super) fn set_growth<T>(full: &BTreeSet<T>) -> u64 {
    nodes::<T>(full.len() + 1) - set(full)
}

/// A node holds 5 to 11 items, and one of 6 or more has so many nodes below it.
fn nodes<T>(items: usize) -> u64 {
    let node = block(NODE_ITEMS * size_of::<T>() + NODE_HEAD);
    (items.div_ceil(LEAST_NODE_ITEMS) + items.div_ceil(LEAST_NODE_ITEMS * LEAST_NODE_ITEMS)) as u64 * node
}

/// Seven of eight buckets are used at most; each has a byte of its own.
fn table<K, V>(capacity: usize) -> u64 {
    let buckets = match capacity {
        0 => return 0,
        1..=3 => 4,
        4..=7 => 8,
        more => (more * 8 / 7).next_power_of_two(),
    };
    block(buckets * (size_of::<(K, V)>() + 1) + GROUP)
}

/// Gives back what a deque no longer needs; costs little per item, for most of them have gone before it does anything.
pub(super) fn shrink_deque<T>(deque: &mut VecDeque<T>) {
    if deque.len() * SPARSE < deque.capacity() {
        deque.shrink_to(deque.len() * 2);
    }
}

/// As [`shrink_deque`].
pub(super) fn shrink_map<K: Eq + Hash, V>(map: &mut HashMap<K, V>) {
    if map.len() * SPARSE < map.capacity() {
        map.shrink_to(map.len() * 2);
    }
}

/// Most items of a set's node, and least.
const NODE_ITEMS: usize = 11;
const LEAST_NODE_ITEMS: usize = 5;

/// What a node holds beside its items.
const NODE_HEAD: usize = 16;

/// What an allocator keeps of each allocation for itself.
const ALLOCATOR: usize = 8;

/// The two counts of an `Arc`.
const COUNTS: usize = 16;

/// What `Bytes` adds once it is cloned.
const SHARED_BYTES: usize = 24;

/// What a map keeps behind its buckets.
const GROUP: usize = 16;

/// The least that a deque takes.
const LEAST_CAPACITY: usize = 4;

/// A collection with more than so many places for each item is made smaller.
const SPARSE: usize = 4;
