//! What a handler attaches to a response: signals that end it, and guards that are held while it lasts.

use std::{
    future::Future,
    pin::Pin,
    sync::{Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use crate::hub::Access;

/// What is attached to a response.
#[derive(Default)]
pub(crate) struct Attached {
    pub(crate) end: EndSignals,
    pub(crate) guards: Guards,
}

/// What ends a response: the first of a handler's signals that is ready, or the end of the reader's access.
#[derive(Default)]
pub(crate) struct EndSignals {
    signals: RareList<Pin<Box<dyn Future<Output = ()> + Send>>>,
    /// Boxed, because most grants do not end.
    access: Option<Box<Access>>,
}

impl EndSignals {
    pub(crate) fn add(&mut self, signal: impl Future<Output = ()> + Send + 'static) {
        self.signals.push(Box::pin(signal));
    }

    pub(super) fn take_access(&mut self) -> Option<Box<Access>> {
        self.access.take()
    }

    pub(super) fn put_access(&mut self, access: Option<Box<Access>>) {
        self.access = access;
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.signals.0.is_none() && self.access.is_none()
    }

    /// Whether nothing may be handed out any longer, not even what has been begun.
    pub(crate) fn is_over(&self) -> bool {
        self.access.as_ref().is_some_and(|access| access.is_over())
    }

    /// When the client should come back, if not as usual.
    pub(crate) fn retry(&self) -> Option<Duration> {
        self.access.as_ref()?.retry()
    }

    /// Ready when it ends at the next event boundary, and from then on; never if nothing ends it.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.access.as_mut().is_some_and(|access| access.poll_end(cx).is_ready()) {
            return Poll::Ready(());
        }
        self.poll_signals(cx)
    }

    fn poll_signals(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(signals) = self.signals.items() else { return Poll::Pending };
        if signals.iter_mut().any(|signal| signal.as_mut().poll(cx).is_ready()) {
            // A future must not be polled again once it was ready. That none is left says that one was.
            signals.clear();
        }
        if signals.is_empty() { Poll::Ready(()) } else { Poll::Pending }
    }
}

/// Values that are only dropped.
#[derive(Default)]
pub(crate) struct Guards(RareList<Box<dyn Send>>);

impl Guards {
    pub(crate) fn add(&mut self, guard: impl Send + 'static) {
        self.0.push(Box::new(guard));
    }
}

/// A list that is nearly always empty, and then takes one word. The mutex is never locked: it makes the list `Sync`, as bodies
/// are, although its items are not.
struct RareList<T>(Option<Box<Mutex<Vec<T>>>>);

impl<T> RareList<T> {
    fn push(&mut self, item: T) {
        let list = self.0.get_or_insert_default();
        list.get_mut().unwrap_or_else(PoisonError::into_inner).push(item);
    }

    /// `None` when nothing was ever pushed.
    fn items(&mut self) -> Option<&mut Vec<T>> {
        Some(self.0.as_mut()?.get_mut().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<T> Default for RareList<T> {
    fn default() -> Self {
        Self(None)
    }
}

#[cfg(test)]
mod tests {
    use std::{future, task::Waker};

    use super::*;

    #[test]
    fn the_first_signal_that_is_ready_ends_for_good() {
        let mut cx = Context::from_waker(Waker::noop());
        let mut end = EndSignals::default();
        assert!(end.is_empty() && end.poll(&mut cx).is_pending());
        end.add(future::pending());
        assert!(!end.is_empty() && end.poll(&mut cx).is_pending());
        // One that panics when it is polled again.
        end.add(async {});
        end.add(future::pending());
        assert!(end.poll(&mut cx).is_ready() && end.poll(&mut cx).is_ready());
    }
}
