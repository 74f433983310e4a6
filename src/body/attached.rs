//! What a response holds while it lasts, and what ends it: signals and guards of a handler, and the reader's access.

use std::{
    future::Future,
    pin::Pin,
    sync::{Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use crate::hub::Access;

/// What is attached to a response; to most nothing is, and then it takes one word.
#[derive(Default)]
pub(crate) struct Attached(Option<Box<Parts>>);

#[derive(Default)]
struct Parts {
    /// Futures of which the first that is ready ends the response. `None` if there never was one. The mutex is never locked: it
    /// makes the list `Sync`, as bodies are, although its items are not.
    signals: Option<Mutex<Vec<Signal>>>,
    /// Values that are only dropped.
    guards: Mutex<Vec<Box<dyn Send>>>,
    access: Option<Access>,
}

type Signal = Pin<Box<dyn Future<Output = ()> + Send>>;

impl Attached {
    pub(crate) fn add_guard(&mut self, guard: impl Send + 'static) {
        inner(&mut self.parts().guards).push(Box::new(guard));
    }

    pub(crate) fn add_signal(&mut self, signal: impl Future<Output = ()> + Send + 'static) {
        inner(self.parts().signals.get_or_insert_default()).push(Box::pin(signal));
    }

    /// Ends the response with `access`, if that ends.
    pub(super) fn set_access(&mut self, access: Option<Access>) {
        if access.is_some() {
            self.parts().access = access;
        }
    }

    pub(crate) fn take_access(&mut self) -> Option<Access> {
        self.0.as_mut()?.access.take()
    }

    /// Whether anything may end the response.
    pub(crate) fn may_end(&self) -> bool {
        self.0.as_ref().is_some_and(|parts| parts.signals.is_some() || parts.access.is_some())
    }

    /// Whether nothing may be handed out any longer, not even what has been begun.
    pub(crate) fn is_over(&self) -> bool {
        self.access().is_some_and(Access::is_over)
    }

    /// When the client should come back, if not as usual.
    pub(crate) fn retry(&self) -> Option<Duration> {
        self.access()?.retry()
    }

    /// Ready when the response ends at the next event boundary, and from then on; never if nothing ends it.
    pub(crate) fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(parts) = &mut self.0 else { return Poll::Pending };
        if parts.access.as_mut().is_some_and(|access| access.poll_end(cx).is_ready()) {
            return Poll::Ready(());
        }
        let Some(signals) = parts.signals.as_mut().map(inner) else { return Poll::Pending };
        if signals.iter_mut().any(|signal| signal.as_mut().poll(cx).is_ready()) {
            // A future must not be polled again once it was ready. That none is left says that one was.
            signals.clear();
        }
        if signals.is_empty() { Poll::Ready(()) } else { Poll::Pending }
    }

    fn parts(&mut self) -> &mut Parts {
        self.0.get_or_insert_default()
    }

    fn access(&self) -> Option<&Access> {
        self.0.as_ref()?.access.as_ref()
    }
}

fn inner<T>(list: &mut Mutex<Vec<T>>) -> &mut Vec<T> {
    list.get_mut().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::{future, task::Waker};

    use super::*;

    #[test]
    fn the_first_signal_that_is_ready_ends_for_good() {
        let mut cx = Context::from_waker(Waker::noop());
        let mut attached = Attached::default();
        attached.add_guard(());
        assert!(!attached.may_end() && attached.poll_end(&mut cx).is_pending());
        attached.add_signal(future::pending());
        assert!(attached.may_end() && attached.poll_end(&mut cx).is_pending());
        // One that panics when it is polled again.
        attached.add_signal(async {});
        attached.add_signal(future::pending());
        assert!(attached.poll_end(&mut cx).is_ready() && attached.poll_end(&mut cx).is_ready());
    }
}
