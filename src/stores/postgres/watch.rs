//! Hints for those who watch in this process. Knows neither the database nor where a hint comes from.
//!
//! Lock order: the watchers, then one backlog. Wakers are woken and dropped outside both, for they run foreign code.

use std::{
    collections::{HashMap, VecDeque},
    mem,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use futures_core::Stream;
use tokio::task::AbortHandle;

use crate::{
    channel::Channel,
    store::{Change, Entry, Head},
};

/// Everyone who watches, and the task that listens for them.
#[derive(Default)]
pub(super) struct Watchers(Mutex<State>);

#[derive(Default)]
struct State {
    backlogs: Vec<Arc<Backlog>>,
    /// Listens while anyone watches.
    listener: Option<AbortHandle>,
    /// Whether the listener hears what other processes say.
    armed: bool,
}

impl Watchers {
    /// Watches from now on; `listen` starts the listener for the first.
    pub(super) fn watch(self: &Arc<Self>, listen: impl FnOnce() -> AbortHandle) -> Changes {
        let mut state = self.lock();
        let hints = if state.armed { Hints::Resync } else { Hints::Unarmed };
        let backlog = Arc::new(Backlog(Mutex::new(Pending { hints, waker: None })));
        state.backlogs.push(Arc::clone(&backlog));
        if state.listener.is_none() {
            state.listener = Some(listen());
        }
        Changes { watchers: Arc::clone(self), backlog, taken: VecDeque::new() }
    }

    /// The listener hears from now on: whatever was said before was missed.
    pub(super) fn arm(&self) {
        self.lock().armed = true;
        self.for_each(|pending| pending.hints = Hints::Resync);
    }

    /// The listener hears nothing until it is armed again.
    pub(super) fn disarm(&self) {
        self.lock().armed = false;
    }

    pub(super) fn is_armed(&self) -> bool {
        self.lock().armed
    }

    /// Tells everyone; `change` is made only when someone watches.
    pub(super) fn tell(&self, change: impl Fn() -> Change) {
        self.for_each(|pending| pending.add(change()));
    }

    fn for_each(&self, act: impl Fn(&mut Pending)) {
        let state = self.lock();
        let mut woken = Vec::new();
        for backlog in &state.backlogs {
            let mut pending = backlog.lock();
            act(&mut pending);
            woken.extend(pending.waker.take());
        }
        drop(state);
        woken.into_iter().for_each(Waker::wake);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What one watcher has not taken yet.
struct Backlog(Mutex<Pending>);

struct Pending {
    hints: Hints,
    /// Whom to wake when there is something.
    waker: Option<Waker>,
}

/// From precise to coarse; each is bounded, and the next takes over when the bound is passed.
enum Hints {
    /// The listener does not hear yet; when it does, that is the first hint.
    Unarmed,
    /// Each change, and about how many bytes they hold.
    Each(VecDeque<Change>, usize),
    /// The last head of each channel.
    Heads(HashMap<Channel, Head>),
    /// Nothing in particular.
    Resync,
}

impl Backlog {
    fn lock(&self) -> MutexGuard<'_, Pending> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pending {
    fn add(&mut self, change: Change) {
        if matches!((&self.hints, &change), (Hints::Each(..) | Hints::Heads(_), Change::Resync)) {
            self.hints = Hints::Resync;
        }
        match &mut self.hints {
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
            Hints::Resync | Hints::Unarmed => {}
        }
    }

    /// Takes all there is.
    fn take(&mut self) -> VecDeque<Change> {
        if matches!(self.hints, Hints::Unarmed) {
            return VecDeque::new();
        }
        match mem::replace(&mut self.hints, Hints::Each(VecDeque::new(), 0)) {
            Hints::Each(changes, _) => changes,
            Hints::Heads(heads) => heads.into_iter().map(|(channel, head)| Change::Head(channel, head)).collect(),
            Hints::Resync => VecDeque::from([Change::Resync]),
            Hints::Unarmed => VecDeque::new(),
        }
    }
}

/// The stream of one watcher. Dropping it deregisters.
pub(super) struct Changes {
    watchers: Arc<Watchers>,
    backlog: Arc<Backlog>,
    /// What was taken from the backlog and not yielded yet.
    taken: VecDeque<Change>,
}

impl Stream for Changes {
    type Item = Change;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Change>> {
        if self.taken.is_empty() {
            let waker = cx.waker().clone();
            let mut pending = self.backlog.lock();
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
        let mut state = self.watchers.lock();
        state.backlogs.retain(|backlog| !Arc::ptr_eq(backlog, &self.backlog));
        if state.backlogs.is_empty() {
            state.armed = false;
            if let Some(listener) = state.listener.take() {
                listener.abort();
            }
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
}
