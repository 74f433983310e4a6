//! What is written and not yet taken: at most three parts, so that shared bytes are never copied.

use std::mem;

use bytes::Bytes;

#[derive(Debug, Default)]
pub(super) struct ChunkBuffer {
    shared: Bytes,
    /// Boxed, because it is rare and should take little room when there is none.
    affixes: Option<Box<Affixes>>,
}

/// What comes before and after the shared bytes.
#[derive(Debug)]
struct Affixes {
    prefix: Vec<u8>,
    suffix: Vec<u8>,
}

impl ChunkBuffer {
    /// Puts `out` into the buffer, which must be empty.
    pub(super) fn put(&mut self, out: Vec<u8>) {
        self.shared = out.into();
    }

    /// Puts `shared` after `prefix` into the buffer, which must be empty.
    pub(super) fn put_shared(&mut self, prefix: Vec<u8>, shared: Bytes) {
        self.put_between(prefix, shared, Vec::new());
    }

    /// Puts `shared` between `prefix` and `suffix` into the buffer, which must be empty.
    pub(super) fn put_between(&mut self, prefix: Vec<u8>, shared: Bytes, suffix: Vec<u8>) {
        self.shared = shared;
        // A stream that keeps up has neither.
        if !prefix.is_empty() || !suffix.is_empty() {
            self.affixes = Some(Box::new(Affixes { prefix, suffix }));
        }
    }

    /// The next chunk, at most 64 KiB, so that a slow reader keeps no more than that alive in the buffers of its connection.
    pub(super) fn next_chunk(&mut self) -> Option<Bytes> {
        if let Some(affixes) = &mut self.affixes {
            if !affixes.prefix.is_empty() {
                return Some(mem::take(&mut affixes.prefix).into());
            }
            if self.shared.is_empty() {
                self.shared = mem::take(&mut affixes.suffix).into();
                self.affixes = None;
            }
        }
        match self.shared.len().min(MAX_CHUNK) {
            0 => None,
            length => Some(self.shared.split_to(length)),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.shared.is_empty() && self.affixes.is_none()
    }
}

const MAX_CHUNK: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_come_in_order_and_are_bounded() {
        let mut buffer = ChunkBuffer::default();
        buffer.put_between(b"a".to_vec(), Bytes::from(vec![b'x'; MAX_CHUNK + 1]), b"b".to_vec());
        let mut lengths = Vec::new();
        while let Some(chunk) = buffer.next_chunk() {
            lengths.push((chunk.len(), buffer.is_empty()));
        }
        assert_eq!(lengths, [(1, false), (MAX_CHUNK, false), (1, false), (1, true)]);
        buffer.put_shared(b"a".to_vec(), Bytes::from_static(b"b"));
        assert_eq!([buffer.next_chunk(), buffer.next_chunk()].map(|chunk| chunk.unwrap().len()), [1, 1]);
        assert_eq!((buffer.next_chunk(), buffer.is_empty()), (None, true));
    }
}
