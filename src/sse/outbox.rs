//! What is written and not yet taken: at most three pieces, so that shared bytes are sent as they are and never copied.

use bytes::Bytes;

#[derive(Debug, Default)]
pub(super) struct Outbox {
    /// In this order.
    before: Bytes,
    shared: Bytes,
    after: Bytes,
}

impl Outbox {
    pub(super) fn new(before: impl Into<Bytes>, shared: Bytes, after: impl Into<Bytes>) -> Self {
        Self { before: before.into(), shared, after: after.into() }
    }

    /// The next chunk of at most 64 KiB: one slow reader pins no more than that in the connection's buffers.
    pub(super) fn next_chunk(&mut self) -> Option<Bytes> {
        let pieces = [&mut self.before, &mut self.shared, &mut self.after];
        let piece = pieces.into_iter().find(|piece| !piece.is_empty())?;
        Some(piece.split_to(piece.len().min(MOST)))
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
        let mut outbox = Outbox::new("a", Bytes::from(vec![b'x'; MOST + 1]), "b");
        let mut lengths = Vec::new();
        while let Some(chunk) = outbox.next_chunk() {
            lengths.push(chunk.len());
        }
        assert_eq!(lengths, [1, MOST, 1, 1]);
        assert!(outbox.is_empty());
    }
}
