//! Events that are being written, each followed by a token of the stream: the positions of all its channels.

use super::chunk_buffer::ChunkBuffer;
use crate::{
    cursor::Cursors,
    encode::{Kind, View, push_id_and_end, push_json_for},
    hub::{Batch, Encoding},
};

pub(super) struct PendingEvents {
    events: Batch,
    pub(super) kind: Kind,
    written: usize,
    /// The positions of all channels; each event moves that of its channel.
    token: Cursors,
}

impl PendingEvents {
    pub(super) fn new(events: Batch, kind: Kind, token: Cursors) -> Self {
        Self { events, kind, written: 0, token }
    }

    pub(super) fn is_written(&self) -> bool {
        self.written >= self.events.len()
    }

    /// Writes the next events to `buffer`, after `out`: small ones together, a large one as the bytes that all readers share.
    pub(super) fn write_next(&mut self, mut out: Vec<u8>, encoding: &'static Encoding, buffer: &mut ChunkBuffer) {
        while let Some(encoded) = self.events.encoded_entries().get(self.written).filter(|_| out.len() <= MAX_COPIED) {
            let (shared, entry) = (encoded.bytes(encoding), encoded.entry());
            self.written += 1;
            self.token.set(&entry.channel, entry.cursor);
            if shared.len() > MAX_COPIED {
                let mut id = Vec::new();
                push_id_and_end(&mut id, &self.token);
                buffer.put_between(out, shared, id);
                return;
            }
            out.extend_from_slice(&shared);
            push_id_and_end(&mut out, &self.token);
        }
        buffer.put(out);
    }

    /// As [`write_next`](Self::write_next), with objects as one client sees them.
    pub(super) fn write_viewed(&mut self, mut out: Vec<u8>, view: &View, buffer: &mut ChunkBuffer) {
        while let Some(encoded) = self.events.encoded_entries().get(self.written).filter(|_| out.len() <= MAX_COPIED) {
            let entry = encoded.entry();
            self.written += 1;
            self.token.set(&entry.channel, entry.cursor);
            push_json_for(&mut out, entry, self.kind, view);
            push_id_and_end(&mut out, &self.token);
        }
        buffer.put(out);
    }
}

/// Above this size, in bytes, a copy costs more than a chunk of its own.
const MAX_COPIED: usize = 8 << 10;
