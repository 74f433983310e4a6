//! Entries as they leave: encoded once, shared by every subscriber. What the bytes look like is the services' business;
//! here a [`Encoding`] is only a slot and a function.

use std::{
    any::Any,
    sync::{Arc, OnceLock},
};

use bytes::Bytes;

use crate::{cursor::Cursor, store::Entry};

/// How many encodings there are.
pub(crate) const MAX_ENCODINGS: usize = 6;

/// One way to encode entries. Each encoding has a slot of its own below [`MAX_ENCODINGS`].
pub(crate) struct Encoding {
    pub(crate) slot: usize,
    /// What stands before, between and after the entries of a run.
    pub(crate) delimiters: Delimiters,
    /// Appends the encoded entry; a pure function of it.
    pub(crate) encode: fn(&Entry, &mut Vec<u8>),
}

/// What stands around the entries of a run.
#[derive(Clone, Copy)]
pub(crate) struct Delimiters {
    pub(crate) before: &'static [u8],
    pub(crate) between: &'static [u8],
    pub(crate) after: &'static [u8],
}

impl Delimiters {
    /// Nothing: the entries themselves.
    pub(crate) const NOTHING: Self = Self { before: b"", between: b"", after: b"" };

    fn is_bare(&self) -> bool {
        self.before.is_empty() && self.after.is_empty()
    }
}

/// The bytes of each encoding, made on first need.
type Encoded = [OnceLock<Bytes>; MAX_ENCODINGS];

/// An entry with its encoded encodings.
#[derive(Debug)]
pub(crate) struct EncodedEntry {
    entry: Entry,
    /// Made for an entry that is handed out by itself; one of a run is encoded with it, and needs no bytes of its own.
    encoded: OnceLock<Box<Encoded>>,
}

impl EncodedEntry {
    pub(crate) fn new(entry: Entry) -> Arc<Self> {
        Arc::new(Self { entry, encoded: OnceLock::new() })
    }

    /// The bytes that it takes while it is kept: the entry, its text in one encoding, and what stands around both.
    pub(crate) fn kept_bytes(&self) -> usize {
        let name = self.entry.name.as_ref().map_or(0, |name| name.as_str().len());
        2 * (self.entry.data.len() + name) + OVERHEAD
    }

    pub(crate) fn entry(&self) -> &Entry {
        &self.entry
    }

    pub(crate) fn bytes(&self, encoding: &Encoding) -> Bytes {
        get_or_encode(self.encoded.get_or_init(Box::default), encoding, || {
            let mut bytes = Vec::with_capacity(self.entry.size() + 64);
            (encoding.encode)(&self.entry, &mut bytes);
            bytes
        })
    }
}

/// A run of entries of one channel that is handed out in one piece. Everybody who is at the same position gets the same
/// run, so the run is joined once per encoding however many they are.
#[derive(Debug)]
pub(crate) struct EntryRun {
    entries: Box<[Arc<EncodedEntry>]>,
    /// The position after the run.
    next: Cursor,
    joined: Encoded,
    cached: OnceLock<Box<dyn Any + Send + Sync>>,
}

impl EntryRun {
    /// `entries` must not be empty.
    pub(crate) fn new(entries: Box<[Arc<EncodedEntry>]>, next: Cursor) -> Arc<Self> {
        Arc::new(Self { entries, next, joined: Default::default(), cached: OnceLock::new() })
    }

    pub(crate) fn encoded_entries(&self) -> &[Arc<EncodedEntry>] {
        &self.entries
    }

    pub(crate) fn next(&self) -> Cursor {
        self.next
    }

    /// What a service keeps here for all who get this run; the first one makes it.
    pub(crate) fn cached<T: Any + Send + Sync>(&self, make: impl FnOnce() -> T) -> Option<&T> {
        self.cached.get_or_init(|| Box::new(make())).downcast_ref()
    }

