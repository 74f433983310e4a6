//! Hints for those who watch. Knows no server: it is told what happened.
//!
//! Lock order: the watchers, then one backlog. Wakers are woken and dropped outside both, for they run foreign code that
//! may come back here.

use std::{
    collections::{HashMap, VecDeque},
    mem,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
};

use futures_core::Stream;

use super::lock;
use crate::{
    channel::Channel,
    store::{Change, Entry, Head},
};

/// Everyone who watches.
#[derive(Default)]
pub(super) struct Watchers(Mutex<Watching>);

#[derive(Default)]
struct Watching {
    backlogs: Vec<Arc<Mutex<Pending>>>,
    /// Whether hints come now: those who begin to watch may rely on them.
    armed: bool,
    /// Whether a task looks after the hints.
    tailed: bool,
}

impl Watchers {
    /// Begins to watch. Says whether a task has to be started that looks after the hints.
    pub(super) fn watch(self: &Arc<Self>) -> (Changes, bool) {
        let mut watching = lock(&self.0);
        let hints = if watching.armed { Hints::Resync } else { Hints::none() };
        let backlog = Arc::new(Mutex::new(Pending { hints, waker: None }));
        watching.backlogs.push(Arc::clone(&backlog));
        let first = !mem::replace(&mut watching.tailed, true);
        drop(watching);
        (Changes { watchers: Arc::clone(self), backlog, taken: VecDeque::new() }, first)
    }

    /// Whether the task that looks after the hints has to go on.
    pub(super) fn are_there(&self) -> bool {
        let mut watching = lock(&self.0);
        if watching.backlogs.is_empty() {
            (watching.armed, watching.tailed) = (false, false);
        }
        watching.tailed
    }

    /// Hints come from now on, and may have been lost before.
    pub(super) fn arm(&self) {
        lock(&self.0).armed = true;
        self.tell(|| Change::Resync);
    }

    /// No hints come until it is armed again.
    pub(super) fn disarm(&self) {
        lock(&self.0).armed = false;
    }

    /// Tells everyone.
    pub(super) fn tell(&self, change: impl Fn() -> Change) {
        let watching = lock(&self.0);
        let mut woken = Vec::new();
        for backlog in &watching.backlogs {
            let mut pending = lock(backlog);
            pending.add(change());
            woken.extend(pending.waker.take());
        }
        drop(watching);
        woken.into_iter().for_each(Waker::wake);
    }
}

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

impl Hints {
    fn none() -> Self {
        Self::Each(VecDeque::new(), 0)
    }
}

impl Pending {
    fn add(&mut self, change: Change) {
        if matches!(change, Change::Resync) {
            self.hints = Hints::Resync;
            return;
        }
        match &mut self.hints {
            Hints::Each(changes, bytes) => {
                *bytes += weight(&change);
                changes.push_back(change);
                if *bytes > MOST_BYTES {
                    self.hints = Hints::Heads(mem::take(changes).iter().filter_map(head_of).collect());
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
        match mem::replace(&mut self.hints, Hints::none()) {
            Hints::Each(changes, _) => changes,
            Hints::Heads(heads) => heads.into_iter().map(|(channel, head)| Change::Head(channel, head)).collect(),
            Hints::Resync => VecDeque::from([Change::Resync]),
        }
    }
}

/// The stream of one watcher. Dropping it deregisters.
pub(super) struct Changes {
    watchers: Arc<Watchers>,
    backlog: Arc<Mutex<Pending>>,
    /// What was taken from the backlog and not yielded yet.
    taken: VecDeque<Change>,
}

impl Stream for Changes {
    type Item = Change;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Change>> {
        if self.taken.is_empty() {
            let waker = cx.waker().clone();
            let mut pending = lock(&self.backlog);
            let taken = pending.take();
            let old = if taken.is_empty() { pending.waker.replace(waker) } else { None };
            drop(pending);
            drop(old);
            self.taken = taken;
        }
        self.taken.pop_front().map_or(Poll::Pending, |change| Poll::Ready(Some(change)))
    }
}

impl Drop for Changes {
    fn drop(&mut self) {
        lock(&self.watchers.0).backlogs.retain(|backlog| !Arc::ptr_eq(backlog, &self.backlog));
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
        let mut pending = Pending { hints: Hints::none(), waker: None };
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
    fn a_resync_comes_when_armed_and_the_last_to_leave_ends_the_task() {
        let watchers = Arc::new(Watchers::default());
        let (early, start) = watchers.watch();
        assert!(start && lock(&early.backlog).take().is_empty());
        watchers.arm();
        let (late, start) = watchers.watch();
        assert!(!start);
        for changes in [&early, &late] {
            assert!(matches!(lock(&changes.backlog).take().make_contiguous(), [Change::Resync]));
        }
        drop(early);
        assert!(watchers.are_there());
        drop(late);
        assert!(!watchers.are_there());
    }
}
