//! The configuration of a store, in the form in which statements need it.

use crate::store::{Clock, Retention};

/// What statements carry.
pub(super) struct Settings {
    pub(super) retention: Retention,
    /// Events, bytes, age, forget after, key window; times in milliseconds.
    pub(super) keep: [i64; 5],
    /// The longest wait for a row lock; `None` when the sessions are configured with it. The same holds for `sync`.
    pub(super) lock_ms: Option<i32>,
    /// `synchronous_commit`, if it differs from the server's.
    pub(super) sync: Option<&'static str>,
    pub(super) clock: Option<Clock>,
    pub(super) max_append_bytes: u64,
}

impl Settings {
    /// The time to stamp with; `None` for the server's.
    pub(super) fn now(&self) -> Option<i64> {
        self.clock.as_ref().map(|clock| clock.now() as i64)
    }
}
