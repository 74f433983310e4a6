//! Pages in the hands of readers. A client that does not read for long gives its page back: what it holds else for as long
//! as its connection lasts is the largest that a reader has.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use tokio::time::Instant;

use super::{
    entry_run::EntryRun,
    shared_read::{SharedPage, SharedRead},
    sweep::SweepThreshold,
};

/// A page that a reader hands out.
#[derive(Debug)]
pub(super) struct Lease(Mutex<Option<HeldPage>>);

#[derive(Clone, Debug)]
pub(super) struct LeasedPage {
    pub(super) page: Arc<SharedPage>,
    /// The first of its runs that its reader needs, and what of that one, when it is not all.
    pub(super) first: usize,
    pub(super) part: Option<Arc<EntryRun>>,
}

#[derive(Debug)]
struct HeldPage {
    page: LeasedPage,
    /// Kept so that others at positions within the page share it.
    _read: Arc<SharedRead>,
    /// When its reader was last seen to want it.
    last_used: Instant,
}

impl Lease {
    /// The page, unless it was given back.
    pub(super) fn page(&self) -> Option<LeasedPage> {
        let mut held = self.held();
        let held = held.as_mut()?;
        held.last_used = Instant::now();
        Some(held.page.clone())
    }

    fn revoke(&self, unused_since: Instant) -> Option<HeldPage> {
        self.held().take_if(|held| held.last_used <= unused_since)
    }

    fn held(&self) -> MutexGuard<'_, Option<HeldPage>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All pages that readers have.
#[derive(Debug, Default)]
pub(super) struct Leases(Mutex<LeaseList>);

#[derive(Debug, Default)]
struct LeaseList {
    leases: Vec<Weak<Lease>>,
    sweep_threshold: SweepThreshold,
}

impl Leases {
    pub(super) fn lease(&self, read: Arc<SharedRead>, page: LeasedPage) -> Arc<Lease> {
        let lease = Arc::new(Lease(Mutex::new(Some(HeldPage { page, _read: read, last_used: Instant::now() }))));
        let mut list = self.list();
        let LeaseList { leases, sweep_threshold } = &mut *list;
        sweep_threshold.before_adding(leases, Vec::len, |leases| leases.retain(|lease| lease.strong_count() > 0));
        leases.push(Arc::downgrade(&lease));
        lease
    }

    /// Takes the pages back that were not used for `longest`.
    pub(super) fn sweep(&self, now: Instant, longest: Duration) {
        // Too long ago to be told is never.
        let Some(unused_since) = now.checked_sub(longest) else { return };
        let leases: Vec<_> = self.list().leases.iter().filter_map(Weak::upgrade).collect();
        for lease in leases {
            drop(lease.revoke(unused_since));
        }
    }

    fn list(&self) -> MutexGuard<'_, LeaseList> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(all(test, not(tower_events_loom)))]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::{
        cursor::Cursor,
        hub::shared_read::ReadContext,
        store::{Head, Limit, Outcome, Start},
    };

    fn page() -> LeasedPage {
        let at = Cursor { epoch: 1, seq: 1, tag: 1 };
        let head = Head { cursor: at, closed: false };
        let page = crate::store::Page { outcome: Outcome::Continued, from: at, entries: Vec::new(), next: at, head };
        let context = ReadContext { start: Start::Earliest, limit: Limit::default(), version: 0, generation: 0 };
        LeasedPage { page: Arc::new(SharedPage::new(page, context)), first: 0, part: None }
    }

    #[tokio::test(start_paused = true)]
    async fn pages_go_whose_readers_went_or_did_not_look_for_long() {
        let leases = Leases::default();
        for _ in 0..1_000 {
            drop(leases.lease(Arc::new(SharedRead::new()), page()));
        }
        assert!(leases.list().leases.len() <= 130);
        let longest = Duration::from_secs(10);
        let held = leases.lease(Arc::new(SharedRead::new()), page());
        for _ in 0..1_000 {
            drop(leases.lease(Arc::new(SharedRead::new()), page()));
        }
        let [idle, seen] = [(); 2].map(|()| leases.lease(Arc::new(SharedRead::new()), page()));
        tokio::time::advance(longest / 2).await;
        assert!(seen.page().is_some());
        tokio::time::advance(longest / 2).await;
        leases.sweep(Instant::now(), longest);
        assert_eq!((idle.page().is_some(), seen.page().is_some()), (false, true));
        assert!(held.page().is_none(), "one that has a reader is not forgotten");
        leases.sweep(Instant::now(), Duration::MAX);
        assert!(seen.page().is_some());
    }
}
