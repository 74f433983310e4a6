//! What is written and not yet taken: at most three pieces, so that shared bytes are sent as they are and never copied.

use std::mem;

use bytes::Bytes;

#[derive(Debug, Default)]
pub(super) struct Outbox {
    shared: Bytes,
    /// Rare, so that it is small when there is none.
    around: Option<Box<Around>>,
}

/// What comes before and after what is shared.
#[derive(Debug)]
struct Around {
    before: Vec<u8>,
    after: Vec<u8>,
}

impl Outbox {
    /// Puts `out` in; the outbox is empty.
    pub(super) fn put(&mut self, out: Vec<u8>) {
        self.shared = out.into();
    }

    /// Puts `shared` in, behind `before`; the outbox is empty.
    pub(super) fn put_shared(&mut self, before: Vec<u8>, shared: Bytes) {
        self.put_around(before, shared, Vec::new());
    }

    /// Puts `shared` in, between `before` and `after`; the outbox is empty.
    pub(super) fn put_around(&mut self, before: Vec<u8>, shared: Bytes, after: Vec<u8>) {
        self.shared = shared;
        // What a stream that keeps up sends has nothing around it.
        if !before.is_empty() || !after.is_empty() {
            self.around = Some(Box::new(Around { before, after }));
        }
    }

    /// The next chunk of at most 64 KiB: one slow reader pins no more than that in the connection's buffers.
    pub(super) fn next_chunk(&mut self) -> Option<Bytes> {
        if let Some(around) = &mut self.around {
            if !around.before.is_empty() {
                return Some(mem::take(&mut around.before).into());
            }
            if self.shared.is_empty() {
                self.shared = mem::take(&mut around.after).into();
                self.around = None;
            }
        }
        match self.shared.len().min(MOST) {
            0 => None,
            length => Some(self.shared.split_to(length)),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.shared.is_empty() && self.around.is_none()
    }
}

const MOST: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_come_in_order_and_are_bounded() {
        let mut outbox = Outbox::default();
        outbox.put_around(b"a".to_vec(), Bytes::from(vec![b'x'; MOST + 1]), b"b".to_vec());
        let mut lengths = Vec::new();
        while let Some(chunk) = outbox.next_chunk() {
            lengths.push((chunk.len(), outbox.is_empty()));
        }
        assert_eq!(lengths, [(1, false), (MOST, false), (1, false), (1, true)]);
        outbox.put_shared(b"a".to_vec(), Bytes::from_static(b"b"));
        assert_eq!([outbox.next_chunk(), outbox.next_chunk()].map(|chunk| chunk.unwrap().len()), [1, 1]);
        assert_eq!((outbox.next_chunk(), outbox.is_empty()), (None, true));
    }
}
