//! The watchers of a store: the streams that [`Store::changes`](crate::store::Store::changes) returns, and the hints that each
//! has not taken yet. Knows nothing of the store: it is told what changed.
//!
//! Wakers are cloned, woken and dropped outside the lock, because they run foreign code, which may call the store.

use std::{
    fmt, mem,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use super::{
    change_queue::ChangeQueue,
    changes::Changes,
    wakers::Wakers,
    watcher_registry::{State, WatcherRegistry},
};
use crate::store::Change;

/// The watchers of one store, and whether hints reach it. Clones share them.
///
/// A store whose every change passes through this process has [armed](Self::armed) watchers. A store that is told of the changes
/// of others has [unarmed](Self::unarmed) ones: it [arms](Self::arm) them when it starts to receive hints, and
/// [disarms](Self::disarm) them when it no longer does. A watcher gets its first [`Change::Resync`] once they are armed, and another
/// whenever they are armed again.
///
/// What a watcher has not taken stays bounded: above 4 MiB of entries only the last head of each channel is kept, and above 4 096
/// channels only a [`Change::Resync`]. [`Watchers::notify`] locks once, whatever the number of watchers, and neither locks nor
/// calls anything if there are none.
///
/// ```
/// use tower_events::store::{Change, kit::Watchers};
///
/// let watchers = Watchers::unarmed();
/// let stream = watchers.watch(); // what `Store::changes` returns
/// assert!(watchers.are_late()); // `Store::health` is `Degraded`
/// watchers.arm(); // once the store's subscription is confirmed
/// watchers.notify(|| Change::Resync); // for every hint that it receives
/// drop(stream);
/// assert_eq!(watchers.count(), 0);
/// ```
#[derive(Clone)]
pub struct Watchers(Arc<WatcherRegistry>);

impl Watchers {
    /// No watchers, of a store that sees every change itself.
    #[must_use]
    pub fn armed() -> Self {
        Self::new(State { armed: true, ..State::default() })
    }

    /// No watchers, of a store that does not receive hints before [`Watchers::arm`] is called.
    #[must_use]
    pub fn unarmed() -> Self {
        Self::new(State::default())
    }

    fn new(state: State) -> Self {
        Self(Arc::new(WatcherRegistry { count: AtomicUsize::new(0), state: Mutex::new(state) }))
    }

    /// Adds a watcher; dropping the stream removes it.
    #[must_use]
    pub fn watch(&self) -> Changes {
        self.add(&mut self.0.lock())
    }

    /// Adds a watcher. For the first one, `listen` is called: it starts what makes hints arrive, and returns a value whose drop ends
    /// that. When the last watcher leaves, this value is dropped, and the watchers are disarmed.
    ///
    /// `listen` runs while the watchers are locked, so it must not use them; a task that it spawns may.
    #[must_use]
    pub fn watch_with<L: Send + 'static>(&self, listen: impl FnOnce() -> L) -> Changes {
        let mut state = self.0.lock();
        if state.listener.is_none() {
            state.listener = Some(Box::new(listen()));
        }
        self.add(&mut state)
    }

    fn add(&self, state: &mut State) -> Changes {
        let queue = if state.armed { ChangeQueue::with_resync() } else { ChangeQueue::empty() };
        let number = state.next;
        state.next += 1;
        state.queues.insert(number, queue);
        self.0.count.store(state.queues.len(), Ordering::SeqCst);
        Changes::new(Arc::clone(&self.0), number)
    }

    /// Hints arrive from now on. Earlier ones may have been lost, so every watcher gets a [`Change::Resync`].
    pub fn arm(&self) {
        let mut state = self.0.lock();
        state.armed = true;
        let wakers = state.push(|| Change::Resync);
        drop(state);
        wakers.wake();
    }

    /// No hints arrive until [`Watchers::arm`] is called again. Returns whether they did before.
    pub fn disarm(&self) -> bool {
        mem::take(&mut self.0.lock().armed)
    }

    /// Whether hints arrive.
    #[must_use]
    pub fn is_armed(&self) -> bool {
        self.0.lock().armed
    }

    /// Whether there are watchers and no hints arrive: then the store is [`Health::Degraded`](crate::store::Health::Degraded).
    #[must_use]
    pub fn are_late(&self) -> bool {
        let state = self.0.lock();
        !state.queues.is_empty() && !state.armed
    }

    /// How many watchers there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.count.load(Ordering::SeqCst)
    }

    /// Passes a change to all watchers, and wakes them. `change` is called once per watcher, while they are locked. The caller
    /// holds no lock that a waker may need; if it does, [`Watchers::queue`] is for it.
    pub fn notify(&self, change: impl FnMut() -> Change) {
        self.queue(change).wake();
    }

    /// Passes several changes to all watchers, in order, and wakes each once.
    pub fn notify_all(&self, changes: &[Change]) {
        self.queue_all(changes).wake();
    }

    /// Passes a change to all watchers as [`Watchers::notify`] does, for a caller that holds a lock so that hints are queued in the
    /// order of the changes. It [wakes](Wakers::wake) the watchers once it has released that lock.
    pub fn queue(&self, change: impl FnMut() -> Change) -> Wakers {
        if self.count() == 0 {
            return Wakers::default();
        }
        self.0.lock().push(change)
    }

    /// Passes several changes to all watchers, as [`Watchers::queue`] does one.
    pub fn queue_all(&self, changes: &[Change]) -> Wakers {
        let mut wakers = Wakers::default();
        if changes.is_empty() || self.count() == 0 {
            return wakers;
        }
        let mut state = self.0.lock();
        changes.iter().for_each(|change| wakers.append(state.push(|| change.clone())));
        wakers
    }
}

