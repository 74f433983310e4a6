//! The changes that a watcher of a store has not taken yet: bounded, and independent of the store. It neither locks nor wakes:
//! its owner does, and wakes outside its lock.

use std::{
    collections::{HashMap, VecDeque},
    mem,
    task::Waker,
};

use crate::{
    channel::Channel,
    store::{Change, Entry, Head},
};

/// The changes that one watcher has not taken yet.
pub(super) struct ChangeQueue {
    queued: Queued,
    /// Woken when a change is pushed.
    waker: Option<Waker>,
}

/// From precise to coarse: when one exceeds its bound, the next replaces it.
enum Queued {
    /// Every change, and roughly how many bytes they hold.
    Each(VecDeque<Change>, usize),
    /// The last head of each channel.
    Heads(HashMap<Channel, Head>),
    /// Anything may have changed.
    Resync,
}

impl ChangeQueue {
    /// Starts with a [`Change::Resync`].
    pub(super) fn with_resync() -> Self {
        Self { queued: Queued::Resync, waker: None }
    }

    pub(super) fn empty() -> Self {
        Self { queued: Queued::Each(VecDeque::new(), 0), waker: None }
    }

    /// Adds a change. The caller wakes the returned waker once it has released its locks.
    #[must_use]
    pub(super) fn push(&mut self, change: Change) -> Option<Waker> {
        self.add(change);
        self.waker.take()
    }

    /// Takes all changes. If there are none, `waker` is woken when one is pushed; the caller drops the returned waker once it has
    /// released its locks.
    #[must_use]
    pub(super) fn take_all(&mut self, waker: Waker) -> (VecDeque<Change>, Option<Waker>) {
        let taken = self.take();
        let unused = if taken.is_empty() { self.waker.replace(waker) } else { Some(waker) };
        (taken, unused)
    }

    fn add(&mut self, change: Change) {
        match &mut self.queued {
            // A resync covers all changes before it, and must not be replaced by heads.
            queued if matches!(change, Change::Resync) => *queued = Queued::Resync,
            Queued::Each(changes, bytes) => {
                *bytes += size(&change);
                changes.push_back(change);
                if *bytes > MAX_BYTES {
                    let heads = mem::take(changes).iter().filter_map(head_of).collect();
                    self.queued = Queued::Heads(heads);
                }
            }
            Queued::Heads(heads) => {
                heads.extend(head_of(&change));
                if heads.len() > MAX_HEADS {
                    self.queued = Queued::Resync;
                }
            }
            Queued::Resync => {}
        }
    }

    fn take(&mut self) -> VecDeque<Change> {
        match mem::replace(&mut self.queued, Queued::Each(VecDeque::new(), 0)) {
            Queued::Each(changes, _) => changes,
            Queued::Heads(heads) => heads.into_iter().map(|(channel, head)| Change::Head(channel, head)).collect(),
            Queued::Resync => VecDeque::from([Change::Resync]),
        }
    }
}

fn size(change: &Change) -> usize {
    match change {
        Change::Entries(entries) => entries.iter().map(Entry::size).sum(),
        _ => 64,
    }
}

/// The head after a change. A channel whose entries arrive is open, or its closed head follows.
fn head_of(change: &Change) -> Option<(Channel, Head)> {
    match change {
        Change::Entries(entries) => {
            let last = entries.last()?;
            Some((last.channel.clone(), Head { cursor: last.cursor, closed: false }))
        }
        Change::Head(channel, head) => Some((channel.clone(), *head)),
        Change::Resync => None,
    }
}

/// The most bytes queued as whole changes. Those that were taken and not yielded yet may be as many again.
const MAX_BYTES: usize = 4 << 20;

/// The most heads queued.
const MAX_HEADS: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{cursor::Cursor, event::Data};

    fn entries(channel: &str, seq: u64, text: &str) -> Change {
        Change::Entries(vec![Entry {
            channel: Channel::new(channel).unwrap(),
            cursor: Cursor { epoch: 1, seq, tag: 1 },
            prev_tag: 0,
            appended: 0,
            time: 0,
            name: None,
            data: Data::text(text),
        }])
    }

    #[test]
    fn changes_not_taken_become_heads_and_then_a_resync() {
        let mut queue = ChangeQueue::empty();
        let large = "x".repeat(1 << 20);
        (1..=5).for_each(|seq| queue.add(entries(["a", "b"][seq as usize % 2], seq, &large)));
        assert_eq!(queue.take().len(), 2);
        assert!(queue.take().is_empty());

        (1..=5).for_each(|seq| queue.add(entries("a", seq, &large)));
        (1..=5000).for_each(|n| queue.add(entries(&n.to_string(), 1, "")));
        let taken = queue.take();
        assert!(matches!(taken.iter().collect::<Vec<_>>()[..], [Change::Resync]));
    }

    #[test]
    fn a_resync_is_never_lost() {
        let mut queue = ChangeQueue::empty();
        let large = "x".repeat(1 << 20);
        (1..=5).for_each(|seq| queue.add(entries("a", seq, &large)));
        queue.add(Change::Resync);
        queue.add(entries("a", 6, ""));
        assert!(matches!(queue.take().make_contiguous(), [Change::Resync]));
    }
}
