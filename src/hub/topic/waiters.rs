//! Who waits for a topic's next change. Runs under the topic's lock; the version is the topic's.

use std::{mem, task::Waker};

/// The wakers of those who wait since the last change. A change takes them all, so that a slot is held from one to the next
/// only, and who does not wait any more leaves nothing behind.
#[derive(Debug, Default)]
pub(super) struct Waiters {
    /// Readers that have joined, whether they wait or not.
    readers: usize,
    wakers: Vec<Option<Waker>>,
    /// Indices of `wakers` whose readers left.
    free: Vec<usize>,
}

/// A reader's slot among those who wait.
#[derive(Debug, Default)]
pub(in crate::hub) struct WaiterSlot {
    /// The version at which it was taken: void at any other.
    version: u64,
    index: usize,
    waker: Option<Waker>,
    pub(super) upcoming: Upcoming,
}

/// What follows the position of a reader that has a slot.
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
        self.version == version && self.waker.as_ref().is_some_and(|same| same.will_wake(waker))
    }

    /// The run that was shown is taken.
    pub(in crate::hub) fn take_run(&mut self) {
        self.upcoming = if self.upcoming == Upcoming::OneRun { Upcoming::Nothing } else { Upcoming::Unknown };
    }

    /// A part of the run that was shown is taken.
    pub(in crate::hub) fn take_part_of_run(&mut self) {
        self.upcoming = Upcoming::Unknown;
    }
}

impl Waiters {
    pub(super) fn join(&mut self) -> WaiterSlot {
        self.readers += 1;
        WaiterSlot::default()
    }

    /// Returns the waker that was there, to be dropped after the lock.
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

    /// How many have joined.
    pub(super) fn count(&self) -> usize {
        self.readers
    }

    /// Returns the wakers that were there, to be dropped after the lock: they run foreign code.
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
            Some(same) if same.will_wake(waker) => None,
            _ => slot.waker.replace(waker.clone()),
        };
        [own, self.wakers.get_mut(slot.index).and_then(|slot| slot.replace(waker.clone()))]
    }

    /// Whoever waits. Their slots are void from now on.
    pub(super) fn take(&mut self) -> Vec<Option<Waker>> {
        self.free = Vec::new();
        let waited = self.wakers.len();
        mem::replace(&mut self.wakers, Vec::with_capacity(waited))
    }
}

#[cfg(all(test, not(tower_events_loom)))]
mod tests {
    use super::*;

    fn wait(waiters: &mut Waiters, version: u64) -> WaiterSlot {
        let mut slot = waiters.join();
        assert!(waiters.register(&mut slot, version, Waker::noop()).iter().all(Option::is_none));
        slot
    }

    #[test]
    fn who_left_is_not_looked_at_after_the_next_wake() {
        let mut waiters = Waiters::default();
        let mut slots: Vec<_> = (0..1000).map(|_| wait(&mut waiters, 1)).collect();
        let mut stays = slots.remove(500);
        slots.iter().for_each(|slot| drop(waiters.leave(slot, 1)));
        assert_eq!((waiters.count(), waiters.take().into_iter().flatten().count()), (1, 1));
        waiters.register(&mut stays, 2, Waker::noop());
        assert_eq!(waiters.take().len(), 1);
        waiters.register(&mut stays, 3, Waker::noop());
        assert!(waiters.wakers.capacity() < 10 && waiters.free.capacity() == 0);
    }

    #[test]
    fn slots_are_used_again_while_nothing_wakes() {
        let mut waiters = Waiters::default();
        let stays = wait(&mut waiters, 1);
        for _ in 0..1000 {
            let slot = wait(&mut waiters, 1);
            assert!(waiters.leave(&slot, 1).is_some());
        }
        assert_eq!(waiters.wakers.len(), 2);
        assert!(waiters.leave(&stays, 1).is_some());
        assert_eq!((waiters.count(), waiters.wakers.capacity()), (0, 0));
    }

    #[test]
    fn a_slot_from_before_a_wake_is_nobody_elses() {
        let mut waiters = Waiters::default();
        let old = wait(&mut waiters, 1);
        waiters.take();
        let _new = wait(&mut waiters, 2);
        assert!(waiters.leave(&old, 2).is_none());
        assert_eq!(waiters.take().into_iter().flatten().count(), 1);
    }
}
