//! The idempotency keys of one channel, as this process knows them. Knows no message.

use std::collections::{HashMap, VecDeque};

use crate::{event::EventKey, store::Receipt};

/// Which keys were appended in the last while, and as what.
#[derive(Clone, Debug, Default)]
pub(super) struct Keys {
    known: HashMap<EventKey, Receipt>,
    /// When each came, oldest first.
    order: VecDeque<(u64, EventKey)>,
}

impl Keys {
    pub(super) fn get(&self, key: &EventKey) -> Option<Receipt> {
        self.known.get(key).copied()
    }

    /// The first append of a key stays, unless it was forgotten.
    pub(super) fn remember(&mut self, key: EventKey, receipt: Receipt, stamp: u64) {
        if self.known.insert(key.clone(), Receipt { duplicate: true, ..receipt }).is_none() {
            self.order.push_back((stamp, key));
        }
    }

    /// Forgets the keys that came before `since`.
    pub(super) fn expire(&mut self, since: u64) {
        while self.order.front().is_some_and(|(came, _)| *came < since) {
            let Some((_, key)) = self.order.pop_front() else { return };
            self.known.remove(&key);
        }
    }
}
