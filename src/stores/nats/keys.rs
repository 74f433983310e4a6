//! The idempotency keys of one channel, as known in this process. Knows no message.

use std::collections::{HashMap, VecDeque};

use crate::{event::EventKey, store::kit::Known};

/// The keys appended within the window, and what each was appended as.
#[derive(Clone, Debug, Default)]
pub(super) struct Keys {
    /// What each key was appended as, and the append's stamp.
    known: HashMap<EventKey, (Known, u64)>,
    /// The stamps of all keys, oldest first.
    order: VecDeque<(u64, EventKey)>,
}

impl Keys {
    pub(super) fn get(&self, key: &EventKey) -> Option<Known> {
        self.known.get(key).map(|(known, _)| *known)
    }

    /// A known key that was appended again had expired for the node that did so: from now on it stands for the later
    /// append.
    pub(super) fn remember(&mut self, key: EventKey, known: Known, stamp: u64) {
        self.known.insert(key.clone(), (known, stamp));
        self.order.push_back((stamp, key));
    }

    /// Forgets the keys from before `since`.
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
    fn a_key_that_is_used_again_expires_after_its_last_use() {
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
