//! A queue per key, and a task for each that has work.

use std::{
    collections::{HashMap, hash_map::Entry},
    fmt,
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{
    budget::WriteBudget,
    queue::WriteQueue,
    waiting::{Answer, Waiting},
};
use crate::store::StoreError;

/// A queue of writes `W` for each key `K`, mostly the [`Channel`](crate::Channel); `()` if all share one queue. A caller gets a
/// `T`. Clones share the queues.
pub struct WriteQueues<K, W, T>(Arc<Shared<K, W, T>>);

struct Shared<K, W, T> {
    budget: WriteBudget,
    /// A key is in the map exactly while there is a task for it.
    queues: Mutex<HashMap<K, WriteQueue<W, T>>>,
}

/// The right to write what waits for one key, until nothing does. If it is dropped before that, as by a runtime that shuts down,
/// what still waits fails with [`StoreError::Unavailable`], so that no caller waits for ever.
#[must_use = "what waits fails if the task is dropped"]
pub struct QueueTask<K: Eq + Hash, W, T> {
    shared: Arc<Shared<K, W, T>>,
    key: K,
    has_ended: bool,
}

impl<K: Eq + Hash + Clone, W, T> WriteQueues<K, W, T> {
    /// No writes, and this budget for all queues together.
    #[must_use]
    pub fn new(budget: WriteBudget) -> Self {
        Self(Arc::new(Shared { budget, queues: Mutex::default() }))
    }

    /// The budget: for writes that go past the queues.
    #[must_use]
    pub fn budget(&self) -> &WriteBudget {
        &self.0.budget
    }

    /// Queues a write of about this many bytes, of which the caller waits for the answer. If no task writes what waits for the key,
    /// returns one, which the caller has to start.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] if the budget has no room for it.
    pub fn push(&self, key: &K, write: W, bytes: u64) -> Result<Pushed<K, W, T>, StoreError> {
        let (waiting, answer) = Waiting::new(write, self.0.budget.reserve(bytes)?);
        Ok((answer, self.push_waiting(key, waiting)))
    }

    fn push_waiting(&self, key: &K, waiting: Waiting<W, T>) -> Option<QueueTask<K, W, T>> {
        match self.0.lock().entry(key.clone()) {
            Entry::Occupied(queue) => {
                queue.into_mut().push(waiting);
                None
            }
            Entry::Vacant(none) => {
                none.insert(WriteQueue::default()).push(waiting);
                Some(QueueTask { shared: Arc::clone(&self.0), key: key.clone(), has_ended: false })
            }
        }
    }
}

/// What the caller waits for, and the task to start if none is running for the key.
type Pushed<K, W, T> = (Answer<T>, Option<QueueTask<K, W, T>>);

impl<K: Eq + Hash, W, T> QueueTask<K, W, T> {
    /// The key.
    #[must_use]
    pub fn key(&self) -> &K {
        &self.key
    }

    /// Takes the writes that go together, as [`WriteQueue::take`] does; none if nothing waits.
    pub fn take(&mut self, joins: impl FnMut(&[Waiting<W, T>], &W) -> bool) -> Vec<Waiting<W, T>> {
        self.shared.lock().get_mut(&self.key).map(|queue| queue.take(joins)).unwrap_or_default()
    }

    /// Takes the writes that go together. `None` if nothing waits: then the task is over, and the next write starts another.
    pub fn next(&mut self, joins: impl FnMut(&[Waiting<W, T>], &W) -> bool) -> Option<Vec<Waiting<W, T>>> {
        let mut queues = self.shared.lock();
        let group = queues.get_mut(&self.key).map(|queue| queue.take(joins)).unwrap_or_default();
        if group.is_empty() && !self.has_ended {
            self.has_ended = true;
            queues.remove(&self.key);
        }
        drop(queues);
        Some(group).filter(|group| !group.is_empty())
    }

    /// Whether nothing waits, for this key or another, and no other task is running.
    #[must_use]
    pub fn is_alone(&self) -> bool {
        let queues = self.shared.lock();
        queues.len() == 1 && queues.values().all(WriteQueue::is_empty)
    }

    /// Fails everything that still waits for the key, since it would fail as `error` says. What is [`StoreError::Unknown`] for
    /// writes that were sent is [`StoreError::Unavailable`] for those that were not.
    pub fn fail_waiting(&mut self, error: &Arc<StoreError>) {
        let rest: Vec<_> = self.shared.lock().get_mut(&self.key).into_iter().flat_map(WriteQueue::take_all).collect();
        for waiting in rest {
            waiting.answer(Err(match StoreError::shared(Arc::clone(error)) {
                StoreError::Unknown(source) => StoreError::Unavailable(source),
                other => other,
            }));
        }
    }
}

impl<K: Eq + Hash, W, T> Drop for QueueTask<K, W, T> {
    fn drop(&mut self) {
        if self.has_ended {
            return;
        }
        let rest = self.shared.lock().remove(&self.key);
        let rest = rest.into_iter().flat_map(|mut queue| queue.take_all());
        Waiting::fail(rest, StoreError::Unavailable("the store's task that writes was dropped".into()));
    }
}

impl<K, W, T> Shared<K, W, T> {
    fn lock(&self) -> MutexGuard<'_, HashMap<K, WriteQueue<W, T>>> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Eq + Hash + Clone, W, T> Default for WriteQueues<K, W, T> {
    fn default() -> Self {
        Self::new(WriteBudget::default())
    }
}

impl<K, W, T> Clone for WriteQueues<K, W, T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<K, W, T> fmt::Debug for WriteQueues<K, W, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WriteQueues").field("budget", &self.0.budget).finish_non_exhaustive()
    }
}

