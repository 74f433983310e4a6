//! Writes in the order in which they came. Knows neither locks nor tasks.

use std::collections::VecDeque;

use super::waiting::Waiting;

/// Writes that wait, in the order in which they came. A store that has a lock of its own keeps it there; others use
/// [`WriteQueues`](super::WriteQueues).
#[derive(Debug)]
pub struct WriteQueue<W, T>(VecDeque<Waiting<W, T>>);

impl<W, T> Default for WriteQueue<W, T> {
    fn default() -> Self {
        Self(VecDeque::new())
    }
}

impl<W, T> WriteQueue<W, T> {
    /// Adds a write.
    pub fn push(&mut self, waiting: Waiting<W, T>) {
        self.0.push_back(waiting);
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes the writes that go together; none if nothing waits. `joins` is called with what was taken so far, at least one, and
    /// the next write, and says whether that joins them; once it does not, no more are taken. Writes that were withdrawn are
    /// dropped: they were not sent, so they did not happen.
    pub fn take(&mut self, mut joins: impl FnMut(&[Waiting<W, T>], &W) -> bool) -> Vec<Waiting<W, T>> {
        let mut group = Vec::new();
        while let Some(waiting) = self.0.pop_front() {
            if waiting.is_abandoned() {
                continue;
            }
            if !group.is_empty() && !joins(&group, &waiting.write) {
                self.0.push_front(waiting);
                break;
            }
            group.push(waiting);
        }
        group
    }

    /// Takes everything.
    pub fn take_all(&mut self) -> impl Iterator<Item = Waiting<W, T>> + use<W, T> {
        std::mem::take(&mut self.0).into_iter()
    }
}
