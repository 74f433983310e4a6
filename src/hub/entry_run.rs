//! Runs: entries of one channel, in order, that are handed out in one piece.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use bytes::Bytes;

use super::{
    encoded_entry::EncodedEntry,
    encoding::{Delimiters, EncodedBytes, Encoding},
};
use crate::{cursor::Cursor, filter::Filter};

/// All readers at the same position get the same run, which is therefore joined once per encoding. Never empty.
#[derive(Debug)]
pub(crate) struct EntryRun {
    entries: Box<[Arc<EncodedEntry>]>,
    /// The position after the run.
    next: Cursor,
    joined: EncodedBytes,
    /// Bytes that a service derived from the run, and from what else.
    derived: OnceLock<Box<(Box<[u8]>, Bytes)>>,
    /// A reader that keeps up has taken it.
    delivered: AtomicBool,
}

impl EntryRun {
    /// `entries` must not be empty.
    pub(super) fn new(entries: Box<[Arc<EncodedEntry>]>, next: Cursor) -> Arc<Self> {
        Arc::new(Self {
            entries,
            next,
            joined: EncodedBytes::default(),
            derived: OnceLock::new(),
            delivered: AtomicBool::new(false),
        })
    }

    /// Splits `entries` into runs; `next` is the position after the last one.
    pub(super) fn split(mut entries: &[Arc<EncodedEntry>], next: Cursor) -> Vec<Arc<Self>> {
        let mut runs = Vec::new();
        while let [_, ..] = entries {
            let run = take_run(entries.iter());
            entries = entries.get(run.len()..).unwrap_or_default();
            // The position after the last entry is the caller's: a page by time may have examined more than it holds.
            let after = match (entries, run.last()) {
                ([_, ..], Some(last)) => last.entry().cursor,
                _ => next,
            };
            runs.push(Self::new(run, after));
        }
        runs
    }

    pub(crate) fn encoded_entries(&self) -> &[Arc<EncodedEntry>] {
        &self.entries
    }

    /// The entries that `filter` keeps, up to the same position; `None` if it keeps none.
    pub(super) fn kept_by(self: &Arc<Self>, filter: &Filter) -> Option<Arc<Self>> {
        let kept: Box<[_]> = self.entries.iter().filter(|encoded| filter.keeps(encoded.entry())).cloned().collect();
        match kept.len() {
            0 => None,
            len if len == self.entries.len() => Some(self.clone()),
            _ => Some(Self::new(kept, self.next)),
        }
    }

    pub(crate) fn next(&self) -> Cursor {
        self.next
    }

    /// The bytes that `derive` makes, a pure function of the run and `key`. Those of the first key are cached; for other keys they
    /// are made each time.
    pub(super) fn derived(&self, key: &[u8], derive: impl Fn() -> Bytes) -> Bytes {
        match &**self.derived.get_or_init(|| Box::new((key.into(), derive()))) {
            (first, bytes) if **first == *key => bytes.clone(),
            _ => derive(),
        }
    }

    /// Whether this is the first call, or one of the first at once.
    pub(super) fn is_first_delivery(&self) -> bool {
        // Written once: that takes the cache line away from all other readers.
        let is_first = !self.delivered.load(Relaxed);
        if is_first {
            self.delivered.store(true, Relaxed);
        }
        is_first
    }

    pub(crate) fn joined(&self, encoding: &'static Encoding) -> Bytes {
        match &*self.entries {
            [entry] if encoding.delimiters.is_between_only() => entry.bytes(encoding),
            entries => self.joined.get_or_encode(encoding, || encode_joined(entries, encoding)),
        }
    }
}

/// The entries in one piece. The parts are not cached: a reader that takes the run needs no bytes of single entries.
pub(crate) fn encode_joined(entries: &[impl AsRef<EncodedEntry>], encoding: &'static Encoding) -> Vec<u8> {
    let Delimiters { before, between, after } = encoding.delimiters;
    let mut bytes = Vec::with_capacity(entries.iter().map(|entry| entry.as_ref().estimated_size()).sum());
    bytes.extend_from_slice(before);
    for (index, entry) in entries.iter().enumerate() {
        if index > 0 {
            bytes.extend_from_slice(between);
        }
        entry.as_ref().append_to(&mut bytes, encoding);
    }
    bytes.extend_from_slice(after);
    bytes
}

/// The first entries that together have at most [`MAX_RUN_BYTES`]; at least one.
pub(super) fn take_run<'a>(entries: impl Iterator<Item = &'a Arc<EncodedEntry>>) -> Box<[Arc<EncodedEntry>]> {
    let mut bytes = 0;
    entries
        .take_while(|encoded| {
            let is_first = bytes == 0;
            bytes += encoded.entry().size();
            is_first || bytes <= MAX_RUN_BYTES
        })
        .cloned()
        .collect()
}

/// Most bytes of a run, unless a single entry is larger.
pub(super) const MAX_RUN_BYTES: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{channel::Channel, event::Data, store::Entry};

    const fn encoding(before: &'static [u8], after: &'static [u8]) -> Encoding {
        let delimiters = Delimiters { before, between: b",", after };
        Encoding { delimiters, encode: |entry, bytes| bytes.extend_from_slice(entry.data.as_shown().as_bytes()) }
    }

    static BARE: Encoding = encoding(b"", b"");
    static OPENED: Encoding = encoding(b"[", b"");
    static CLOSED: Encoding = encoding(b"", b"]");
    static ARRAY: Encoding = encoding(b"[", b"]");

    #[test]
    fn a_run_has_exactly_the_entries_that_fit() {
        let cursor = Cursor { epoch: 1, seq: 1, tag: 1 };
        let entry = |bytes: usize| {
            let (channel, data) = (Channel::new("a").unwrap(), Data::text("x".repeat(bytes)));
            EncodedEntry::new(Entry { channel, cursor, prev_tag: 0, appended: 0, time: 0, name: None, data })
        };
        let half = MAX_RUN_BYTES / 2 - entry(0).entry().size();
        for (sizes, expected) in [([half, half, 0], 2), ([half, half + 1, 0], 1), ([2 * half + 1000, 0, 0], 1)] {
            assert_eq!(take_run(sizes.map(entry).iter()).len(), expected, "{sizes:?}");
        }
    }

    #[test]
    fn runs_of_one_entry_share_its_bytes_unless_delimiters_go_around_it() {
        let cursor = Cursor { epoch: 1, seq: 1, tag: 1 };
        let (channel, data) = (Channel::new("a").unwrap(), Data::text("x"));
        let entry = Entry { channel, cursor, prev_tag: 0, appended: 0, time: 0, name: None, data };
        let entry = EncodedEntry::new(entry);
        let joined = |encoding| [(); 2].map(|()| EntryRun::new([entry.clone()].into(), cursor).joined(encoding));
        for (encoding, expected) in [(&BARE, "x"), (&OPENED, "[x"), (&CLOSED, "x]"), (&ARRAY, "[x]")] {
            let [first, second] = joined(encoding);
            assert_eq!((&first[..], &second[..]), (expected.as_bytes(), expected.as_bytes()));
            assert_eq!(first.as_ptr() == second.as_ptr(), expected == "x", "{expected}");
        }
        let run = EntryRun::new([entry.clone(), entry.clone()].into(), cursor);
        assert_eq!([run.joined(&BARE), run.joined(&ARRAY)], ["x,x", "[x,x]"]);
    }
}