impl fmt::Debug for Watchers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watchers").field("count", &self.count()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        pin::Pin,
        sync::{atomic::AtomicBool, mpsc},
        task::{Context, Poll, Wake, Waker},
        thread,
        time::Duration,
    };

    use futures_core::Stream as _;

    use super::*;
    use crate::{channel::Channel, cursor::Cursor, store::Head};

    fn poll(changes: &mut Changes) -> Option<Change> {
        match Pin::new(changes).poll_next(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(change) => Some(change.expect("it never ends")),
            Poll::Pending => None,
        }
    }

    fn head(seq: u64) -> Change {
        Change::Head(Channel::new("a").unwrap(), Head::open(Cursor { epoch: 1, seq, tag: 1 }))
    }

    fn is_head(change: Option<Change>, seq: u64) -> bool {
        matches!(change, Some(Change::Head(_, head)) if head.cursor.seq == seq)
    }

    #[test]
    fn armed_watchers_begin_with_a_resync_and_get_what_follows_in_order() {
        let watchers = Watchers::armed();
        let mut streams = [watchers.watch(), watchers.watch()];
        watchers.notify_all(&[head(1), head(2)]);
        for stream in &mut streams {
            // The resync covers what was queued before it was taken.
            assert!(matches!(poll(stream), Some(Change::Resync)) && poll(stream).is_none());
        }
        watchers.notify_all(&[head(3), head(4)]);
        watchers.notify(|| head(5));
        for stream in &mut streams {
            assert!([3, 4, 5].into_iter().all(|seq| is_head(poll(stream), seq)) && poll(stream).is_none());
        }
    }

    #[test]
    fn unarmed_watchers_are_late_and_get_a_resync_whenever_they_are_armed() {
        let watchers = Watchers::unarmed();
        assert!(!watchers.are_late() && !watchers.is_armed());
        let mut early = watchers.watch();
        assert!(watchers.are_late() && poll(&mut early).is_none());
        watchers.arm();
        let mut late = watchers.watch();
        assert!(!watchers.are_late() && watchers.is_armed());
        for stream in [&mut early, &mut late] {
            assert!(matches!(poll(stream), Some(Change::Resync)) && poll(stream).is_none());
        }
        assert!(watchers.disarm() && !watchers.disarm() && watchers.are_late());
        watchers.arm();
        assert!(matches!(poll(&mut early), Some(Change::Resync)));
    }

    fn assert_unlocked(watchers: &Watchers) {
        assert!(watchers.0.state.try_lock().is_ok(), "foreign code runs while the watchers are locked");
    }

    /// Ends when it is dropped.
    struct Listener(Watchers, Arc<AtomicBool>);

    impl Drop for Listener {
        fn drop(&mut self) {
            assert_unlocked(&self.0);
            self.1.store(false, Ordering::SeqCst);
        }
    }

    #[test]
    fn a_listener_runs_from_the_first_watcher_to_the_last() {
        let (watchers, runs) = (Watchers::unarmed(), Arc::new(AtomicBool::new(false)));
        let watch = || {
            watchers.watch_with(|| {
                assert!(!runs.swap(true, Ordering::SeqCst), "only one");
                Listener(watchers.clone(), Arc::clone(&runs))
            })
        };
        for _ in 0..2 {
            let (first, second) = (watch(), watch());
            watchers.arm();
            drop(first);
            assert!(runs.load(Ordering::SeqCst) && watchers.is_armed() && watchers.count() == 1);
            drop(second);
            assert!(!runs.load(Ordering::SeqCst) && !watchers.is_armed() && watchers.count() == 0);
        }
    }

    #[test]
    fn watchers_without_a_listener_stay_armed_when_the_last_one_leaves() {
        let watchers = Watchers::armed();
        drop(watchers.watch());
        assert!(watchers.is_armed());
    }

    #[test]
    fn a_change_that_nobody_watches_needs_no_lock() {
        let watchers = Watchers::armed();
        drop(watchers.watch());
        let (done, is_done) = mpsc::channel();
        let locked = watchers.0.lock();
        thread::spawn({
            let watchers = watchers.clone();
            move || {
                watchers.notify(|| Change::Resync);
                watchers.notify_all(&[Change::Resync]);
                done.send(())
            }
        });
        assert_eq!(is_done.recv_timeout(Duration::from_secs(5)), Ok(()));
        drop(locked);
    }

    /// A waker that runs foreign code when it is woken and dropped.
    struct Foreign(Watchers);

    impl Wake for Foreign {
        fn wake(self: Arc<Self>) {
            assert_unlocked(&self.0);
        }
    }

    impl Drop for Foreign {
        fn drop(&mut self) {
            assert_unlocked(&self.0);
        }
    }

    #[test]
    fn wakers_are_woken_and_dropped_while_nothing_is_locked() {
        let watchers = Watchers::armed();
        let mut stream = watchers.watch();
        // The first one is not needed, the second is replaced, the third is woken, and the last is dropped with its stream.
        for _ in 0..3 {
            let waker = Waker::from(Arc::new(Foreign(watchers.clone())));
            _ = Pin::new(&mut stream).poll_next(&mut Context::from_waker(&waker));
        }
        watchers.notify(|| head(1));
        for _ in 0..2 {
            let waker = Waker::from(Arc::new(Foreign(watchers.clone())));
            _ = Pin::new(&mut stream).poll_next(&mut Context::from_waker(&waker));
        }
        drop(stream);
    }

    #[test]
    fn the_waker_of_the_last_poll_is_woken_once_per_batch() {
        struct Count(AtomicUsize);
        impl Wake for Count {
            fn wake(self: Arc<Self>) {
                self.0.fetch_add(1, Ordering::SeqCst);
            }
        }
        let watchers = Watchers::armed();
        let counts = [0, 1, 2].map(|_| Arc::new(Count(AtomicUsize::new(0))));
        let wakers = counts.clone().map(Waker::from);
        let mut streams = [watchers.watch(), watchers.watch()];
        for (stream, of) in streams.iter_mut().zip([&wakers[1], &wakers[2]]) {
            while Pin::new(&mut *stream).poll_next(&mut Context::from_waker(&wakers[0])).is_ready() {}
            assert!(Pin::new(stream).poll_next(&mut Context::from_waker(of)).is_pending());
        }
        let woken = || counts.each_ref().map(|count| count.0.load(Ordering::SeqCst));
        let queued = watchers.queue(|| head(1));
        assert_eq!(woken(), [0, 0, 0]);
        queued.wake();
        watchers.notify_all(&[head(2), head(3)]);
        assert_eq!(woken(), [0, 1, 1]);
    }
}
