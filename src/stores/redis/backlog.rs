//! Hints that one watcher has not taken yet: bounded, from precise to coarse. Knows no server.

use std::{
    collections::{HashMap, VecDeque},
    mem,
    sync::{Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use crate::{
    channel::Channel,
    store::{Change, Entry, Head},
};

/// What one watcher has not taken yet.
#[derive(Default)]
pub(super) struct Backlog(Mutex<Pending>);

#[derive(Default)]
struct Pending {
    hints: Hints,
    /// Whom to wake when there is something.
    waker: Option<Waker>,
}

/// Each form is bounded, and the next takes over when the bound is passed.
enum Hints {
    /// Each change, and about how many bytes they hold.
    Each(VecDeque<Change>, usize),
    /// The last head of each channel.
    Heads(HashMap<Channel, Head>),
    /// Nothing in particular.
    Resync,
}

impl Backlog {
    /// Adds a hint, and wakes the watcher outside the lock, for that runs foreign code.
    pub(super) fn add(&self, change: Change) {
        let mut pending = self.lock();
        pending.hints.add(change);
        let waker = pending.waker.take();
        drop(pending);
        waker.into_iter().for_each(Waker::wake);
    }

    /// Takes all there is, or has the task woken when there is something.
    pub(super) fn poll_take(&self, cx: &Context<'_>) -> Poll<VecDeque<Change>> {
        let waker = cx.waker().clone();
        let mut pending = self.lock();
        let taken = pending.hints.take();
        if !taken.is_empty() {
            return Poll::Ready(taken);
        }
        let old = pending.waker.replace(waker);
        drop(pending);
        drop(old);
        Poll::Pending
    }

    fn lock(&self) -> MutexGuard<'_, Pending> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Hints {
    fn default() -> Self {
        Self::Each(VecDeque::new(), 0)
    }
}

impl Hints {
    fn add(&mut self, change: Change) {
        match self {
            // Whatever came before a gap is said by it too.
            _ if matches!(change, Change::Resync) => *self = Self::Resync,
            Self::Each(changes, bytes) => {
                *bytes += weight(&change);
                changes.push_back(change);
                if *bytes > MOST_BYTES {
                    let heads = mem::take(changes).iter().filter_map(head_of).collect();
                    *self = Self::Heads(heads);
                }
            }
            Self::Heads(heads) => {
                heads.extend(head_of(&change));
                if heads.len() > MOST_HEADS {
                    *self = Self::Resync;
                }
            }
            Self::Resync => {}
        }
    }

    fn take(&mut self) -> VecDeque<Change> {
        match mem::take(self) {
            Self::Each(changes, _) => changes,
            Self::Heads(heads) => heads.into_iter().map(|(channel, head)| Change::Head(channel, head)).collect(),
            Self::Resync => VecDeque::from([Change::Resync]),
        }
    }
}

fn weight(change: &Change) -> usize {
    match change {
        Change::Entries(entries) => entries.iter().map(Entry::size).sum(),
        _ => 64,
    }
}

/// The head that a change leads to. Entries come from an open channel, or are followed by the closed head.
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

/// Most bytes that wait for a watcher before only heads do.
const MOST_BYTES: usize = 4 << 20;

/// Most heads that wait before only a [`Change::Resync`] does.
const MOST_HEADS: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Cursor, event::Data};

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
    fn hints_that_nobody_takes_become_heads_and_then_a_resync() {
        let mut hints = Hints::default();
        let large = "x".repeat(1 << 20);
        (1..=5).for_each(|seq| hints.add(entries(["a", "b"][seq as usize % 2], seq, &large)));
        assert_eq!(hints.take().len(), 2);
        assert!(hints.take().is_empty());

        (1..=5).for_each(|seq| hints.add(entries("a", seq, &large)));
        (1..=5000).for_each(|n| hints.add(entries(&n.to_string(), 1, "")));
        assert!(matches!(hints.take().make_contiguous(), [Change::Resync]));

        hints.add(entries("a", 1, ""));
        hints.add(Change::Resync);
        hints.add(entries("a", 2, ""));
        assert!(matches!(hints.take().make_contiguous(), [Change::Resync]));
    }
}
