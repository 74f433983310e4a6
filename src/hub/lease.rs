//! Pages that are leased to readers. A client that does not read for long loses its page, which is the largest thing that it
//! would hold for as long as its connection lasts.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use tokio::time::Instant;

use super::{entry_run::EntryRun, shared_page::SharedPage, shared_read::SharedRead, sweep::SweepThreshold};

/// A page that a reader hands out, until it is revoked.
#[derive(Debug)]
pub(super) struct Lease(Mutex<Option<HeldPage>>);

#[derive(Clone, Debug)]
pub(super) struct LeasedPage {
    pub(super) page: Arc<SharedPage>,
    /// The first of its runs that the reader needs, and the part of it unless that is all.
    pub(super) first: usize,
    pub(super) part: Option<Arc<EntryRun>>,
}

#[derive(Debug)]
struct HeldPage {
    page: LeasedPage,
    /// Kept so that readers at other positions within the page share it.
    _read: Arc<SharedRead>,
    last_used: Instant,
}

impl Lease {
    /// The page, unless the lease was revoked.
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

/// All leases of a hub.
#[derive(Debug, Default)]
pub(super) struct Leases(Mutex<LeaseList>);

#[derive(Debug, Default)]
struct LeaseList {
    leases: Vec<Weak<Lease>>,
    sweep_threshold: SweepThreshold,
}

impl Leases {
    pub(super) fn lease(&self, read: Arc<SharedRead>, page: LeasedPage) -> Arc<Lease> {
        let held = HeldPage { page, _read: read, last_used: Instant::now() };
        let lease = Arc::new(Lease(Mutex::new(Some(held))));
        let mut list = self.list();
        let LeaseList { leases, sweep_threshold } = &mut *list;
        sweep_threshold.before_adding(leases, Vec::len, |leases| leases.retain(|lease| lease.strong_count() > 0));
        leases.push(Arc::downgrade(&lease));
        lease
    }

    /// Revokes the leases that were not used for `timeout`; returns how many.
    pub(super) fn revoke_unused(&self, now: Instant, timeout: Duration) -> usize {
        // Before what the clock can represent: no lease is that old.
        let Some(unused_since) = now.checked_sub(timeout) else { return 0 };
        let leases: Vec<_> = self.list().leases.iter().filter_map(Weak::upgrade).collect();
        leases.iter().filter_map(|lease| lease.revoke(unused_since)).count()
    }

    fn list(&self) -> MutexGuard<'_, LeaseList> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(all(test, not(tower_events_loom)))]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::hub::shared_page::tests::page;

    fn lease(leases: &Leases) -> Arc<Lease> {
        let page = LeasedPage { page: Arc::new(page(1, 2)), first: 0, part: None };
        leases.lease(Arc::new(SharedRead::new()), page)
    }

    #[tokio::test(start_paused = true)]
    async fn pages_are_dropped_whose_readers_left_or_did_not_look_for_long() {
        let leases = Leases::default();
        for _ in 0..1_000 {
            drop(lease(&leases));
        }
        assert!(leases.list().leases.len() <= 130);
        let timeout = Duration::from_secs(10);
        let held = lease(&leases);
        for _ in 0..1_000 {
            drop(lease(&leases));
        }
        let [idle, used] = [(); 2].map(|()| lease(&leases));
        tokio::time::advance(timeout / 2).await;
        assert!(used.page().is_some());
        tokio::time::advance(timeout / 2).await;
        leases.revoke_unused(Instant::now(), timeout);
        assert_eq!((idle.page().is_some(), used.page().is_some()), (false, true));
        assert!(held.page().is_none(), "a lease that is still held is not forgotten");
        leases.revoke_unused(Instant::now(), Duration::MAX);
        assert!(used.page().is_some());
    }
}
