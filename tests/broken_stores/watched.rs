//! Stores whose hints go wrong.

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

use super::spoiled::{Fault, Hints};

/// How a stream of hints is polled.
type Polled = Box<dyn FnMut(&mut Hints, &mut Context<'_>) -> Poll<Option<Change>> + Send>;

struct Faulty(Hints, Polled);

impl Stream for Faulty {
    type Item = Change;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Change>> {
        let Self(hints, poll) = &mut *self;
        poll(hints, cx)
    }
}

fn polled(
    hints: Hints,
    poll: impl FnMut(&mut Hints, &mut Context<'_>) -> Poll<Option<Change>> + Send + 'static,
) -> Hints {
    Box::pin(Faulty(hints, Box::new(poll)))
}

/// Gives only what `change` leaves of each hint.
fn changed(hints: Hints, mut change: impl FnMut(Change) -> Option<Change> + Send + 'static) -> Hints {
    polled(hints, move |hints, cx| {
        loop {
            match std::task::ready!(hints.as_mut().poll_next(cx)) {
                Some(next) => {
                    if let Some(next) = change(next) {
                        return Poll::Ready(Some(next));
                    }
                }
                None => return Poll::Ready(None),
            }
        }
    })
}

/// Nobody is woken.
pub(crate) struct NeverWakes;

impl Fault for NeverWakes {
    fn changes(&self, inner: Hints) -> Hints {
        polled(inner, |hints, _| hints.as_mut().poll_next(&mut Context::from_waker(Waker::noop())))
    }
}

/// The first waker is woken, for ever.
pub(crate) struct WakesTheFirst;

impl Fault for WakesTheFirst {
    fn changes(&self, inner: Hints) -> Hints {
        let mut first: Option<Waker> = None;
        polled(inner, move |hints, cx| {
            let first = first.get_or_insert_with(|| cx.waker().clone());
            hints.as_mut().poll_next(&mut Context::from_waker(first))
        })
    }
}

/// Wakers outlive their streams.
#[derive(Default)]
pub(crate) struct KeepsWakers(Arc<Mutex<Vec<Waker>>>);

impl Fault for KeepsWakers {
    fn changes(&self, inner: Hints) -> Hints {
        let kept = Arc::clone(&self.0);
        polled(inner, move |hints, cx| {
            kept.lock().unwrap().push(cx.waker().clone());
            hints.as_mut().poll_next(cx)
        })
    }
}

/// Two hints become one, whatever channels they are of.
pub(crate) struct JoinsHints;

impl Fault for JoinsHints {
    fn changes(&self, inner: Hints) -> Hints {
        let mut held: Option<Change> = None;
        polled(inner, move |hints, cx| {
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

/// Of three entries, the second is left out.
pub(crate) struct LeavesOutAnEntry;

impl Fault for LeavesOutAnEntry {
    fn changes(&self, inner: Hints) -> Hints {
        changed(inner, |change| match change {
            Change::Entries(mut entries) if entries.len() > 2 => {
                entries.remove(1);
                Some(Change::Entries(entries))
            }
            other => Some(other),
        })
    }
}

/// A close is not told of.
pub(crate) struct HidesCloses;

impl Fault for HidesCloses {
    fn changes(&self, inner: Hints) -> Hints {
        changed(inner, |change| match change {
            Change::Head(_, head) if head.closed => None,
            other => Some(other),
        })
    }
}

/// Channels with awkward names are not told of.
pub(crate) struct TellsOfPlainNames;

impl Fault for TellsOfPlainNames {
    fn changes(&self, inner: Hints) -> Hints {
        let is_plain = |name: &str| name.chars().all(|c| c.is_ascii_alphanumeric() || c == ':');
        changed(inner, move |change| match &change {
            Change::Head(of, _) => is_plain(of.as_str()).then_some(change),
            Change::Entries(entries) => is_plain(entries[0].channel.as_str()).then_some(change),
            _ => Some(change),
        })
    }
}

/// Of hints that nobody takes, the newest are kept, and nothing says that others were lost.
pub(crate) struct KeepsTheNewestHints;

impl Fault for KeepsTheNewestHints {
    fn changes(&self, inner: Hints) -> Hints {
        let mut kept = VecDeque::new();
        polled(inner, move |hints, cx| {
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

/// A head is told of with one entry more than there is.
pub(crate) struct TellsHeadsAhead;

impl Fault for TellsHeadsAhead {
    fn changes(&self, inner: Hints) -> Hints {
        changed(inner, |change| match change {
            Change::Entries(entries) => {
                let last = entries.last()?;
                let cursor = Cursor { seq: last.cursor.seq + 1, ..last.cursor };
                Some(Change::Head(last.channel.clone(), Head::open(cursor)))
            }
            other => Some(other),
        })
    }
}

/// Whoever is dropped takes another stream along, that which was opened first or last.
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
        let leaving = Leaving { which: self.which, open: Arc::clone(&self.open) };
        polled(inner, move |hints, cx| {
            let _ = &leaving;
            if is_over.load(Ordering::SeqCst) { Poll::Pending } else { hints.as_mut().poll_next(cx) }
        })
    }
}

struct Leaving {
    which: fn(&mut Vec<Weak<AtomicBool>>) -> Option<Weak<AtomicBool>>,
    open: Arc<Mutex<Vec<Weak<AtomicBool>>>>,
}

impl Drop for Leaving {
    fn drop(&mut self) {
        let ended = (self.which)(&mut self.open.lock().unwrap()).and_then(|ended| ended.upgrade());
        if let Some(ended) = ended {
            ended.store(true, Ordering::SeqCst);
        }
    }
}
