//! A gate at which calls wait while a guard holds it closed.

use tokio::sync::watch;

#[derive(Debug, Default)]
pub(super) struct Gate {
    /// The number of guards that hold it closed.
    holds: watch::Sender<usize>,
    /// The number of waiting calls.
    waiting: watch::Sender<usize>,
}

impl Gate {
    pub(super) fn close(&self) {
        self.holds.send_modify(|holds| *holds += 1);
    }

    pub(super) fn open(&self) {
        self.holds.send_modify(|holds| *holds -= 1);
    }

    pub(super) async fn pass(&self) {
        let mut holds = self.holds.subscribe();
        if *holds.borrow_and_update() == 0 {
            return;
        }
        let _waiting = Waiting::new(&self.waiting);
        // This fails only once the sender is dropped, and `self` owns it.
        _ = holds.wait_for(|holds| *holds == 0).await;
    }

    pub(super) async fn reached_by(&self, n: usize) {
        _ = self.waiting.subscribe().wait_for(|waiting| *waiting >= n).await;
    }
}

/// Counts a call as waiting until it continues or is dropped.
struct Waiting<'a>(&'a watch::Sender<usize>);

impl<'a> Waiting<'a> {
    fn new(waiting: &'a watch::Sender<usize>) -> Self {
        waiting.send_modify(|waiting| *waiting += 1);
        Self(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|waiting| *waiting -= 1);
    }
}
