//! The stream of one watcher.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures_core::Stream;

use super::{core::Core, ear};
use crate::{store::Change, stores::hints::Backlog};

/// Hints of this process's appends and of others'. Dropping it ends the watch.
pub(super) struct Changes {
    core: Arc<Core>,
    backlog: Arc<Backlog>,
    /// What was taken from the backlog and not yielded yet.
    taken: VecDeque<Change>,
}

impl Changes {
    pub(super) fn new(core: Arc<Core>) -> Self {
        let backlog = core.watch();
        // When this returns the bell is watched, so that the resync that the backlog begins with comes after it.
        ear::attend(&core);
        Self { core, backlog, taken: VecDeque::new() }
    }
}

impl Stream for Changes {
    type Item = Change;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Change>> {
        if self.taken.is_empty() {
            self.taken = self.backlog.take(cx);
        }
        self.taken.pop_front().map_or(Poll::Pending, |change| Poll::Ready(Some(change)))
    }
}

impl Drop for Changes {
    fn drop(&mut self) {
        self.core.unwatch(&self.backlog);
    }
}