impl<K: Eq + Hash + fmt::Debug, W, T> fmt::Debug for QueueTask<K, W, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QueueTask").field("key", &self.key).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::Future as _,
        pin::pin,
        task::{Context, Poll, Waker},
    };

    use super::*;

    type Queues = WriteQueues<&'static str, u32, u32>;

    fn any(_: &[Waiting<u32, u32>], _: &u32) -> bool {
        true
    }

    fn writes(group: &[Waiting<u32, u32>]) -> Vec<u32> {
        group.iter().map(|waiting| waiting.write).collect()
    }

    fn poll(answer: Answer<u32>) -> Option<Result<u32, StoreError>> {
        match pin!(answer).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(answer) => Some(answer),
            Poll::Pending => None,
        }
    }

    #[test]
    fn a_key_has_one_task_until_nothing_waits_for_it() {
        let queues = Queues::default();
        let (first, task) = queues.push(&"a", 1, 10).unwrap();
        let mut task = task.expect("the first write starts a task");
        assert_eq!(writes(&task.take(any)), [1], "a group that is dropped is one without answers");
        assert!(matches!(poll(first), Some(Err(StoreError::Unknown(_)))));
        let (_second, none) = queues.push(&"a", 2, 10).unwrap();
        assert!(none.is_none() && !task.is_alone());
        let (_other, other) = queues.push(&"b", 3, 10).unwrap();
        assert!(other.is_some(), "another key has its own");
        assert_eq!(writes(&task.next(any).unwrap()), [2]);
        assert!(task.next(any).is_none() && task.next(any).is_none());
        let (_third, next) = queues.push(&"a", 4, 10).unwrap();
        drop(task);
        let mut next = next.expect("the task has ended");
        assert_eq!(writes(&next.next(any).unwrap()), [4], "a task that has ended takes nothing with it");
    }

    #[test]
    fn writes_that_wait_are_taken_in_order_and_only_with_those_that_they_join() {
        let queues = Queues::default();
        let (answers, tasks): (Vec<_>, Vec<_>) = (0..7).map(|n| queues.push(&"a", n, 10).unwrap()).unzip();
        let mut task = tasks.into_iter().flatten().next().unwrap();
        // At most three, and none with 5.
        let mut next = || task.next(|group, next| group.len() < 3 && group[0].write != 5 && *next != 5);
        let groups: Vec<_> = std::iter::from_fn(|| next().map(|group| writes(&group))).collect();
        assert_eq!(groups, [vec![0, 1, 2], vec![3, 4], vec![5], vec![6]]);
        assert!(answers.into_iter().all(|answer| poll(answer).is_some()));
    }

    #[test]
    fn a_write_is_withdrawn_when_its_caller_goes_and_taken_no_more() {
        let queues = Queues::default();
        let (first, task) = queues.push(&"a", 1, 10).unwrap();
        let (second, _) = queues.push(&"a", 2, 10).unwrap();
        let (third, _) = queues.push(&"a", 3, 10).unwrap();
        drop((first, third));
        let group = task.unwrap().next(any).unwrap();
        assert_eq!(writes(&group), [2]);
        assert_eq!(queues.budget().writes(), 1, "what is in progress counts");
        group.into_iter().for_each(|waiting| waiting.answer(Ok(20)));
        assert_eq!((poll(second).unwrap().unwrap(), queues.budget().writes()), (20, 0));
    }

    #[test]
    fn callers_of_a_failed_group_share_its_error_and_those_behind_know_that_they_were_not_sent() {
        let queues = Queues::default();
        let (sent, task) = queues.push(&"a", 1, 10).unwrap();
        let (with_it, _) = queues.push(&"a", 2, 10).unwrap();
        let mut task = task.unwrap();
        let group = task.take(any);
        let (behind, _) = queues.push(&"a", 3, 10).unwrap();
        let error = Arc::new(StoreError::Unknown("reset".into()));
        Waiting::fail_shared(group, &error);
        task.fail_waiting(&error);
        for answer in [sent, with_it] {
            assert!(matches!(poll(answer), Some(Err(StoreError::Unknown(_)))));
        }
        assert!(matches!(poll(behind), Some(Err(StoreError::Unavailable(_)))));
        assert!(task.next(any).is_none() && queues.budget().writes() == 0);
    }

    #[test]
    fn what_waits_for_a_task_that_is_dropped_fails_and_the_next_write_starts_another() {
        let queues = Queues::default();
        let (first, task) = queues.push(&"a", 1, 10).unwrap();
        drop(task);
        assert!(matches!(poll(first), Some(Err(StoreError::Unavailable(_)))));
        let (second, task) = queues.push(&"a", 2, 10).unwrap();
        assert!(task.is_some() && poll(second).is_none());
    }

    #[test]
    fn a_write_beyond_the_budget_is_refused_and_starts_no_task() {
        let queues = Queues::new(WriteBudget::new(1, 100));
        let (_first, task) = queues.push(&"a", 1, 10).unwrap();
        assert!(matches!(queues.push(&"b", 2, 0), Err(StoreError::Unavailable(_))));
        assert!(task.unwrap().next(any).is_some() && queues.budget().writes() == 0);
        assert!(queues.push(&"b", 2, 0).unwrap().1.is_some());
    }
}
