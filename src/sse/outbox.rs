//! What is written and not yet taken: at most three pieces, so that shared bytes are sent as they are and never copied.

use std::mem;

use bytes::Bytes;

#[derive(Debug, Default)]
pub(super) struct Outbox {
    /// In this order. The outer ones are rare, so that they are small when there are none.
    before: Box<[u8]>,
    shared: Bytes,
    after: Box<[u8]>,
}

impl Outbox {
    /// Puts `out` in; the outbox is empty.
    pub(super) fn put(&mut self, out: Vec<u8>) {
        self.shared = out.into();
    }

    /// Puts `shared` in, behind `before`; the outbox is empty.
    pub(super) fn put_shared(&mut self, before: Vec<u8>, shared: Bytes) {
        // What a stream that keeps up sends has nothing before it.
        if !before.is_empty() {
            self.before = before.into();
        }
        self.shared = shared;
    }

    /// Puts `shared` in, between `before` and `after`; the outbox is empty.
    pub(super) fn put_around(&mut self, before: Vec<u8>, shared: Bytes, after: Vec<u8>) {
        self.put_shared(before, shared);
        self.after = after.into();
    }

    /// The next chunk of at most 64 KiB: one slow reader pins no more than that in the connection's buffers.
    pub(super) fn next_chunk(&mut self) -> Option<Bytes> {
        if !self.before.is_empty() {
            return Some(mem::take(&mut self.before).into());
        }
        if self.shared.is_empty() && !self.after.is_empty() {
            self.shared = mem::take(&mut self.after).into();
        }
        match self.shared.len() {
            0 => None,
            whole if whole <= MOST => Some(mem::take(&mut self.shared)),
            _ => Some(self.shared.split_to(MOST)),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.before.is_empty() && self.shared.is_empty() && self.after.is_empty()
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
            lengths.push(chunk.len());
        }
        assert_eq!(lengths, [1, MOST, 1, 1]);
        assert!(outbox.is_empty());
    }
}
