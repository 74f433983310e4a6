//! Runs that may fail without ending the others.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// The result of `run`, or the message of its panic. Unwind safe, because nothing of a failed run is used again.
pub(crate) fn attempt<T>(run: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(run)).map_err(|panic| match panic.downcast::<String>() {
        Ok(text) => *text,
        Err(panic) => panic.downcast_ref::<&str>().copied().unwrap_or("it panicked").to_owned(),
    })
}
