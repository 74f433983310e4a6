//! What a store was told, in the form in which the server is told it.

use crate::store::{Clock, Retention};

/// What is told with every statement.
pub(super) struct Settings {
    pub(super) retention: Retention,
    /// Events, bytes, age, forget after, key window; times in milliseconds.
    pub(super) keep: [i64; 5],
    /// The longest wait for a row that somebody else holds; none when the sessions know it, and so below.
    pub(super) lock_ms: Option<i32>,
    /// `synchronous_commit`, when it is not the server's.
    pub(super) sync: Option<&'static str>,
    pub(super) clock: Option<Clock>,
    pub(super) largest_append: u64,
}

impl Settings {
    /// The time to stamp with; none when the server's is to be used.
    pub(super) fn now(&self) -> Option<i64> {
        self.clock.as_ref().map(|clock| clock.now() as i64)
    }
}
