//! Recently read pages, kept for a moment: after a restart readers come back within seconds, to many positions of the same
//! pages.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::{error::ReadError, shared_page::SharedPage, shared_read::SharedRead};

#[derive(Debug)]
pub(super) struct RecentPages {
    max_bytes: usize,
    queue: Mutex<Queue>,
}

/// Oldest first.
#[derive(Debug, Default)]
struct Queue {
    pages: VecDeque<RecentPage>,
    bytes: usize,
}

#[derive(Debug)]
struct RecentPage {
    bytes: usize,
    until: Instant,
    _read: Arc<SharedRead>,
}

impl RecentPages {
    pub(super) fn new(max_bytes: usize) -> Self {
        Self { max_bytes, queue: Mutex::default() }
    }

    /// Keeps a page that was read, unless it is empty or too large.
    pub(super) fn keep(&self, read: Option<Arc<SharedRead>>, page: &Result<Arc<SharedPage>, ReadError>) {
        let (Some(read), Ok(page)) = (read, page) else { return };
        let bytes = page.size_in_memory();
        if bytes == 0 || bytes > self.max_bytes {
            return;
        }
        let mut queue = self.queue();
        queue.bytes += bytes;
        queue.pages.push_back(RecentPage { bytes, until: Instant::now() + LIFETIME, _read: read });
        let removed = queue.remove_while(|queue| queue.bytes > self.max_bytes);
        drop(queue);
        drop(removed);
    }

    pub(super) fn expire(&self, now: Instant) {
        let removed = self.queue().remove_while(|queue| queue.pages.front().is_some_and(|page| page.until <= now));
        drop(removed);
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    /// Returns what it removed, to be dropped after the lock is released.
    fn remove_while(&mut self, condition: impl Fn(&Self) -> bool) -> Vec<RecentPage> {
        let mut removed = Vec::new();
        while condition(self) {
            let Some(page) = self.pages.pop_front() else { break };
            self.bytes -= page.bytes;
            removed.push(page);
        }
        removed
    }
}

const LIFETIME: Duration = Duration::from_secs(2);

#[cfg(all(test, not(tower_events_loom)))]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::hub::shared_page::tests::{at, page};

    fn one_entry() -> SharedPage {
        page(0, 1)
    }

    /// Returns how many pages are kept then.
    fn keep(recent: &RecentPages, page: SharedPage) -> usize {
        recent.keep(Some(Arc::new(SharedRead::new())), &Ok(Arc::new(page)));
        recent.queue().pages.len()
    }

    #[tokio::test(start_paused = true)]
    async fn pages_are_kept_for_a_moment_and_up_to_a_bound() {
        let bytes = one_entry().size_in_memory();
        let recent = RecentPages::new(bytes * 3);
        for _ in 0..10 {
            keep(&recent, one_entry());
        }
        assert_eq!(recent.queue().pages.len(), 3);
        tokio::time::advance(LIFETIME / 2).await;
        keep(&recent, one_entry());
        tokio::time::advance(LIFETIME / 2).await;
        recent.expire(Instant::now());
        let kept = recent.queue().pages.len();
        assert_eq!((kept, recent.queue().bytes), (1, bytes));
    }

    #[tokio::test(start_paused = true)]
    async fn an_empty_page_or_one_that_is_too_large_is_not_kept_and_displaces_no_other() {
        let bytes = one_entry().size_in_memory();
        let recent = RecentPages::new(bytes);
        assert_eq!(keep(&recent, one_entry()), 1, "one that just fits");
        assert_eq!(keep(&recent, one_entry().truncated(at(0))), 1, "an empty one");
        assert_eq!(keep(&recent, page(0, 2)), 1, "one that is too large");
        assert_eq!(recent.queue().bytes, bytes);
    }
}
