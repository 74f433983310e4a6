//! The order of things in this process: what began after which other thing had ended. Clocks cannot tell, because two of their
//! readings may be equal.

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

/// Greater than every moment that was taken before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Moment(u64);

impl Moment {
    pub(super) fn now() -> Self {
        static LAST: AtomicU64 = AtomicU64::new(0);
        Self(LAST.fetch_add(1, SeqCst))
    }
}
