//! Pages that were just read, kept for a moment: readers that come back after a restart do so within seconds, and stand at
//! many positions of the same pages.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::{error::ReadError, shared_read::SharedPage, shared_read::SharedRead};

#[derive(Debug)]
pub(super) struct RecentPages {
    max_bytes: usize,
    queue: Mutex<Queue>,
}

/// Oldest first.
#[derive(Debug, Default)]
struct Queue {
    kept: VecDeque<RecentPage>,
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

    /// Keeps a page that was read, unless nothing is in it.
    pub(super) fn keep(&self, read: Option<Arc<SharedRead>>, answer: &Result<Arc<SharedPage>, ReadError>) {
        let (Some(read), Ok(page)) = (read, answer) else { return };
        let bytes = page.kept_bytes();
        if bytes == 0 || bytes > self.max_bytes {
            return;
        }
        let mut queue = self.queue();
        queue.bytes += bytes;
        queue.kept.push_back(RecentPage { bytes, until: Instant::now() + KEEP_FOR, _read: read });
        let over = queue.drop_while(|queue| queue.bytes > self.max_bytes);
        drop(queue);
        drop(over);
    }

    /// Lets those go whose time is over.
    pub(super) fn expire(&self, now: Instant) {
        let over = self.queue().drop_while(|queue| queue.kept.front().is_some_and(|page| page.until <= now));
        drop(over);
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    /// What goes, to be dropped after the lock.
    fn drop_while(&mut self, goes: impl Fn(&Self) -> bool) -> Vec<RecentPage> {
        let mut over = Vec::new();
        while goes(self) {
            let Some(page) = self.kept.pop_front() else { break };
            self.bytes -= page.bytes;
            over.push(page);
        }
        over
    }
}

/// How long a page is kept.
const KEEP_FOR: Duration = Duration::from_secs(2);

#[cfg(all(test, not(tower_events_loom)))]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::{
        channel::Channel,
        cursor::Cursor,
        event::Data,
        hub::shared_read::ReadContext,
        store::{Entry, Head, Limit, Outcome, Page, Start},
    };

    fn page() -> Arc<SharedPage> {
        let at = |seq| Cursor { epoch: 1, seq, tag: 1 };
        let (channel, data) = (Channel::new("a").unwrap(), Data::text("x".repeat(1_000)));
        let entry = Entry { channel, cursor: at(1), prev_tag: 0, appended: 0, time: 0, name: None, data };
        let head = Head { cursor: at(1), closed: false };
        let page = Page { outcome: Outcome::Continued, from: at(0), entries: vec![entry], next: at(1), head };
        Arc::new(SharedPage::new(
            page,
            ReadContext { start: Start::Earliest, limit: Limit::default(), version: 0, generation: 0 },
        ))
    }

    #[tokio::test(start_paused = true)]
    async fn pages_are_kept_for_a_moment_and_up_to_a_bound() {
        let recent = RecentPages::new(page().kept_bytes() * 3);
        for _ in 0..10 {
            recent.keep(Some(Arc::new(SharedRead::new())), &Ok(page()));
        }
        assert_eq!(recent.queue().kept.len(), 3);
        tokio::time::advance(KEEP_FOR / 2).await;
        recent.keep(Some(Arc::new(SharedRead::new())), &Ok(page()));
        tokio::time::advance(KEEP_FOR / 2).await;
        recent.expire(Instant::now());
        let bytes = recent.queue().bytes;
        assert_eq!((recent.queue().kept.len(), bytes), (1, page().kept_bytes()));
    }

    #[tokio::test(start_paused = true)]
    async fn neither_an_empty_page_nor_one_that_is_too_large_is_kept_or_costs_another_its_place() {
        let keep = |recent: &RecentPages, page: Arc<SharedPage>| {
            recent.keep(Some(Arc::new(SharedRead::new())), &Ok(page));
            recent.queue().kept.len()
        };
        let recent = RecentPages::new(page().kept_bytes());
        assert_eq!(keep(&recent, page()), 1, "one that just fits");
        let head = page().head;
        assert_eq!(keep(&recent, Arc::new(page().until(Cursor { seq: 0, ..head.cursor }))), 1, "an empty one");
        let twice = page();
        let runs = [twice.runs.clone(), twice.runs.clone()].concat();
        assert_eq!(keep(&recent, Arc::new(SharedPage { runs, ..Arc::into_inner(twice).unwrap() })), 1);
        assert_eq!(recent.queue().bytes, page().kept_bytes());
    }
}
