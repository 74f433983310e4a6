//! The idempotency keys of one channel, as this process knows them. Knows no message.

use std::collections::{HashMap, VecDeque};

use crate::{event::EventKey, store::Known};

/// Which keys were appended in the last while, and as what.
#[derive(Clone, Debug, Default)]
pub(super) struct Keys {
    /// As what, and when that came.
    known: HashMap<EventKey, (Known, u64)>,
    /// When each came, oldest first.
    order: VecDeque<(u64, EventKey)>,
}

impl Keys {
    pub(super) fn get(&self, key: &EventKey) -> Option<Known> {
        self.known.get(key).map(|(known, _)| *known)
    }

    /// A key that is known here already was forgotten by the node that appended it again: from now on it is that append's.
    pub(super) fn remember(&mut self, key: EventKey, known: Known, stamp: u64) {
        self.known.insert(key.clone(), (known, stamp));
        self.order.push_back((stamp, key));
    }

    /// Forgets the keys that came before `since`.
    pub(super) fn expire(&mut self, since: u64) {
        while self.order.front().is_some_and(|(came, _)| *came < since) {
            let Some((came, key)) = self.order.pop_front() else { return };
            if self.known.get(&key).is_some_and(|(_, last)| *last == came) {
                self.known.remove(&key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{cursor::Cursor, store::Receipt};

    #[test]
    fn a_key_that_was_used_again_is_forgotten_after_its_last_use() {
        let key = EventKey::new("k").unwrap();
        let known = |seq| {
            let cursor = Cursor { epoch: 1, seq, tag: 1 };
            Known::new(Receipt { cursor, time: 0, duplicate: false }, Some(seq))
        };
        let mut keys = Keys::default();
        keys.remember(key.clone(), known(1), 10);
        keys.remember(key.clone(), known(2), 100);
        keys.expire(50);
        assert_eq!(keys.get(&key), Some(known(2)));
        keys.expire(101);
        assert_eq!(keys.get(&key), None);
    }
}
