//! A run that may fail without ending the others.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// What `run` gave, or what it panicked with. Nothing of a run that failed is used again.
pub(crate) fn attempt<T>(run: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(run)).map_err(|panic| match panic.downcast::<String>() {
        Ok(text) => *text,
        Err(panic) => panic.downcast_ref::<&str>().copied().unwrap_or("it panicked").to_owned(),
    })
}
