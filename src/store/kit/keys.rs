//! Idempotency keys: whether an event was appended before, by the key that it has. Pure.

use std::collections::{HashMap, hash_map};

use crate::{
    cursor::Cursor,
    event::{Event, EventKey},
    store::{Receipt, StoreError, fingerprint},
};

/// What a store remembers about a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Known {
    /// The receipt that duplicates get.
    pub receipt: Receipt,
    /// The [`fingerprint`] of its event. `None` if an older version stored it without one; then every event matches.
    pub print: Option<u64>,
}

impl Known {
    /// A key whose event has this receipt and [`fingerprint`].
    #[must_use]
    pub fn new(receipt: Receipt, print: Option<u64>) -> Self {
        Self { receipt: Receipt { duplicate: true, ..receipt }, print }
    }

    /// All of it, for a store that stores numbers.
    #[must_use]
    pub fn to_numbers(&self) -> [u64; 6] {
        let Receipt { cursor: Cursor { epoch, seq, tag }, time, .. } = self.receipt;
        [epoch, seq, tag.into(), time, self.print.is_some().into(), self.print.unwrap_or_default()]
    }

    /// What [`to_numbers`](Self::to_numbers) returned.
    ///
    /// ```
    /// use tower_events::{Cursor, store::{Receipt, kit::Known}};
    ///
    /// let receipt = Receipt::appended(Cursor { epoch: 7, seq: 41, tag: 11 }, 1_732_094_400_123);
    /// for known in [Known::new(receipt, Some(4711)), Known::new(receipt, None)] {
    ///     assert_eq!(Known::from_numbers(known.to_numbers()), known);
    /// }
    /// ```
    #[must_use]
    pub fn from_numbers([epoch, seq, tag, time, has_print, print]: [u64; 6]) -> Self {
        let receipt = Receipt::duplicate(Cursor { epoch, seq, tag: tag as u32 }, time);
        Self { receipt, print: (has_print != 0).then_some(print) }
    }

    fn is_of(&self, print: u64) -> bool {
        self.print.is_none_or(|known| known == print)
    }
}

/// The fingerprints of those events of an append that have a key. Computing them reads all data, so a store does that before it
/// locks anything.
#[derive(Clone, Debug)]
pub struct Fingerprints(Vec<u64>);

impl Fingerprints {
    /// Those of these events. Without a key nothing is computed or allocated.
    #[must_use]
    pub fn of(events: &[Event]) -> Self {
        if events.iter().all(|event| event.key().is_none()) {
            return Self(Vec::new());
        }
        Self(events.iter().map(|event| event.key().map(|_| fingerprint(event)).unwrap_or_default()).collect())
    }

    /// The fingerprint of the event at `index`.
    pub(super) fn at(&self, index: usize) -> u64 {
        self.0.get(index).copied().unwrap_or_default()
    }

    /// Whether no event has a key.
    fn are_none(&self) -> bool {
        self.0.is_empty()
    }
}

/// What an event of an append is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Novelty {
    New,
    /// Its key was appended before, with this receipt.
    Known(Receipt),
    /// Its key is that of the event at this index of the same append, which is new.
    Repeats(usize),
}

/// What each event is, where `find` looks up the keys that were appended before; nothing at all if no event has a key. Fails if
/// a key was used for another event, before or earlier in the batch.
pub(super) fn judge<E: From<StoreError>>(
    events: &[Event],
    prints: &Fingerprints,
    mut find: impl FnMut(&EventKey) -> Result<Option<Known>, E>,
) -> Result<Vec<Novelty>, E> {
    if prints.are_none() {
        return Ok(Vec::new());
    }
    let mut first: HashMap<&EventKey, usize> = HashMap::new();
    let judged = events.iter().enumerate().map(|(index, event)| {
        let Some(key) = event.key() else { return Ok(Novelty::New) };
        let print = prints.at(index);
        let (novelty, is_same) = match find(key)? {
            Some(known) => (Novelty::Known(known.receipt), known.is_of(print)),
            // A single event repeats no other.
            None if events.len() == 1 => (Novelty::New, true),
            None => match first.entry(key) {
                hash_map::Entry::Occupied(first) => (Novelty::Repeats(*first.get()), prints.at(*first.get()) == print),
                hash_map::Entry::Vacant(none) => {
                    none.insert(index);
                    (Novelty::New, true)
                }
            },
        };
        if is_same { Ok(novelty) } else { Err(StoreError::KeyReused { index }.into()) }
    });
    judged.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_stands_for_one_event() {
        let known = |print| {
            Known::new(Receipt { cursor: Cursor { epoch: 1, seq: 2, tag: 3 }, time: 4, duplicate: false }, print)
        };
        let stored = |print: Option<u64>| move |key: &EventKey| Ok((key.as_str() == "old").then(|| known(print)));
        let (text, keyed) = (Event::text, |data: &str, key: &str| Event::text(data).keyed(key).unwrap());
        let of = |events: &[Event], print| judge::<StoreError>(events, &Fingerprints::of(events), stored(print));
        let print = Some(fingerprint(&text("a")));
        let (new, receipt) = (Novelty::New, Novelty::Known(known(None).receipt));
        assert!(known(None).receipt.duplicate);

        assert_eq!(of(&[text("a"), text("a")], print).unwrap(), []);
        assert_eq!(of(&[keyed("a", "new")], print).unwrap(), [new]);
        let same = [text("b"), keyed("a", "old"), keyed("a", "new"), keyed("a", "new"), keyed("a", "old")];
        assert_eq!(of(&same, print).unwrap(), [new, receipt, new, Novelty::Repeats(2), receipt]);
        for (events, index) in [
            (vec![keyed("b", "old")], 0),
            (vec![text("x"), keyed("a", "old"), keyed("b", "old")], 2),
            (vec![keyed("a", "new"), text("x"), keyed("b", "new")], 2),
            (vec![keyed("a", "new"), keyed("a", "new").named("n").unwrap()], 1),
        ] {
            let refused = of(&events, print);
            assert!(matches!(refused, Err(StoreError::KeyReused { index: at }) if at == index), "{refused:?}");
        }
        // Stored without a fingerprint.
        assert_eq!(of(&[keyed("b", "old"), keyed("c", "old")], None).unwrap(), [receipt, receipt]);
    }
}
