//! Turns of readers that catch up. A reader that is far behind always has something to hand out, so that a thousand of them
//! would all run before one that keeps up ran again. Readers that catch up wait here instead, and a few of them are granted
//! a turn each time that all other tasks have run.

use std::{
    collections::VecDeque,
    mem,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{
            AtomicBool,
            Ordering::{Acquire, Release},
        },
    },
    task::{Context, Poll, Waker},
};

use tokio::{runtime::Handle, task::yield_now};

/// The waiting readers, in the order in which they came.
#[derive(Debug, Default)]
pub(crate) struct Turns(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Arc<Turn>>,
    /// A task grants turns.
    is_granting: bool,
}

/// A turn that is waited for. It holds nothing that others need: one that is granted and never polled blocks nothing.
#[derive(Debug)]
pub(crate) struct Turn {
    granted: AtomicBool,
    waker: Mutex<Waker>,
}

impl Turns {
    pub(crate) fn join(self: &Arc<Self>, cx: &Context<'_>) -> Arc<Turn> {
        let turn = Arc::new(Turn { granted: AtomicBool::new(false), waker: Mutex::new(cx.waker().clone()) });
        let mut state = self.state();
        state.waiting.push_back(turn.clone());
        if mem::replace(&mut state.is_granting, true) {
            return turn;
        }
        // A runtime that is shutting down drops the task at once, which needs the lock.
        drop(state);
        let task = GrantTask(Some(self.clone()));
        // Without a runtime there are no other tasks to wait for: dropping the task grants all turns.
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(task.run());
        }
        turn
    }

    /// Grants the first few turns, and returns whether there were any. If not, the task ends in the same step, so that the
    /// next reader to join starts a new one.
    fn grant_next(&self) -> bool {
        let mut granted = Vec::with_capacity(GRANTS_PER_ROUND);
        let mut state = self.state();
        while granted.len() < GRANTS_PER_ROUND {
            let Some(turn) = state.waiting.pop_front() else { break };
            // A turn that only this list holds is no longer waited for.
            if Arc::strong_count(&turn) > 1 {
                granted.push(turn);
            }
        }
        state.is_granting = !granted.is_empty();
        drop(state);
        granted.iter().for_each(|turn| turn.grant());
        !granted.is_empty()
    }

    fn grant_all(&self) {
        let mut state = self.state();
        let waiting = mem::take(&mut state.waiting);
        state.is_granting = false;
        drop(state);
        waiting.iter().for_each(|turn| turn.grant());
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turn {
    /// Ready once it was granted.
    pub(crate) fn poll(&self, cx: &Context<'_>) -> Poll<()> {
        if self.granted.load(Acquire) {
            return Poll::Ready(());
        }
        let mut waker = self.waker();
        let replaced = (!waker.will_wake(cx.waker())).then(|| mem::replace(&mut *waker, cx.waker().clone()));
        drop(waker);
        drop(replaced);
        // It may have been granted meanwhile, waking the replaced waker.
        if self.granted.load(Acquire) { Poll::Ready(()) } else { Poll::Pending }
    }

    fn grant(&self) {
        self.granted.store(true, Release);
        let waker = self.waker().clone();
        waker.wake();
    }

    fn waker(&self) -> MutexGuard<'_, Waker> {
        self.waker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The task that grants turns. If it ends early, with its runtime, it grants all: the readers may be on another runtime.
struct GrantTask(Option<Arc<Turns>>);

impl GrantTask {
    async fn run(mut self) {
        while self.0.as_ref().is_some_and(|turns| turns.grant_next()) {
            yield_now().await;
        }
        self.0 = None;
    }
}

impl Drop for GrantTask {
    fn drop(&mut self) {
        if let Some(turns) = &self.0 {
            turns.grant_all();
        }
    }
}

/// How many turns are granted before all other tasks run: each takes some hundred microseconds.
const GRANTS_PER_ROUND: usize = 8;

#[cfg(all(test, not(tower_events_loom)))]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::task::Wake;

    use tokio::runtime::{Builder, Runtime};

    use super::*;

    #[derive(Default)]
    struct WakeFlag(AtomicBool);

    impl Wake for WakeFlag {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Release);
        }
    }

    fn join(turns: &Arc<Turns>, count: usize) -> Vec<Arc<Turn>> {
        (0..count).map(|_| turns.join(&Context::from_waker(Waker::noop()))).collect()
    }

    fn granted(turns: &[Arc<Turn>]) -> usize {
        let is_granted = |turn: &&Arc<Turn>| turn.poll(&Context::from_waker(Waker::noop())).is_ready();
        turns.iter().take_while(is_granted).count()
    }

    fn runtime() -> Runtime {
        Builder::new_current_thread().build().unwrap()
    }

    #[tokio::test]
    async fn a_few_turns_are_granted_at_a_time_in_order() {
        let turns = Arc::default();
        let mut waiting = join(&turns, 3 * GRANTS_PER_ROUND);
        assert_eq!(granted(&waiting), 0);
        assert!(turns.grant_next());
        assert_eq!(granted(&waiting), GRANTS_PER_ROUND);
        // A reader that left uses up no turn.
        drop(waiting.drain(GRANTS_PER_ROUND..2 * GRANTS_PER_ROUND));
        assert!(turns.grant_next());
        assert_eq!(granted(&waiting), 2 * GRANTS_PER_ROUND);
        assert!(!turns.grant_next());
    }

    #[tokio::test]
    async fn all_turns_are_granted_in_the_end_and_those_of_later_readers_too() {
        let turns = Arc::default();
        for _ in 0..2 {
            let (waiting, mut before) = (join(&turns, 100), 0);
            while before < 100 {
                yield_now().await;
                let now = granted(&waiting);
                assert!(now - before <= GRANTS_PER_ROUND, "{now} after {before}: other tasks run in between");
                before = now;
            }
            yield_now().await;
        }
        assert!(!turns.state().is_granting);
    }

    #[test]
    fn nothing_waits_without_a_runtime_or_after_it_ended() {
        let turns = Arc::default();
        assert_eq!(granted(&join(&turns, 1)), 1);
        let runtime_that_ends = runtime();
        let waiting = runtime_that_ends.block_on(async { join(&turns, 100) });
        assert_eq!(granted(&waiting), 0);
        drop(runtime_that_ends);
        assert_eq!(granted(&waiting), 100);
        let later = runtime().block_on(async {
            let later = join(&turns, 1);
            while granted(&later) < 1 {
                yield_now().await;
            }
            later
        });
        assert_eq!(granted(&later), 1);
    }

    #[test]
    fn the_last_waker_is_woken() {
        let [first, last] = [(); 2].map(|()| Arc::new(WakeFlag::default()));
        let turn = Turn { granted: AtomicBool::new(false), waker: Mutex::new(first.clone().into()) };
        assert!(turn.poll(&Context::from_waker(&last.clone().into())).is_pending());
        turn.grant();
        assert!(turn.poll(&Context::from_waker(Waker::noop())).is_ready());
        assert_eq!([first, last].map(|woken| woken.0.load(Acquire)), [false, true]);
    }
}
