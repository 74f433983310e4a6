//! The idempotency keys of one channel, which may outlive its entries.

use std::collections::VecDeque;

use super::{counted_map::CountedMap, heap_size};
use crate::{event::EventKey, store::kit::Known};

#[derive(Default)]
pub(super) struct Keys {
    /// The receipt of each key's append.
    known: CountedMap<EventKey, Known>,
    /// When each key was appended, oldest first.
    order: VecDeque<(u64, EventKey)>,
    /// The heap bytes of their texts.
    texts: u64,
}

impl Keys {
    pub(super) fn get(&self, key: &EventKey) -> Option<Known> {
        self.known.get(key).copied()
    }

    pub(super) fn remember(&mut self, key: EventKey, known: Known, now: u64) {
        self.texts += heap_size::shared_text(key.as_str());
        self.known.insert(key.clone(), known);
        self.order.push_back((now, key));
    }

    /// Forgets keys that were appended before `since`.
    pub(super) fn expire(&mut self, since: u64) {
        while self.order.front().is_some_and(|(appended, _)| *appended < since) {
            let Some((_, key)) = self.order.pop_front() else { break };
            self.texts -= heap_size::shared_text(key.as_str());
            self.known.remove(&key);
        }
        heap_size::shrink_deque(&mut self.order);
    }

    pub(super) fn heap_bytes(&self) -> u64 {
        self.texts + self.known.heap_bytes() + heap_size::deque(&self.order)
    }

    /// By how many bytes `new` keys would grow it.
    pub(super) fn growth<'a>(&self, new: impl Iterator<Item = &'a EventKey> + Clone) -> u64 {
        let count = new.clone().count();
        let texts: u64 = new.map(|key| heap_size::shared_text(key.as_str())).sum();
        texts + self.known.growth(count) + heap_size::deque_growth(&self.order, count)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// Forgets the keys of entries above `seq`.
    #[cfg(feature = "testing")]
    pub(super) fn lose_above(&mut self, seq: u64) {
        self.order.retain(|(_, key)| {
            let stays = self.known.get(key).is_some_and(|known| known.receipt.cursor.seq <= seq);
            if !stays {
                self.known.remove(key);
            }
            stays
        });
        self.texts = self.order.iter().map(|(_, key)| heap_size::shared_text(key.as_str())).sum();
    }
}
