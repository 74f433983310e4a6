//! The changes that a watcher of a store has not taken yet: bounded, and independent of the store.
//!
//! Wakers are cloned, woken and dropped outside the lock, since they run foreign code.

use std::{
    collections::{HashMap, VecDeque},
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use crate::{
    channel::Channel,
    store::{Change, Entry, Head},
};

/// A watcher's end of its queue.
pub(super) struct ChangeReceiver {
    queue: Arc<ChangeQueue>,
    /// Taken from the queue, but not yielded yet.
    taken: VecDeque<Change>,
}

impl ChangeReceiver {
    pub(super) fn new(queue: Arc<ChangeQueue>) -> Self {
        Self { queue, taken: VecDeque::new() }
    }

    pub(super) fn queue(&self) -> &Arc<ChangeQueue> {
        &self.queue
    }

    /// The next change. A stream of changes never ends.
    pub(super) fn poll_next(&mut self, cx: &Context<'_>) -> Poll<Option<Change>> {
        if self.taken.is_empty() {
            self.taken = self.queue.take_all(cx);
        }
        self.taken.pop_front().map_or(Poll::Pending, |change| Poll::Ready(Some(change)))
    }
}

/// The changes that one watcher has not taken yet.
pub(super) struct ChangeQueue(Mutex<State>);

struct State {
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
    pub(super) fn new() -> Self {
        Self(Mutex::new(State { queued: Queued::Resync, waker: None }))
    }

    /// Starts empty: the store pushes the first [`Change::Resync`] once it is notified of changes.
    #[cfg(any(feature = "redis", feature = "nats", feature = "postgres"))]
    pub(super) fn empty() -> Self {
        Self(Mutex::new(State { queued: Queued::Each(VecDeque::new(), 0), waker: None }))
    }

    /// Adds a change. The caller wakes the returned waker once it has released its own locks.
    #[must_use]
    pub(super) fn push(&self, change: Change) -> Option<Waker> {
        let mut state = self.lock();
        state.push(change);
        state.waker.take()
    }

    /// Takes all changes. If there are none, `cx` is woken when one is pushed.
    fn take_all(&self, cx: &Context<'_>) -> VecDeque<Change> {
        let waker = cx.waker().clone();
        let mut state = self.lock();
        let taken = state.take_all();
        let old = if taken.is_empty() { state.waker.replace(waker) } else { None };
        drop(state);
        drop(old);
        taken
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn push(&mut self, change: Change) {
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

    fn take_all(&mut self) -> VecDeque<Change> {
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

/// The most bytes queued as whole changes.
const MAX_BYTES: usize = 4 << 20;

/// The most heads queued.
const MAX_HEADS: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{cursor::Cursor, event::Data};

    fn state() -> State {
        State { queued: Queued::Each(VecDeque::new(), 0), waker: None }
    }

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
        let mut state = state();
        let large = "x".repeat(1 << 20);
        (1..=5).for_each(|seq| state.push(entries(["a", "b"][seq as usize % 2], seq, &large)));
        assert_eq!(state.take_all().len(), 2);
        assert!(state.take_all().is_empty());

        (1..=5).for_each(|seq| state.push(entries("a", seq, &large)));
        (1..=5000).for_each(|n| state.push(entries(&n.to_string(), 1, "")));
        let taken = state.take_all();
        assert!(matches!(taken.iter().collect::<Vec<_>>()[..], [Change::Resync]));
    }

    #[test]
    fn a_resync_is_never_lost() {
        let mut state = state();
        let large = "x".repeat(1 << 20);
        (1..=5).for_each(|seq| state.push(entries("a", seq, &large)));
        state.push(Change::Resync);
        state.push(entries("a", 6, ""));
        assert!(matches!(state.take_all().make_contiguous(), [Change::Resync]));
    }
}
