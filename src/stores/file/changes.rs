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
use crate::{store::Change, stores::change_queue::ChangeReceiver};

/// Changes by this process and by others. Dropping it deregisters the watcher.
pub(super) struct Changes {
    core: Arc<Core>,
    receiver: ChangeReceiver,
    registration: Registration,
}

impl Changes {
    pub(super) fn new(core: Arc<Core>) -> Self {
        let queue = core.add_watcher();
        // Watches the notify file before the first poll, so that the resync that the queue starts with covers what came
        // before.
        let registration = listener::register(&core);
        Self { core, receiver: ChangeReceiver::new(queue), registration }
    }
}

impl Stream for Changes {
    type Item = Change;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Change>> {
        loop {
            let next = self.receiver.poll_next(cx);
            if next.is_ready() || self.registration.poll(cx).is_pending() {
                return next;
            }
        }
    }
}

impl Drop for Changes {
    fn drop(&mut self) {
        self.core.remove_watcher(self.receiver.queue());
    }
}
