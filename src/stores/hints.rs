//! What a watcher of a store has not taken yet, bounded. Knows no store.
//!
//! Wakers are cloned, woken and dropped outside the lock, for they run foreign code.

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

/// What one watcher takes from its backlog, change by change.
pub(super) struct Intake {
    backlog: Arc<Backlog>,
    /// What was taken from the backlog and not yielded yet.
    taken: VecDeque<Change>,
}

impl Intake {
    pub(super) fn new(backlog: Arc<Backlog>) -> Self {
        Self { backlog, taken: VecDeque::new() }
    }

    pub(super) fn backlog(&self) -> &Arc<Backlog> {
        &self.backlog
    }

    /// The next change. A stream of changes never ends.
    pub(super) fn poll_next(&mut self, cx: &Context<'_>) -> Poll<Option<Change>> {
        if self.taken.is_empty() {
            self.taken = self.backlog.take(cx);
        }
        self.taken.pop_front().map_or(Poll::Pending, |change| Poll::Ready(Some(change)))
    }
}

/// What one watcher has not taken yet.
pub(super) struct Backlog(Mutex<Pending>);

struct Pending {
    hints: Hints,
    /// Whom to wake when there is something.
    waker: Option<Waker>,
}

/// From precise to coarse; each is bounded, and the next takes over when the bound is passed.
enum Hints {
    /// Each change, and about how many bytes they hold.
    Each(VecDeque<Change>, usize),
    /// The last head of each channel.
    Heads(HashMap<Channel, Head>),
    /// Nothing in particular.
    Resync,
}

impl Backlog {
    /// Begins with a [`Change::Resync`].
    pub(super) fn new() -> Self {
        Self(Mutex::new(Pending { hints: Hints::Resync, waker: None }))
    }

    /// Begins empty: the store adds the first [`Change::Resync`] once it hears of changes.
    #[cfg(any(feature = "redis", feature = "nats", feature = "postgres"))]
    pub(super) fn unarmed() -> Self {
        Self(Mutex::new(Pending { hints: Hints::Each(VecDeque::new(), 0), waker: None }))
    }

    /// Adds a change; the caller wakes whom it is given once its own locks are gone.
    #[must_use]
    pub(super) fn add(&self, change: Change) -> Option<Waker> {
        let mut pending = self.lock();
        pending.add(change);
        pending.waker.take()
    }

    /// Takes all there is; when that is nothing, `cx` is woken once there is something.
    fn take(&self, cx: &Context<'_>) -> VecDeque<Change> {
        let waker = cx.waker().clone();
        let mut pending = self.lock();
        let taken = pending.take();
        let old = if taken.is_empty() { pending.waker.replace(waker) } else { None };
        drop(pending);
        drop(old);
        taken
    }

    fn lock(&self) -> MutexGuard<'_, Pending> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pending {
    fn add(&mut self, change: Change) {
        match &mut self.hints {
            // A gap says all that came before it, and must not be lost among heads.
            hints if matches!(change, Change::Resync) => *hints = Hints::Resync,
            Hints::Each(changes, bytes) => {
                *bytes += weight(&change);
                changes.push_back(change);
                if *bytes > MOST_BYTES {
                    let heads = mem::take(changes).iter().filter_map(head_of).collect();
                    self.hints = Hints::Heads(heads);
                }
            }
            Hints::Heads(heads) => {
                heads.extend(head_of(&change));
                if heads.len() > MOST_HEADS {
                    self.hints = Hints::Resync;
                }
            }
            Hints::Resync => {}
        }
    }

    /// Takes all there is.
    fn take(&mut self) -> VecDeque<Change> {
        match mem::replace(&mut self.hints, Hints::Each(VecDeque::new(), 0)) {
            Hints::Each(changes, _) => changes,
            Hints::Heads(heads) => heads.into_iter().map(|(channel, head)| Change::Head(channel, head)).collect(),
            Hints::Resync => VecDeque::from([Change::Resync]),
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
    use crate::{cursor::Cursor, event::Data};

    fn pending() -> Pending {
        Pending { hints: Hints::Each(VecDeque::new(), 0), waker: None }
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
    fn hints_that_nobody_takes_become_heads_and_then_a_resync() {
        let mut pending = pending();
        let large = "x".repeat(1 << 20);
        (1..=5).for_each(|seq| pending.add(entries(["a", "b"][seq as usize % 2], seq, &large)));
        assert_eq!(pending.take().len(), 2);
        assert!(pending.take().is_empty());

        (1..=5).for_each(|seq| pending.add(entries("a", seq, &large)));
        (1..=5000).for_each(|n| pending.add(entries(&n.to_string(), 1, "")));
        let taken = pending.take();
        assert!(matches!(taken.iter().collect::<Vec<_>>()[..], [Change::Resync]));
    }

    #[test]
    fn a_gap_is_never_lost() {
        let mut pending = pending();
        let large = "x".repeat(1 << 20);
        (1..=5).for_each(|seq| pending.add(entries("a", seq, &large)));
        pending.add(Change::Resync);
        pending.add(entries("a", 6, ""));
        assert!(matches!(pending.take().make_contiguous(), [Change::Resync]));
    }
}