    pub(crate) fn joined(&self, encoding: &Encoding) -> Bytes {
        match &*self.entries {
            [encoded] if encoding.delimiters.is_bare() => encoded.bytes(encoding),
            entries => get_or_encode(&self.joined, encoding, || encode_joined(entries, encoding)),
        }
    }
}

pub(crate) fn encode_joined(entries: &[impl AsRef<EncodedEntry>], encoding: &Encoding) -> Vec<u8> {
    let Delimiters { before, between, after } = encoding.delimiters;
    let mut bytes = Vec::with_capacity(entries.iter().map(|encoded| encoded.as_ref().entry.size() + 64).sum());
    bytes.extend_from_slice(before);
    for (index, encoded) in entries.iter().map(AsRef::as_ref).enumerate() {
        if index > 0 {
            bytes.extend_from_slice(between);
        }
        match encoded.encoded.get().and_then(|encoded| encoded.get(encoding.slot)?.get()) {
            Some(encoded) => bytes.extend_from_slice(encoded),
            // Those who catch up take the run as a whole, so that bytes of its own would be for nobody.
            None => (encoding.encode)(&encoded.entry, &mut bytes),
        }
    }
    bytes.extend_from_slice(after);
    bytes
}

/// A encoding without a slot is encoded anew each time: wrong slots cost speed, never bytes.
fn get_or_encode(encoded: &Encoded, encoding: &Encoding, make: impl FnOnce() -> Vec<u8>) -> Bytes {
    match encoded.get(encoding.slot) {
        Some(slot) => slot.get_or_init(|| Bytes::from(make())).clone(),
        None => Bytes::from(make()),
    }
}

/// What a entry takes beside its texts, by what allocators and the lists around it add.
const OVERHEAD: usize = size_of::<EncodedEntry>() + 2 * size_of::<usize>() + size_of::<Arc<EncodedEntry>>() + 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        channel::Channel,
        event::{Data, EventName},
    };

    fn entry(text: &str, name: Option<&str>) -> Entry {
        let cursor = Cursor { epoch: 1, seq: 1, tag: 1 };
        let (channel, name) = (Channel::new("a").unwrap(), name.map(|name| EventName::new(name).unwrap()));
        Entry { channel, cursor, prev_tag: 0, appended: 0, time: 0, name, data: Data::text(text) }
    }

    fn encoding(slot: usize, before: &'static [u8], after: &'static [u8]) -> Encoding {
        let delimiters = Delimiters { before, between: b",", after };
        Encoding {
            slot,
            delimiters,
            encode: |entry, bytes| bytes.extend_from_slice(entry.data.as_text().unwrap().as_bytes()),
        }
    }

    #[test]
    fn runs_of_one_entry_share_its_bytes_unless_something_stands_around_it() {
        let encoded = EncodedEntry::new(entry("x", None));
        let next = encoded.entry().cursor;
        let joined =
            |encoding: &Encoding| [(); 2].map(|()| EntryRun::new([encoded.clone()].into(), next).joined(encoding));
        for (encoding, expected) in [
            (encoding(0, b"", b""), "x"),
            (encoding(1, b"[", b""), "[x"),
            (encoding(2, b"", b"]"), "x]"),
            (encoding(3, b"[", b"]"), "[x]"),
        ] {
            let [first, second] = joined(&encoding);
            assert_eq!((&first[..], &second[..]), (expected.as_bytes(), expected.as_bytes()));
            assert_eq!(first.as_ptr() == second.as_ptr(), expected == "x", "{expected}");
        }
        let run = EntryRun::new([encoded.clone(), encoded.clone()].into(), next);
        assert_eq!(run.joined(&encoding(4, b"[", b"]")), "[x,x]");
    }

    #[test]
    fn what_is_kept_counts_its_texts_twice_for_they_are_encoded_once() {
        let kept = |text: &str, name| EncodedEntry::new(entry(text, name)).kept_bytes();
        let empty = kept("", None);
        assert_eq!([kept("12345", None), kept("12345", Some("abc"))].map(|kept| kept - empty), [10, 16]);
        assert!(empty >= size_of::<EncodedEntry>(), "{empty}");
    }
}
