//! Idempotency keys: recognising an event that was appended before. Pure; shared by all stores.

use std::collections::{HashMap, hash_map};

use super::{append::Receipt, error::StoreError};
use crate::event::{Data, Event, EventKey, EventName};

/// A 64-bit hash of everything that the caller gave of an event, except for the key. It is stored with the key and compared by
/// nodes of different versions, so it never changes.
///
/// FNV-1a (64 bits, `draft-eastlake-fnv`) of these bytes: the event's explicit time in Unix milliseconds as 8 bytes, big-endian,
/// all ones if there is none; `t` if the data are a text and `j` for any other JSON value; the name, if any; a zero byte; the
/// text, or the compact JSON. It distinguishes events that differ by mistake; it is no protection against forgery.
///
/// ```
/// use tower_events::{Event, store::fingerprint};
///
/// let event = Event::text("hello").keyed("k")?;
/// assert_eq!(fingerprint(&event), fingerprint(&Event::text("hello")));
/// assert_ne!(fingerprint(&event), fingerprint(&event.named("greeting")?));
/// # Ok::<(), tower_events::InvalidEvent>(())
/// ```
#[must_use]
pub fn fingerprint(event: &Event) -> u64 {
    fingerprint_of(event.data(), event.name(), event.time())
}

/// [`fingerprint`] of the parts of an event; `time` is its explicit time, if any.
pub(crate) fn fingerprint_of(data: &Data, name: Option<&EventName>, time: Option<u64>) -> u64 {
    let time = time.unwrap_or(u64::MAX).to_be_bytes();
    let kind = if data.as_text().is_some() { b"t" } else { b"j" };
    let name = name.map_or("", EventName::as_str);
    let parts = [&time, kind.as_slice(), name.as_bytes(), b"\0", data.as_shown().as_bytes()];
    parts.into_iter().flatten().fold(FNV_OFFSET, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(FNV_PRIME))
}

/// What is remembered about a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Known {
    /// The receipt that duplicates get.
    pub(crate) receipt: Receipt,
    /// The [`fingerprint`] of its event. `None` if an older version stored it without one; then every event matches.
    pub(crate) print: Option<u64>,
}

impl Known {
    /// A key that was appended just now.
    pub(crate) fn new(receipt: Receipt, print: Option<u64>) -> Self {
        Self { receipt: Receipt { duplicate: true, ..receipt }, print }
    }

    fn is_of(&self, print: u64) -> bool {
        self.print.is_none_or(|known| known == print)
    }
}

/// The fingerprints of those events of an append that have a key, in order.
pub(crate) struct Prints(Vec<u64>);

impl Prints {
    pub(crate) fn of(events: &[Event]) -> Self {
        if events.iter().all(|event| event.key().is_none()) {
            return Self(Vec::new());
        }
        Self(events.iter().map(|event| event.key().map(|_| fingerprint(event)).unwrap_or_default()).collect())
    }

    /// The fingerprint of the event at `index`.
    pub(crate) fn at(&self, index: usize) -> u64 {
        self.0.get(index).copied().unwrap_or_default()
    }
}

/// The earlier receipt of each event whose key `find` knows; a key that only the batch itself repeats is not known yet. Fails if
/// a key was used for another event, before or earlier in the batch.
pub(crate) fn judge<E: From<StoreError>>(
    events: &[Event],
    prints: &Prints,
    mut find: impl FnMut(&EventKey) -> Result<Option<Known>, E>,
) -> Result<Vec<Option<Receipt>>, E> {
    let mut first: HashMap<&EventKey, u64> = HashMap::new();
    let judged = events.iter().enumerate().map(|(index, event)| {
        let Some(key) = event.key() else { return Ok(None) };
        let print = prints.at(index);
        let known = find(key)?;
        let is_same = match (&known, first.entry(key)) {
            (Some(known), _) => known.is_of(print),
            (None, hash_map::Entry::Occupied(earlier)) => *earlier.get() == print,
            (None, hash_map::Entry::Vacant(none)) => *none.insert(print) == print,
        };
        if is_same { Ok(known.map(|known| known.receipt)) } else { Err(StoreError::KeyReused { index }.into()) }
    });
    judged.collect()
}

const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0100_0000_01b3;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cursor::Cursor;

    fn text(text: &str) -> Event {
        Event::text(text)
    }

    #[test]
    fn what_was_stored_is_recognised_for_ever() {
        let json = |json: &str| Event::new(Data::from_json(json).unwrap());
        let table = [
            (text(""), 0xe00b_70b7_889b_8eb1_u64),
            (text("hello"), 0x3682_6909_9a7d_601f),
            (text("hello").keyed("k").unwrap(), 0x3682_6909_9a7d_601f),
            (text("hello").named("n").unwrap(), 0xb1ea_931e_754b_dce3),
            (text("hello").at(0).unwrap(), 0x523e_f183_1a10_5937),
            (text("hello").at(1_732_094_400_123).unwrap().named("é").unwrap(), 0x81c1_eeb2_aee1_f2f1),
            (json("{ \"a\" : [1, 2.0] }"), 0x162d_8390_bc58_b5a7),
            (json("1"), 0xc843_e1dd_6503_473a),
            (text("1"), 0x4eff_07dd_2053_2380),
        ];
        let seen: Vec<_> = table.iter().map(|(event, _)| format!("{:#x}", fingerprint(event))).collect();
        let pinned: Vec<_> = table.iter().map(|(_, pinned)| format!("{pinned:#x}")).collect();
        assert_eq!(seen, pinned);
    }

    #[test]
    fn a_key_stands_for_one_event() {
        let known = |print| {
            Known::new(Receipt { cursor: Cursor { epoch: 1, seq: 2, tag: 3 }, time: 4, duplicate: false }, print)
        };
        let stored = |print: Option<u64>| move |key: &EventKey| Ok((key.as_str() == "old").then(|| known(print)));
        let keyed = |data: &str, key: &str| text(data).keyed(key).unwrap();
        let of = |events: &[Event], print| judge::<StoreError>(events, &Prints::of(events), stored(print));
        let print = Some(fingerprint(&text("a")));
        let receipt = Some(known(None).receipt);

        let same = [text("b"), keyed("a", "old"), keyed("a", "new"), keyed("a", "new"), keyed("a", "old")];
        assert_eq!(of(&same, print).unwrap(), [None, receipt, None, None, receipt]);
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
