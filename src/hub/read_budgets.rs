//! How much is read at once. Two budgets: reads that bring followed channels up to date, for which live readers wait, and
//! reads for single readers that catch up. The second never delays the first.

use tokio::sync::Semaphore;

use super::{admission::Admission, lease::Leases, options::HubOptions, recent::RecentPages};

#[derive(Debug)]
pub(super) struct ReadBudgets {
    pub(super) catching_up: Admission,
    /// Never closed.
    pub(super) advancing: Semaphore,
    /// How many readers that catch up are woken before every other task has had a turn.
    pub(super) completions: Semaphore,
    pub(super) recent: RecentPages,
    pub(super) leases: Leases,
}

impl ReadBudgets {
    pub(super) fn new(options: &HubOptions) -> Self {
        Self {
            catching_up: Admission::new(options.max_reads, options.max_waiting_reads, options.read_queue_timeout),
            advancing: Semaphore::new(options.max_advancing_reads.min(Semaphore::MAX_PERMITS)),
            completions: Semaphore::new(MAX_COMPLETIONS_AT_ONCE),
            recent: RecentPages::new(options.recent_page_bytes),
            leases: Leases::default(),
        }
    }
}

/// Handing out a page takes some hundred microseconds, so that other tasks wait for a few milliseconds.
const MAX_COMPLETIONS_AT_ONCE: usize = 8;
