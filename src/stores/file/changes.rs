//! The stream of changes that one watcher polls.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures_core::Stream;

use super::{
    core::Core,
    listener::{self, Registration},
};
use crate::store::{Change, kit};

/// Changes by this process and by others. Dropping it deregisters the watcher.
pub(super) struct Changes {
    changes: kit::Changes,
    registration: Registration,
    /// The listener only notifies stores that are in use.
    _core: Arc<Core>,
}

impl Changes {
    pub(super) fn new(core: Arc<Core>) -> Self {
        let changes = core.watchers.watch();
        // Watches the notify file before the first poll, so that the resync that the stream starts with covers what came
        // before.
        let registration = listener::register(&core);
        Self { changes, registration, _core: core }
    }
}

impl Stream for Changes {
    type Item = Change;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Change>> {
        loop {
            let next = Pin::new(&mut self.changes).poll_next(cx);
            if next.is_ready() || self.registration.poll(cx).is_pending() {
                return next;
            }
        }
    }
}
