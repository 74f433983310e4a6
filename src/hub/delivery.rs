//! What a reader receives.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;

use super::{
    encoded_entry::EncodedEntry,
    encoding::Encoding,
    entry_run::{EntryRun, encode_joined},
    moment::Moment,
};
use crate::{
    channel::Channel,
    cursor::Cursor,
    store::{Entry, Reason, StoreError},
};

/// What a [`Subscriber`](crate::Subscriber) receives.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Delivery {
    /// Events of one channel.
    Events(Batch),
    /// A channel could not be continued; what follows starts at its oldest retained event, or with a snapshot.
    Reset(Reset),
    /// The state of a channel; the events after it follow. Only with a [`snapshot`](crate::snapshot) provider.
    Snapshot(Snapshot),
    /// A channel is closed and read to its end.
    Closed(Closed),
    /// The stored data of a channel cannot be read. The other channels go on.
    Failed(Failed),
    /// The hub is draining: the last delivery.
    Drained {
        /// When to come back: this reader's own share of the drain window.
        retry: Duration,
    },
}

/// Events of one channel, in order; never empty.
#[derive(Clone, Debug)]
pub struct Batch {
    run: Arc<EntryRun>,
    /// How many of the run's entries these are, from the front.
    len: usize,
}

impl Batch {
    /// The first events of `run`, at most `max` and at least one.
    pub(super) fn first(run: Arc<EntryRun>, max: usize) -> Self {
        let len = max.min(run.encoded_entries().len()).max(1);
        Self { run, len }
    }

    /// The entries, in order.
    pub fn entries(&self) -> impl ExactSizeIterator<Item = &Entry> {
        self.encoded_entries().iter().map(|encoded| encoded.entry())
    }

    /// The number of events; never 0.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "never empty")]
    pub fn len(&self) -> usize {
        self.encoded_entries().len()
    }

    /// The position after them.
    #[must_use]
    pub fn next(&self) -> Cursor {
        match self.encoded_entries().last() {
            Some(last) if !self.is_whole() => last.entry().cursor,
            _ => self.run.next(),
        }
    }

    /// Whether nothing of their run was asked this before.
    pub(super) fn is_first_delivery(&self) -> bool {
        self.run.is_first_delivery()
    }

    /// Whether these are all events of their run.
    pub(super) fn is_whole(&self) -> bool {
        self.len == self.run.encoded_entries().len()
    }

    /// The bytes that `derive` makes, a pure function of these events and `key`. All readers of the same run with the same key share
    /// them; those of another key, or of a part of a run, get their own.
    pub(crate) fn derived(&self, key: &[u8], derive: impl Fn() -> Bytes) -> Bytes {
        match self.is_whole() {
            true => self.run.derived(key, derive),
            false => derive(),
        }
    }

    pub(crate) fn encoded_entries(&self) -> &[Arc<EncodedEntry>] {
        self.run.encoded_entries().get(..self.len).unwrap_or_default()
    }

    /// All of them in one piece, shared by all readers of the same run.
    pub(crate) fn joined(&self, encoding: &'static Encoding) -> Bytes {
        match self.is_whole() {
            true => self.run.joined(encoding),
            false => encode_joined(self.encoded_entries(), encoding).into(),
        }
    }
}

/// A channel could not be continued.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reset {
    /// The channel.
    pub channel: Channel,
    /// Why it was reset.
    pub reason: Reason,
    /// The position just before the first event that follows.
    pub earliest: Cursor,
    /// The channel's head when the reset was decided.
    pub latest: Cursor,
    /// Whether a [`Snapshot`] follows instead of the oldest retained events.
    pub snapshot_follows: bool,
}

/// The state of a channel at a position, as a [`snapshot`](crate::snapshot) provider returned it. Clones share the bytes.
#[derive(Clone, Debug)]
pub struct Snapshot {
    encoded: Arc<EncodedEntry>,
    /// The same alone, for all readers of it.
    run: Arc<EntryRun>,
    /// Before the head was read.
    asked: Moment,
}

impl Snapshot {
    /// The state at the position of `entry`; the head was read after `asked`.
    pub(super) fn new(entry: Entry, asked: Moment) -> Self {
        let (cursor, encoded) = (entry.cursor, EncodedEntry::new(entry));
        Self { run: EntryRun::new([encoded.clone()].into(), cursor), encoded, asked }
    }

    /// Whether it has everything that was stored by then.
    pub(super) fn is_as_of(&self, moment: Moment) -> bool {
        self.asked > moment
    }

    /// The state. It is no event of the store: its cursor is the position after which events follow.
    #[must_use]
    pub fn entry(&self) -> &Entry {
        self.encoded.entry()
    }

    /// The channel.
    #[must_use]
    pub fn channel(&self) -> &Channel {
        &self.entry().channel
    }

    /// The position after which events follow, to resume from once the state was processed.
    #[must_use]
    pub fn cursor(&self) -> Cursor {
        self.entry().cursor
    }

    /// The memory it takes, in bytes.
    pub(super) fn size_in_memory(&self) -> usize {
        self.encoded.size_in_memory()
    }

    /// The state as an event.
    pub(crate) fn to_batch(&self) -> Batch {
        Batch::first(self.run.clone(), 1)
    }
}

/// A channel is closed and read to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Closed {
    /// The channel.
    pub channel: Channel,
    /// Its last position.
    pub cursor: Cursor,
}

/// The stored data of a channel cannot be read, and needs repair by an operator. The channel's position stays where it was.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Failed {
    /// The channel.
    pub channel: Channel,
    /// The store's error.
    pub error: Arc<StoreError>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Data;

    #[test]
    fn readers_of_a_whole_run_share_what_is_derived_for_the_first_key() {
        let at = |seq| Cursor { epoch: 1, seq, tag: 1 };
        let entry = |seq| {
            let channel = Channel::new("a").unwrap();
            let data = Data::text("x");
            EncodedEntry::new(Entry { channel, cursor: at(seq), prev_tag: 1, appended: 0, time: 0, name: None, data })
        };
        let run = EntryRun::new([entry(1), entry(2)].into(), at(2));
        let events = |max| Batch::first(run.clone(), max);
        let derived = |max, key: &[u8], bytes| events(max).derived(key, || Bytes::from_static(bytes));
        assert_eq!(derived(1, b"key", b"part"), "part");
        assert_eq!(derived(2, b"key", b"first"), "first");
        assert_eq!(derived(3, b"key", b"second"), "first");
        assert_eq!(derived(2, b"other key", b"third"), "third");
        assert_eq!([derived(2, b"key", b"fourth"), derived(1, b"key", b"part")], ["first", "part"]);
        assert_eq!([0, 1, 2, 3].map(|max| events(max).len()), [1, 1, 2, 2], "never empty");
    }
}
