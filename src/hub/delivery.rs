//! What a reader is handed.

use std::{any::Any, sync::Arc, time::Duration};

use bytes::Bytes;

use super::encoding::{EncodedEntry, Encoding, EntryRun, encode_joined};
use crate::{
    channel::Channel,
    cursor::Cursor,
    store::{Entry, Reason, StoreError},
};

/// What a [`Subscriber`](crate::Subscriber) is handed.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Delivery {
    /// Events of one channel.
    Events(Events),
    /// A channel could not be continued; what follows starts at its oldest retained event.
    Reset(Reset),
    /// A channel is closed and read to its end.
    Closed(Closed),
    /// What the store holds of a channel cannot be read. The other channels go on.
    Failed(Failed),
    /// The hub is draining: the last delivery.
    Drained {
        /// When to come back: this reader's own share of the drain window.
        retry: Duration,
    },
}

/// Events of one channel that follow each other; never empty.
#[derive(Clone, Debug)]
pub struct Events {
    run: Arc<EntryRun>,
    /// How many of the run's entries, from the front.
    taken: usize,
}

impl Events {
    /// The first events of `run`, at most `most` and at least one.
    pub(super) fn first(run: Arc<EntryRun>, most: usize) -> Self {
        let taken = most.min(run.encoded_entries().len()).max(1);
        Self { run, taken }
    }

    /// The entries, in order.
    pub fn entries(&self) -> impl ExactSizeIterator<Item = &Entry> {
        self.encoded_entries().iter().map(|encoded| encoded.entry())
    }

    /// How many there are; never 0.
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

    /// Whether they are all that their run has.
    pub(super) fn is_whole(&self) -> bool {
        self.taken == self.run.encoded_entries().len()
    }

    /// What is kept for everybody who gets the same run; nothing when this is a part of it.
    pub(crate) fn cached<T: Any + Send + Sync>(&self, make: impl FnOnce() -> T) -> Option<&T> {
        self.is_whole().then(|| self.run.cached(make)).flatten()
    }

    pub(crate) fn encoded_entries(&self) -> &[Arc<EncodedEntry>] {
        self.run.encoded_entries().get(..self.taken).unwrap_or_default()
    }

    /// All of them in one piece, shared by everybody who gets the same run.
    pub(crate) fn joined(&self, encoding: &Encoding) -> Bytes {
        match self.is_whole() {
            true => self.run.joined(encoding),
            false => encode_joined(self.encoded_entries(), encoding).into(),
        }
    }
}

/// A channel could not be continued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reset {
    /// The channel.
    pub channel: Channel,
    /// Why.
    pub reason: Reason,
    /// The position just before the first entry that follows.
    pub earliest: Cursor,
    /// The channel's head at the time of the decision.
    pub latest: Cursor,
}

/// A channel is closed and read to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closed {
    /// The channel.
    pub channel: Channel,
    /// Its last position.
    pub cursor: Cursor,
}

/// What the store holds of a channel cannot be read; a person has to look. Its position stays where it was.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Failed {
    /// The channel.
    pub channel: Channel,
    /// What the store said.
    pub error: Arc<StoreError>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Data;

    #[test]
    fn only_whole_runs_share_what_is_kept_with_them() {
        let at = |seq| Cursor { epoch: 1, seq, tag: 1 };
        let encoded = |seq| {
            let channel = Channel::new("a").unwrap();
            let data = Data::text("x");
            EncodedEntry::new(Entry { channel, cursor: at(seq), prev_tag: 1, appended: 0, time: 0, name: None, data })
        };
        let run = EntryRun::new([encoded(1), encoded(2)].into(), at(2));
        let events = |most| Events::first(run.clone(), most);
        assert_eq!(events(2).cached(|| "first"), Some(&"first"));
        assert_eq!(events(3).cached(|| "second"), Some(&"first"));
        assert_eq!(events(1).cached(|| "part"), None);
        assert_eq!([0, 1, 2, 3].map(|most| events(most).len()), [1, 1, 2, 2], "never none");
    }
}
