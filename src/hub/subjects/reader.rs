//! One reader whose grant names a subject or is checked again, and how it is told to end.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::Duration,
};

use tokio::time::Instant;

/// How a reader ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct End {
    /// From then on nothing is handed out.
    pub(super) over_at: Instant,
    /// When its client should come back, if not as usual.
    pub(super) retry: Option<Duration>,
}

#[derive(Debug, Default)]
pub(super) struct ReaderSlot(Mutex<SlotState>);

#[derive(Debug, Default)]
struct SlotState {
    end: Option<End>,
    waker: Option<Waker>,
}

impl ReaderSlot {
    /// Tells the reader to end; only the first time counts, unless a later one is stricter. Returns whether it is the first.
    pub(super) fn end(&self, end: End) -> bool {
        let (waker, is_first) = {
            let mut state = self.state();
            let is_first = state.end.is_none();
            let known = state.end.get_or_insert(end);
            known.over_at = known.over_at.min(end.over_at);
            (state.waker.take(), is_first)
        };
        if let Some(waker) = waker {
            waker.wake();
        }
        is_first
    }

    pub(super) fn poll_end(&self, cx: &Context<'_>) -> Poll<()> {
        let mut state = self.state();
        if state.end.is_some() {
            return Poll::Ready(());
        }
        match &mut state.waker {
            Some(waker) => waker.clone_from(cx.waker()),
            None => state.waker = Some(cx.waker().clone()),
        }
        Poll::Pending
    }

    pub(super) fn ended(&self) -> Option<End> {
        self.state().end
    }

    fn state(&self) -> MutexGuard<'_, SlotState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_strictest_end_counts() {
        let slot = ReaderSlot::default();
        let cx = Context::from_waker(Waker::noop());
        assert!(slot.poll_end(&cx).is_pending() && slot.ended().is_none());
        let (soon, later) = (Instant::now(), Instant::now() + Duration::from_secs(5));
        assert!(slot.end(End { over_at: later, retry: Some(Duration::from_secs(9)) }));
        assert!(!slot.end(End { over_at: soon, retry: None }));
        assert!(!slot.end(End { over_at: later, retry: None }));
        let ended = slot.ended().unwrap();
        assert_eq!((ended.over_at, ended.retry), (soon, Some(Duration::from_secs(9))));
        assert!(slot.poll_end(&cx).is_ready());
    }
}
