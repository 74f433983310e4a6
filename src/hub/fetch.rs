//! Reads of the store on subscribers' behalf. A task drives each read, so that no subscriber depends on another one being
//! polled; subscribers at the same position share it; when the last of them goes, it is aborted.

use std::{
    fmt,
    sync::{Arc, Weak},
    task::{Context, Waker},
};

use tokio::task::AbortHandle;

use super::{
    error::ReadError,
    frame::{Batch, Frame},
    ring::chunk,
    sync::{Mutex, lock},
};
use crate::{
    cursor::Cursor,
    store::{Head, Outcome, Page, StoreError},
};

/// A page that was read, cut into batches.
#[derive(Debug)]
pub(super) struct Fetched {
    pub(super) outcome: Outcome,
    pub(super) from: Cursor,
    pub(super) batches: Vec<Arc<Batch>>,
    pub(super) next: Cursor,
    pub(super) head: Head,
}

impl Fetched {
    pub(super) fn new(page: Page) -> Self {
        let frames: Vec<_> = page.entries.into_iter().map(Frame::new).collect();
        let mut batches = Vec::new();
        let mut rest = frames.as_slice();
        while let [_, ..] = rest {
            let chunk = chunk(rest.iter());
            rest = rest.get(chunk.len()..).unwrap_or_default();
            // A page by time may have looked at more than it holds, so its end is the page's own.
            let next = match (rest, chunk.last()) {
                ([_, ..], Some(last)) => last.entry().cursor,
                _ => page.next,
            };
            batches.push(Batch::new(chunk, next));
        }
        Self { outcome: page.outcome, from: page.from, batches, next: page.next, head: page.head }
    }
}

impl Fetched {
    pub(super) fn newest_first(&self) -> impl Iterator<Item = &Arc<Frame>> {
        self.batches.iter().rev().flat_map(|batch| batch.frames().iter().rev())
    }
}

/// What a read gave: shared by all who wait for it.
pub(super) type Answer = Result<Arc<Fetched>, ReadError>;

/// One read under way.
pub(super) struct Fetch {
    /// The topic's version when the read began. That nothing follows is true of this version only: whoever joins later must
    /// not wait on the word of a read that began before what he knows of.
    pub(super) version: u64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    answer: Option<Answer>,
    wakers: Vec<Waker>,
    task: Option<AbortHandle>,
}

impl Fetch {
    pub(super) fn new(version: u64) -> Self {
        Self { version, state: Mutex::default() }
    }

    /// The answer, or `None` and `cx` is woken when it is there. `place` is the caller's own, `None` at first: so that of
    /// the many who may share a read nobody looks for himself.
    pub(super) fn poll(&self, place: &mut Option<usize>, cx: &Context<'_>) -> Option<Answer> {
        let mut state = lock(&self.state);
        if let Some(answer) = &state.answer {
            return Some(answer.clone());
        }
        let replaced = match place.and_then(|at| state.wakers.get_mut(at)) {
            Some(same) if same.will_wake(cx.waker()) => None,
            Some(other) => Some(std::mem::replace(other, cx.waker().clone())),
            None => {
                *place = Some(state.wakers.len());
                state.wakers.push(cx.waker().clone());
                None
            }
        };
        drop(state);
        drop(replaced);
        None
    }

    pub(super) fn driven_by(&self, task: AbortHandle) {
        lock(&self.state).task = Some(task);
    }

    fn is_complete(&self) -> bool {
        lock(&self.state).answer.is_some()
    }

    fn complete(&self, answer: Answer) {
        let mut state = lock(&self.state);
        state.answer.get_or_insert(answer);
        let wakers = std::mem::take(&mut state.wakers);
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }
}

impl Drop for Fetch {
    fn drop(&mut self) {
        if let Some(task) = lock(&self.state).task.take() {
            task.abort();
        }
    }
}

/// The task's end of a fetch. Dropped without an answer (the store panicked, the runtime ended), it still answers.
pub(super) struct Completion(pub(super) Weak<Fetch>);

impl Completion {
    pub(super) fn complete(self, answer: Answer) {
        if let Some(fetch) = self.0.upgrade() {
            fetch.complete(answer);
        }
    }
}

impl Drop for Completion {
    fn drop(&mut self) {
        if let Some(fetch) = self.0.upgrade() {
            fetch.complete(Err(StoreError::Unavailable("the read was cut off".into()).into()));
        }
    }
}

/// The reads under way that can be shared, by the position that they start from.
#[derive(Default)]
pub(super) struct Fetches(Mutex<Vec<(Cursor, Weak<Fetch>)>>);

impl Fetches {
    /// The read under way from `cursor`, or a new one at `version` that the caller has to drive.
    pub(super) fn share(&self, cursor: Cursor, version: u64) -> (Arc<Fetch>, bool) {
        let mut under_way = lock(&self.0);
        let found = under_way.iter().filter(|(from, _)| *from == cursor).find_map(|(_, fetch)| fetch.upgrade());
        if let Some(fetch) = found.filter(|fetch| !fetch.is_complete()) {
            return (fetch, false);
        }
        under_way.retain(|(from, fetch)| *from != cursor && fetch.strong_count() > 0);
        let fetch = Arc::new(Fetch::new(version));
        under_way.push((cursor, Arc::downgrade(&fetch)));
        (fetch, true)
    }
}

impl fmt::Debug for Fetch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fetch").finish_non_exhaustive()
    }
}

impl fmt::Debug for Fetches {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fetches").finish_non_exhaustive()
    }
}

#[cfg(all(test, not(tower_events_loom)))]
mod tests {
    use std::{
        sync::atomic::{AtomicUsize, Ordering::Relaxed},
        task::Wake,
    };

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Relaxed);
        }
    }

    #[test]
    fn whoever_waits_has_one_place_and_is_woken_as_he_last_asked() {
        let fetch = Fetch::new(0);
        let [first, second, other] = [(); 3].map(|()| Arc::new(Count::default()));
        let (mut one, mut two) = (None, None);
        for (place, waker) in [(&mut one, &first), (&mut two, &other)] {
            assert!(fetch.poll(place, &Context::from_waker(&waker.clone().into())).is_none());
        }
        for waker in [&first, &second, &second] {
            assert!(fetch.poll(&mut one, &Context::from_waker(&waker.clone().into())).is_none());
        }
        assert_eq!(lock(&fetch.state).wakers.len(), 2);
        fetch.complete(Err(StoreError::Unavailable("a test".into()).into()));
        assert_eq!([first, second, other].map(|count| count.0.load(Relaxed)), [0, 1, 1]);
        assert!(fetch.poll(&mut one, &Context::from_waker(Waker::noop())).is_some());
    }
}
