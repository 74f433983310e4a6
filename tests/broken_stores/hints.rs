//! Stores whose hints are wrong.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker},
};

use futures_core::Stream;
use tower_events::{
    Cursor,
    store::{Change, Head},
};

use super::patched_store::{Fault, Hints};

/// Polls a stream of hints in a wrong way.
type PollFn = Box<dyn FnMut(&mut Hints, &mut Context<'_>) -> Poll<Option<Change>> + Send>;

struct PolledBy(Hints, PollFn);

impl Stream for PolledBy {
    type Item = Change;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Change>> {
        let Self(hints, poll) = &mut *self;
        poll(hints, cx)
    }
}

fn polled_by(
    hints: Hints,
    poll: impl FnMut(&mut Hints, &mut Context<'_>) -> Poll<Option<Change>> + Send + 'static,
) -> Hints {
    Box::pin(PolledBy(hints, Box::new(poll)))
}

/// Passes each hint through `map`, and skips those for which it returns `None`.
fn filter_map(hints: Hints, mut map: impl FnMut(Change) -> Option<Change> + Send + 'static) -> Hints {
    polled_by(hints, move |hints, cx| {
        loop {
            match std::task::ready!(hints.as_mut().poll_next(cx)) {
                Some(next) => {
                    if let Some(next) = map(next) {
                        return Poll::Ready(Some(next));
                    }
                }
                None => return Poll::Ready(None),
            }
        }
    })
}

/// Never wakes a waiting task.
pub(crate) struct NeverWakes;

impl Fault for NeverWakes {
    fn changes(&self, inner: Hints) -> Hints {
        polled_by(inner, |hints, _| hints.as_mut().poll_next(&mut Context::from_waker(Waker::noop())))
    }
}

/// Always wakes the first waker that it saw.
pub(crate) struct WakesOnlyTheFirst;

impl Fault for WakesOnlyTheFirst {
    fn changes(&self, inner: Hints) -> Hints {
        let mut first: Option<Waker> = None;
        polled_by(inner, move |hints, cx| {
            let first = first.get_or_insert_with(|| cx.waker().clone());
            hints.as_mut().poll_next(&mut Context::from_waker(first))
        })
    }
}

/// Keeps wakers after their streams were dropped.
#[derive(Default)]
pub(crate) struct KeepsWakers(Arc<Mutex<Vec<Waker>>>);

impl Fault for KeepsWakers {
    fn changes(&self, inner: Hints) -> Hints {
        let kept = Arc::clone(&self.0);
        polled_by(inner, move |hints, cx| {
            kept.lock().unwrap().push(cx.waker().clone());
            hints.as_mut().poll_next(cx)
        })
    }
}

/// Joins two hints even if they are about different channels.
pub(crate) struct JoinsHints;

impl Fault for JoinsHints {
    fn changes(&self, inner: Hints) -> Hints {
        let mut held: Option<Change> = None;
        polled_by(inner, move |hints, cx| {
            let first = match held.take() {
                Some(held) => held,
                None => match std::task::ready!(hints.as_mut().poll_next(cx)) {
                    Some(first) => first,
                    None => return Poll::Ready(None),
                },
            };
            match (first, hints.as_mut().poll_next(cx)) {
                (Change::Entries(mut first), Poll::Ready(Some(Change::Entries(second)))) => {
                    first.extend(second);
                    Poll::Ready(Some(Change::Entries(first)))
                }
                (first, Poll::Ready(second)) => {
                    held = second;
                    Poll::Ready(Some(first))
                }
                (first, Poll::Pending) => Poll::Ready(Some(first)),
            }
        })
    }
}

/// Leaves out the second of three or more entries.
pub(crate) struct LeavesOutAnEntry;

impl Fault for LeavesOutAnEntry {
    fn changes(&self, inner: Hints) -> Hints {
        filter_map(inner, |change| match change {
            Change::Entries(mut entries) if entries.len() > 2 => {
                entries.remove(1);
                Some(Change::Entries(entries))
            }
            other => Some(other),
        })
    }
}

/// Sends no hint about a close.
pub(crate) struct HidesCloses;

impl Fault for HidesCloses {
    fn changes(&self, inner: Hints) -> Hints {
        filter_map(inner, |change| match change {
            Change::Head(_, head) if head.closed => None,
            other => Some(other),
        })
    }
}

/// Sends no hints about channels whose names contain anything but letters, digits and colons.
pub(crate) struct AnnouncesOnlyPlainNames;

impl Fault for AnnouncesOnlyPlainNames {
    fn changes(&self, inner: Hints) -> Hints {
        let is_plain = |name: &str| name.chars().all(|c| c.is_ascii_alphanumeric() || c == ':');
        filter_map(inner, move |change| match &change {
            Change::Head(of, _) => is_plain(of.as_str()).then_some(change),
            Change::Entries(entries) => is_plain(entries[0].channel.as_str()).then_some(change),
            _ => Some(change),
        })
    }
}

/// Drops the oldest hints when they are not taken, without a `Resync`.
pub(crate) struct KeepsTheNewestHints;

impl Fault for KeepsTheNewestHints {
    fn changes(&self, inner: Hints) -> Hints {
        let mut kept = VecDeque::new();
        polled_by(inner, move |hints, cx| {
            while let Poll::Ready(change) = hints.as_mut().poll_next(cx) {
                kept.push_back(change);
                if kept.len() > 16 {
                    kept.pop_front();
                }
            }
            kept.pop_front().map_or(Poll::Pending, Poll::Ready)
        })
    }
}

/// Announces a head one entry ahead of the real one.
pub(crate) struct AnnouncesHeadsAhead;

impl Fault for AnnouncesHeadsAhead {
    fn changes(&self, inner: Hints) -> Hints {
        filter_map(inner, |change| match change {
            Change::Entries(entries) => {
                let last = entries.last()?;
                let cursor = Cursor { seq: last.cursor.seq + 1, ..last.cursor };
                Some(Change::Head(last.channel.clone(), Head::open(cursor)))
            }
            other => Some(other),
        })
    }
}

/// Ends another stream, the one opened first or last, when a stream is dropped.
pub(crate) struct DropEndsAnother {
    which: fn(&mut Vec<Weak<AtomicBool>>) -> Option<Weak<AtomicBool>>,
    open: Arc<Mutex<Vec<Weak<AtomicBool>>>>,
}

impl DropEndsAnother {
    pub(crate) fn first() -> Self {
        Self { which: |open| (!open.is_empty()).then(|| open.remove(0)), open: Arc::default() }
    }

    pub(crate) fn last() -> Self {
        Self { which: Vec::pop, open: Arc::default() }
    }
}

impl Fault for DropEndsAnother {
    fn changes(&self, inner: Hints) -> Hints {
        let is_over = Arc::new(AtomicBool::new(false));
        self.open.lock().unwrap().push(Arc::downgrade(&is_over));
        let on_drop = EndAnotherOnDrop { which: self.which, open: Arc::clone(&self.open) };
        polled_by(inner, move |hints, cx| {
            let _ = &on_drop;
            if is_over.load(Ordering::SeqCst) { Poll::Pending } else { hints.as_mut().poll_next(cx) }
        })
    }
}

struct EndAnotherOnDrop {
    which: fn(&mut Vec<Weak<AtomicBool>>) -> Option<Weak<AtomicBool>>,
    open: Arc<Mutex<Vec<Weak<AtomicBool>>>>,
}

impl Drop for EndAnotherOnDrop {
    fn drop(&mut self) {
        let ended = (self.which)(&mut self.open.lock().unwrap()).and_then(|ended| ended.upgrade());
        if let Some(ended) = ended {
            ended.store(true, Ordering::SeqCst);
        }
    }
}
