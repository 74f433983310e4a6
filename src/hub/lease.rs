//! Pages in the hands of readers. A client that does not read for long gives its page back: what it holds else for as long
//! as its connection lasts is the largest that a reader has.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use tokio::time::Instant;

use super::{
    fetch::{Fetch, Fetched},
    frame::Batch,
};

/// A page that a reader hands out.
#[derive(Debug)]
pub(super) struct Lease(Mutex<Option<Held>>);

#[derive(Clone, Debug)]
pub(super) struct Page {
    pub(super) fetched: Arc<Fetched>,
    /// The first of its batches that its reader needs, and what of that one, when it is not all.
    pub(super) first: usize,
    pub(super) part: Option<Arc<Batch>>,
}

#[derive(Debug)]
struct Held {
    page: Page,
    /// Kept so that others at positions within the page share it.
    _fetch: Arc<Fetch>,
    /// When its reader was last seen to want it.
    used: Instant,
}

impl Lease {
    /// The page, unless it was given back.
    pub(super) fn page(&self) -> Option<Page> {
        let mut held = self.held();
        let held = held.as_mut()?;
        held.used = Instant::now();
        Some(held.page.clone())
    }

    fn give_back(&self, unused_since: Instant) -> Option<Held> {
        self.held().take_if(|held| held.used <= unused_since)
    }

    fn held(&self) -> MutexGuard<'_, Option<Held>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All pages that readers have.
#[derive(Debug, Default)]
pub(super) struct Leases(Mutex<List>);

#[derive(Debug, Default)]
struct List {
    leases: Vec<Weak<Lease>>,
    /// How many there may be before those that are over are looked for: amortised over the pages.
    sweep_above: usize,
}

impl Leases {
    pub(super) fn lease(&self, fetch: Arc<Fetch>, page: Page) -> Arc<Lease> {
        let lease = Arc::new(Lease(Mutex::new(Some(Held { page, _fetch: fetch, used: Instant::now() }))));
        let mut list = self.list();
        if list.leases.len() >= list.sweep_above {
            list.leases.retain(|lease| lease.strong_count() > 0);
            list.sweep_above = 2 * list.leases.len() + 64;
        }
        list.leases.push(Arc::downgrade(&lease));
        lease
    }

    /// Takes the pages back that were not used for `longest`.
    pub(super) fn sweep(&self, now: Instant, longest: Duration) {
        // Too long ago to be told is never.
        let Some(unused_since) = now.checked_sub(longest) else { return };
        let leases: Vec<_> = self.list().leases.iter().filter_map(Weak::upgrade).collect();
        for lease in leases {
            drop(lease.give_back(unused_since));
        }
    }

    fn list(&self) -> MutexGuard<'_, List> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
