//! The wakers of watchers, taken while something is locked. Knows no watcher.

use std::task::Waker;

/// The watchers that are to be woken once the caller has released its locks.
#[derive(Debug, Default)]
#[must_use = "watchers that are not woken do not see their hints"]
pub struct Wakers {
    /// Most stores have one watcher, for which nothing is allocated.
    first: Option<Waker>,
    others: Vec<Waker>,
}

impl Wakers {
    /// Wakes the watchers.
    pub fn wake(self) {
        self.first.into_iter().chain(self.others).for_each(Waker::wake);
    }

    /// Adds those of another change.
    pub fn append(&mut self, others: Self) {
        others.first.into_iter().chain(others.others).for_each(|waker| self.add(waker));
    }

    pub(super) fn add(&mut self, waker: Waker) {
        match self.first {
            None => self.first = Some(waker),
            Some(_) => self.others.push(waker),
        }
    }
}
