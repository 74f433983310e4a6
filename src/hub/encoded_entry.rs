//! An entry that is encoded once for all its readers.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use super::encoding::{EncodedBytes, Encoding};
use crate::store::Entry;

#[derive(Debug)]
pub(crate) struct EncodedEntry {
    entry: Entry,
    /// Allocated when the entry is handed out alone: one in a run is encoded as part of it.
    encoded: OnceLock<Box<EncodedBytes>>,
}

impl EncodedEntry {
    pub(super) fn new(entry: Entry) -> Arc<Self> {
        Arc::new(Self { entry, encoded: OnceLock::new() })
    }

    /// The memory it takes, in bytes: the entry, its text in one encoding, and their overhead.
    pub(super) fn size_in_memory(&self) -> usize {
        let name = self.entry.name.as_ref().map_or(0, |name| name.as_str().len());
        2 * (self.entry.data.len() + name) + OVERHEAD
    }

    pub(crate) fn entry(&self) -> &Entry {
        &self.entry
    }

    pub(crate) fn bytes(&self, encoding: &'static Encoding) -> Bytes {
        self.encoded.get_or_init(Box::default).get_or_encode(encoding, || {
            let mut bytes = Vec::with_capacity(self.estimated_size());
            (encoding.encode)(&self.entry, &mut bytes);
            bytes
        })
    }

    /// Appends the entry in this encoding, without caching it.
    pub(super) fn append_to(&self, bytes: &mut Vec<u8>, encoding: &'static Encoding) {
        match self.encoded.get().and_then(|encoded| encoded.get(encoding)) {
            Some(encoded) => bytes.extend_from_slice(encoded),
            None => (encoding.encode)(&self.entry, bytes),
        }
    }

    /// Roughly its size when encoded, in bytes.
    pub(super) fn estimated_size(&self) -> usize {
        self.entry.size() + 64
    }
}

/// What an entry takes in memory in addition to its texts; the constant is for allocators and lists.
const OVERHEAD: usize = size_of::<EncodedEntry>() + 2 * size_of::<usize>() + size_of::<Arc<EncodedEntry>>() + 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        channel::Channel,
        cursor::Cursor,
        event::{Data, EventName},
    };

    #[test]
    fn texts_count_twice_because_they_are_also_kept_encoded() {
        let size = |text: &str, name: Option<&str>| {
            let cursor = Cursor { epoch: 1, seq: 1, tag: 1 };
            let (channel, name) = (Channel::new("a").unwrap(), name.map(|name| EventName::new(name).unwrap()));
            let data = Data::text(text);
            EncodedEntry::new(Entry { channel, cursor, prev_tag: 0, appended: 0, time: 0, name, data }).size_in_memory()
        };
        let empty = size("", None);
        assert_eq!([size("12345", None), size("12345", Some("abc"))].map(|size| size - empty), [10, 16]);
        assert!(empty >= size_of::<EncodedEntry>() && (150..300).contains(&empty), "some 200 bytes: {empty}");
    }
}
