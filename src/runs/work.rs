//! The application's work: what it may return, and what becomes of its panics.

use std::{
    any::Any,
    fmt,
    future::{Future, poll_fn},
    panic::{AssertUnwindSafe, catch_unwind},
    task::Poll,
};

use super::{marks::End, outcome::RunOutcome};

/// What the work of a run may return: nothing, or a result whose error can be displayed.
pub trait WorkResult: sealed::Sealed + Send {
    /// The text of the error, if it failed.
    #[doc(hidden)]
    fn error_text(self) -> Option<String>;
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for () {}
    impl<E> Sealed for Result<(), E> {}
}

impl WorkResult for () {
    fn error_text(self) -> Option<String> {
        None
    }
}

impl<E: fmt::Display + Send> WorkResult for Result<(), E> {
    fn error_text(self) -> Option<String> {
        self.err().map(|error| error.to_string())
    }
}

/// Does the work and says how it ended. A panic ends nothing but the run.
pub(super) async fn end_of<W>(work: impl FnOnce() -> W) -> End
where
    W: Future<Output: WorkResult>,
{
    // In a block, so that a panic before the future exists is caught as well.
    let mut work = Box::pin(async move { work().await });
    let end = poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(cx))) {
        Ok(Poll::Pending) => Poll::Pending,
        Ok(Poll::Ready(result)) => Poll::Ready(match result.error_text() {
            None => End::plain(RunOutcome::Finished),
            Some(text) => End::error(text),
        }),
        Err(panic) => Poll::Ready(End::error(panic_text(&*panic))),
    });
    end.await
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "the work panicked".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_ends_by_its_result_or_its_panic() {
        let number = 7;
        assert_eq!(end_of(|| async {}).await, End::plain(RunOutcome::Finished));
        assert_eq!(end_of(|| async { Ok::<_, fmt::Error>(()) }).await, End::plain(RunOutcome::Finished));
        assert_eq!(end_of(|| async { Err("away") }).await, End::error("away".into()));
        assert_eq!(end_of(|| async { assert!(number < 7, "number {number}") }).await, End::error("number 7".into()));
        let panics_at_once = || -> std::future::Ready<()> { panic!("early") };
        assert_eq!(end_of(panics_at_once).await, End::error("early".into()));
    }
}
