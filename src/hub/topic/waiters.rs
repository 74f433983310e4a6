//! Which readers wait for a topic's next change. Used under the topic's lock; versions are the topic's.

use std::{mem, task::Waker};

/// The wakers that were registered since the last change. A change takes them all, so that a slot is occupied until the next
/// change at most, and a reader that stopped waiting leaves nothing behind.
#[derive(Debug, Default)]
pub(super) struct Waiters {
    /// Readers that have joined, waiting or not.
    readers: usize,
    wakers: Vec<Option<Waker>>,
    /// Indices into `wakers` of readers that left.
    free: Vec<usize>,
}

/// Where a reader's waker is.
#[derive(Debug, Default)]
pub(in crate::hub) struct WaiterSlot {
    /// The version at which it was occupied; at any other version it is void.
    version: u64,
    index: usize,
    waker: Option<Waker>,
    pub(super) upcoming: Upcoming,
}

/// What follows the reader's position.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Upcoming {
    #[default]
    Unknown,
    /// The run that it was shown, and nothing after it.
    OneRun,
    Nothing,
}

impl WaiterSlot {
    pub(super) fn is_parked(&self, version: u64, waker: &Waker) -> bool {
        self.upcoming == Upcoming::Nothing && self.is_registered(version, waker)
    }

    fn is_registered(&self, version: u64, waker: &Waker) -> bool {
        self.version == version && self.waker.as_ref().is_some_and(|own| own.will_wake(waker))
    }

    /// The reader took the run that it was shown.
    pub(in crate::hub) fn take_run(&mut self) {
        self.upcoming = if self.upcoming == Upcoming::OneRun { Upcoming::Nothing } else { Upcoming::Unknown };
    }
}

impl Waiters {
    pub(super) fn join(&mut self) -> WaiterSlot {
        self.readers += 1;
        WaiterSlot::default()
    }

    /// Returns the waker from the slot, to be dropped after the lock is released.
    pub(super) fn leave(&mut self, slot: &WaiterSlot, version: u64) -> Option<Waker> {
        self.readers -= 1;
        if slot.version != version {
            return None;
        }
        self.free.push(slot.index);
        let waker = self.wakers.get_mut(slot.index).and_then(Option::take);
        if self.free.len() == self.wakers.len() {
            (self.wakers, self.free) = Default::default();
        }
        waker
    }

    /// How many readers have joined.
    pub(super) fn readers(&self) -> usize {
        self.readers
    }

    /// Returns the wakers that were replaced, to be dropped after the lock is released: dropping one runs foreign code.
    pub(super) fn register(&mut self, slot: &mut WaiterSlot, version: u64, waker: &Waker) -> [Option<Waker>; 2] {
        if slot.is_registered(version, waker) {
            return [None, None];
        }
        if slot.version != version {
            slot.version = version;
            slot.index = self.free.pop().unwrap_or_else(|| {
                self.wakers.push(None);
                self.wakers.len() - 1
            });
        }
        let own = match &slot.waker {
            Some(own) if own.will_wake(waker) => None,
            _ => slot.waker.replace(waker.clone()),
        };
        [own, self.wakers.get_mut(slot.index).and_then(|registered| registered.replace(waker.clone()))]
    }

    /// Takes the wakers of all waiting readers; their slots are void from now on.
    pub(super) fn take(&mut self) -> Vec<Option<Waker>> {
        self.free = Vec::new();
        let waiting = self.wakers.len();
        mem::replace(&mut self.wakers, Vec::with_capacity(waiting))
    }
}

#[cfg(all(test, not(tower_events_loom)))]
mod tests {
    use std::{sync::Arc, task::Wake};

    use super::*;

    /// Unlike the waker that does nothing, its wakers are known to be the same.
    struct Ignored;

    impl Wake for Ignored {
        fn wake(self: Arc<Self>) {}
    }

    fn wait(waiters: &mut Waiters, version: u64) -> WaiterSlot {
        let mut slot = waiters.join();
        assert!(waiters.register(&mut slot, version, Waker::noop()).iter().all(Option::is_none));
        slot
    }

    #[test]
    fn slots_of_readers_that_left_are_gone_after_the_next_wake() {
        let mut waiters = Waiters::default();
        let mut slots: Vec<_> = (0..1000).map(|_| wait(&mut waiters, 1)).collect();
        let mut stays = slots.remove(500);
        slots.iter().for_each(|slot| drop(waiters.leave(slot, 1)));
        assert_eq!((waiters.readers(), waiters.take().into_iter().flatten().count()), (1, 1));
        waiters.register(&mut stays, 2, Waker::noop());
        assert_eq!(waiters.take().len(), 1);
        waiters.register(&mut stays, 3, Waker::noop());
        assert!(waiters.wakers.capacity() < 10 && waiters.free.capacity() == 0);
    }

    #[test]
    fn slots_are_reused_while_nothing_wakes() {
        let mut waiters = Waiters::default();
        let stays = wait(&mut waiters, 1);
        for _ in 0..1000 {
            let slot = wait(&mut waiters, 1);
            assert!(waiters.leave(&slot, 1).is_some());
        }
        assert_eq!(waiters.wakers.len(), 2);
        assert!(waiters.leave(&stays, 1).is_some());
        assert_eq!((waiters.readers(), waiters.wakers.capacity()), (0, 0));
    }

    #[test]
    fn registering_the_same_waker_again_replaces_none() {
        let (mut waiters, waker) = (Waiters::default(), Waker::from(Arc::new(Ignored)));
        let mut slot = waiters.join();
        for version in 1..=3 {
            let replaced = [(); 2].map(|()| waiters.register(&mut slot, version, &waker));
            assert!(replaced.iter().flatten().all(Option::is_none), "{version}");
            waiters.take();
        }
    }

    #[test]
    fn a_slot_from_before_a_wake_frees_no_other_readers_slot() {
        let mut waiters = Waiters::default();
        let old = wait(&mut waiters, 1);
        waiters.take();
        let _new = wait(&mut waiters, 2);
        assert!(waiters.leave(&old, 2).is_none());
        assert_eq!(waiters.take().into_iter().flatten().count(), 1);
    }
}
