//! How entries become bytes, and the cache of these bytes. What the bytes look like is up to the services: here an
//! [`Encoding`] is only a function, and what goes around its output.

use std::{ptr, sync::OnceLock};

use bytes::Bytes;

use crate::store::Entry;

/// One way to encode entries; its address identifies it.
#[derive(Debug)]
pub(crate) struct Encoding {
    pub(crate) delimiters: Delimiters,
    /// Appends the encoded entry; a pure function of it.
    pub(crate) encode: fn(&Entry, &mut Vec<u8>),
}

/// What goes before, between and after the entries of a run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Delimiters {
    pub(crate) before: &'static [u8],
    pub(crate) between: &'static [u8],
    pub(crate) after: &'static [u8],
}

impl Delimiters {
    pub(crate) const NONE: Self = Self { before: b"", between: b"", after: b"" };

    /// Whether a run of one entry is encoded as that entry is.
    pub(super) fn is_between_only(&self) -> bool {
        self.before.is_empty() && self.after.is_empty()
    }
}

/// The bytes of one entry or run, in each encoding that was requested. Slots are filled from the front and each keeps the
/// encoding that filled it, so bytes of another encoding are never returned.
#[derive(Debug, Default)]
pub(super) struct EncodedBytes([OnceLock<(&'static Encoding, Bytes)>; SLOTS]);

impl EncodedBytes {
    pub(super) fn get(&self, encoding: &'static Encoding) -> Option<&Bytes> {
        let mut filled = self.0.iter().map_while(OnceLock::get);
        filled.find(|(key, _)| ptr::eq(*key, encoding)).map(|(_, bytes)| bytes)
    }

    /// The cached bytes, or those that `encode` makes. With all slots taken by other encodings they are made each time.
    pub(super) fn get_or_encode(&self, encoding: &'static Encoding, encode: impl Fn() -> Vec<u8>) -> Bytes {
        match self.get(encoding) {
            Some(bytes) => bytes.clone(),
            None => self.encode(encoding, encode),
        }
    }

    #[cold]
    fn encode(&self, encoding: &'static Encoding, encode: impl Fn() -> Vec<u8>) -> Bytes {
        for slot in &self.0 {
            let (key, bytes) = slot.get_or_init(|| (encoding, encode().into()));
            if ptr::eq(*key, encoding) {
                return bytes.clone();
            }
        }
        encode().into()
    }
}

/// As many as the services have encodings: four for streams, one for long polls.
const SLOTS: usize = 5;

#[cfg(test)]
mod tests {
    use super::*;

    static ENCODINGS: [Encoding; SLOTS + 1] =
        [const { Encoding { delimiters: Delimiters::NONE, encode: |_, _| () } }; SLOTS + 1];

    #[test]
    fn each_encoding_gets_its_own_bytes_and_as_many_as_there_are_slots_are_cached() {
        let cache = EncodedBytes::default();
        assert!(cache.get(&ENCODINGS[0]).is_none());
        let bytes = |index: usize| cache.get_or_encode(&ENCODINGS[index], || vec![index as u8; 100]);
        for round in 0..2 {
            for index in (0..=SLOTS).rev() {
                let (first, second) = (bytes(index), bytes(index));
                assert_eq!([&first[..], &second[..]], [[index as u8; 100]; 2], "{index} in round {round}");
                let is_cached = index > 0;
                assert_eq!(first.as_ptr() == second.as_ptr(), is_cached, "{index} in round {round}");
                assert_eq!(cache.get(&ENCODINGS[index]), Some(&first).filter(|_| is_cached));
            }
        }
    }
}
