//! Entries as they leave: encoded once, shared by every subscriber. What the bytes look like is the services' business;
//! here a [`Form`] is only a slot and a function.

use std::{
    any::Any,
    sync::{Arc, OnceLock},
};

use bytes::Bytes;

use crate::{cursor::Cursor, store::Entry};

/// How many forms there are.
pub(crate) const FORMS: usize = 6;

/// One way to encode entries. Each form has a slot of its own below [`FORMS`].
pub(crate) struct Form {
    pub(crate) slot: usize,
    /// What stands before, between and after the entries of a run.
    pub(crate) around: Around,
    /// Appends the encoded entry; a pure function of it.
    pub(crate) encode: fn(&Entry, &mut Vec<u8>),
}

/// What stands around the entries of a run.
#[derive(Clone, Copy)]
pub(crate) struct Around {
    pub(crate) before: &'static [u8],
    pub(crate) between: &'static [u8],
    pub(crate) after: &'static [u8],
}

impl Around {
    /// Nothing: the entries themselves.
    pub(crate) const NOTHING: Self = Self { before: b"", between: b"", after: b"" };

    fn is_bare(&self) -> bool {
        self.before.is_empty() && self.after.is_empty()
    }
}

/// The bytes of each form, made on first need.
type Encoded = [OnceLock<Bytes>; FORMS];

/// An entry with its encoded forms.
#[derive(Debug)]
pub(crate) struct Frame {
    entry: Entry,
    /// Made for an entry that is handed out by itself; one of a run is encoded with it, and needs no bytes of its own.
    encoded: OnceLock<Box<Encoded>>,
}

impl Frame {
    pub(crate) fn new(entry: Entry) -> Arc<Self> {
        Arc::new(Self { entry, encoded: OnceLock::new() })
    }

    /// The bytes that it takes while it is kept: the entry, its text in one form, and what stands around both.
    pub(crate) fn kept_bytes(&self) -> usize {
        let name = self.entry.name.as_ref().map_or(0, |name| name.as_str().len());
        2 * (self.entry.data.len() + name) + FRAME
    }

    pub(crate) fn entry(&self) -> &Entry {
        &self.entry
    }

    pub(crate) fn encoded(&self, form: &Form) -> Bytes {
        made(self.encoded.get_or_init(Box::default), form, || {
            let mut bytes = Vec::with_capacity(self.entry.size() + 64);
            (form.encode)(&self.entry, &mut bytes);
            bytes
        })
    }
}

/// A run of entries of one channel that is handed out in one piece. Everybody who is at the same position gets the same
/// batch, so the run is joined once per form however many they are.
#[derive(Debug)]
pub(crate) struct Batch {
    frames: Box<[Arc<Frame>]>,
    /// The position after the batch.
    next: Cursor,
    joined: Encoded,
    beside: OnceLock<Box<dyn Any + Send + Sync>>,
}

impl Batch {
    /// `frames` must not be empty.
    pub(crate) fn new(frames: Box<[Arc<Frame>]>, next: Cursor) -> Arc<Self> {
        Arc::new(Self { frames, next, joined: Default::default(), beside: OnceLock::new() })
    }

    pub(crate) fn frames(&self) -> &[Arc<Frame>] {
        &self.frames
    }

    pub(crate) fn next(&self) -> Cursor {
        self.next
    }

    /// What a service keeps here for all who get this run; the first one makes it.
    pub(crate) fn beside<T: Any + Send + Sync>(&self, make: impl FnOnce() -> T) -> Option<&T> {
        self.beside.get_or_init(|| Box::new(make())).downcast_ref()
    }

    pub(crate) fn joined(&self, form: &Form) -> Bytes {
        match &*self.frames {
            [frame] if form.around.is_bare() => frame.encoded(form),
            frames => made(&self.joined, form, || join(frames, form)),
        }
    }
}

pub(crate) fn join(frames: &[impl AsRef<Frame>], form: &Form) -> Vec<u8> {
    let Around { before, between, after } = form.around;
    let mut bytes = Vec::with_capacity(frames.iter().map(|frame| frame.as_ref().entry.size() + 64).sum());
    bytes.extend_from_slice(before);
    for (index, frame) in frames.iter().map(AsRef::as_ref).enumerate() {
        if index > 0 {
            bytes.extend_from_slice(between);
        }
        match frame.encoded.get().and_then(|encoded| encoded.get(form.slot)?.get()) {
            Some(encoded) => bytes.extend_from_slice(encoded),
            // Those who catch up take the run as a whole, so that bytes of its own would be for nobody.
            None => (form.encode)(&frame.entry, &mut bytes),
        }
    }
    bytes.extend_from_slice(after);
    bytes
}

/// A form without a slot is encoded anew each time: wrong slots cost speed, never bytes.
fn made(encoded: &Encoded, form: &Form, make: impl FnOnce() -> Vec<u8>) -> Bytes {
    match encoded.get(form.slot) {
        Some(slot) => slot.get_or_init(|| Bytes::from(make())).clone(),
        None => Bytes::from(make()),
    }
}

/// What a frame takes beside its texts, by what allocators and the lists around it add.
const FRAME: usize = size_of::<Frame>() + 2 * size_of::<usize>() + size_of::<Arc<Frame>>() + 64;

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

    fn form(slot: usize, before: &'static [u8], after: &'static [u8]) -> Form {
        let around = Around { before, between: b",", after };
        Form { slot, around, encode: |entry, bytes| bytes.extend_from_slice(entry.data.as_text().unwrap().as_bytes()) }
    }

    #[test]
    fn runs_of_one_entry_share_its_bytes_unless_something_stands_around_it() {
        let frame = Frame::new(entry("x", None));
        let next = frame.entry().cursor;
        let joined = |form: &Form| [(); 2].map(|()| Batch::new([frame.clone()].into(), next).joined(form));
        for (form, expected) in [
            (form(0, b"", b""), "x"),
            (form(1, b"[", b""), "[x"),
            (form(2, b"", b"]"), "x]"),
            (form(3, b"[", b"]"), "[x]"),
        ] {
            let [first, second] = joined(&form);
            assert_eq!((&first[..], &second[..]), (expected.as_bytes(), expected.as_bytes()));
            assert_eq!(first.as_ptr() == second.as_ptr(), expected == "x", "{expected}");
        }
        let run = Batch::new([frame.clone(), frame.clone()].into(), next);
        assert_eq!(run.joined(&form(4, b"[", b"]")), "[x,x]");
    }

    #[test]
    fn what_is_kept_counts_its_texts_twice_for_they_are_encoded_once() {
        let kept = |text: &str, name| Frame::new(entry(text, name)).kept_bytes();
        let empty = kept("", None);
        assert_eq!([kept("12345", None), kept("12345", Some("abc"))].map(|kept| kept - empty), [10, 16]);
        assert!(empty >= size_of::<Frame>(), "{empty}");
    }
}
