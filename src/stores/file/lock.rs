//! The lock that writers hold: a separate file, which the system unlocks when its holder dies. SQLite's own busy
//! handler polls, so with that alone some writers starve; with this lock they queue.

use std::{
    fs::{File, OpenOptions},
    io,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc},
    thread,
    time::{Duration, Instant},
};

pub(super) struct Lock {
    file: File,
    /// A thread that waits for the lock, since `flock` has no timeout. Started when first needed.
    waiter: Option<Waiter>,
}

struct Waiter {
    requests: mpsc::Sender<()>,
    outcomes: mpsc::Receiver<io::Result<WaitOutcome>>,
    /// Whether a request has no outcome yet.
    is_waiting: bool,
    /// Whether a caller waits for the outcome.
    wanted: Arc<Mutex<bool>>,
}

enum WaitOutcome {
    Held,
    /// The caller had given up: keeping the lock would block all other writers.
    Released,
}

impl Lock {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        Ok(Self { file, waiter: None })
    }

    /// Takes the lock if that needs no waiting.
    pub(super) fn try_acquire(&mut self) -> io::Result<bool> {
        let pending = self.waiter.as_mut().is_some_and(Waiter::is_pending);
        if pending { Ok(false) } else { os::try_lock(&self.file) }
    }

    /// Takes the lock; `false` if it was not free within `timeout`.
    pub(super) fn acquire(&mut self, timeout: Duration) -> io::Result<bool> {
        if self.try_briefly()? {
            return Ok(true);
        }
        let waiter = match &mut self.waiter {
            Some(waiter) => waiter,
            none => none.insert(Waiter::start(self.file.try_clone()?)?),
        };
        waiter.wait(timeout)
    }

    /// Most holders release the lock before the waiting thread could start. Growing pauses leave the processor to them,
    /// and let each do several commits in a row.
    fn try_briefly(&mut self) -> io::Result<bool> {
        let mut pause = SHORTEST_PAUSE;
        for _ in 0..BRIEF_TRIES {
            if self.try_acquire()? {
                return Ok(true);
            }
            thread::sleep(pause);
            pause = (2 * pause).min(LONGEST_PAUSE);
        }
        self.try_acquire()
    }

    pub(super) fn release(&self) {
        // Cannot fail for an open file; if it did, closing the file would unlock it.
        _ = os::unlock(&self.file);
    }
}

impl Waiter {
    /// `file` is a clone, which shares the lock with the original.
    fn start(file: File) -> io::Result<Self> {
        let (requests, incoming) = mpsc::channel();
        let (send_outcome, outcomes) = mpsc::channel();
        let wanted = Arc::new(Mutex::new(true));
        let is_wanted = Arc::clone(&wanted);
        let wait = move || {
            for () in incoming {
                let locked = os::lock(&file);
                // Held while sending, so that a caller that gives up either gets the outcome or has the lock released.
                let wanted = is_wanted.lock().unwrap_or_else(PoisonError::into_inner);
                let outcome = if *wanted { WaitOutcome::Held } else { WaitOutcome::Released };
                if !*wanted {
                    _ = os::unlock(&file);
                }
                if send_outcome.send(locked.map(|()| outcome)).is_err() {
                    return;
                }
            }
        };
        thread::Builder::new().name("events-lock".into()).spawn(wait)?;
        Ok(Self { requests, outcomes, is_waiting: false, wanted })
    }

    /// Whether the thread still waits for a caller that has given up.
    fn is_pending(&mut self) -> bool {
        if self.is_waiting && self.outcomes.try_recv().is_ok() {
            self.is_waiting = false;
        }
        self.is_waiting
    }

    fn wait(&mut self, timeout: Duration) -> io::Result<bool> {
        let thread_ended = || io::Error::other("the thread that waits for the lock ended");
        let deadline = Instant::now() + timeout;
        *self.wanted() = true;
        loop {
            if !self.is_waiting {
                self.requests.send(()).map_err(|_| thread_ended())?;
                self.is_waiting = true;
            }
            let outcome = match self.outcomes.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(outcome) => outcome,
                Err(mpsc::RecvTimeoutError::Disconnected) => return Err(thread_ended()),
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    *self.wanted() = false;
                    // The outcome may have been sent just before.
                    match self.outcomes.try_recv() {
                        Ok(outcome) => outcome,
                        Err(_) => return Ok(false),
                    }
                }
            };
            self.is_waiting = false;
            if let WaitOutcome::Held = outcome? {
                return Ok(true);
            }
        }
    }

    fn wanted(&self) -> MutexGuard<'_, bool> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(unix)]
mod os {
    use std::{fs::File, io};

    use rustix::{
        fs::{FlockOperation, flock},
        io::{Errno, retry_on_intr},
    };

    pub(super) fn try_lock(file: &File) -> io::Result<bool> {
        match retry_on_intr(|| flock(file, FlockOperation::NonBlockingLockExclusive)) {
            Err(Errno::WOULDBLOCK) => Ok(false),
            done => done.map(|()| true).map_err(Into::into),
        }
    }

    pub(super) fn lock(file: &File) -> io::Result<()> {
        Ok(retry_on_intr(|| flock(file, FlockOperation::LockExclusive))?)
    }

    pub(super) fn unlock(file: &File) -> io::Result<()> {
        Ok(flock(file, FlockOperation::Unlock)?)
    }
}

#[cfg(not(unix))]
mod os {
    use std::{
        fs::{File, TryLockError},
        io,
    };

    pub(super) fn try_lock(file: &File) -> io::Result<bool> {
        match file.try_lock() {
            Ok(()) => Ok(true),
            Err(TryLockError::WouldBlock) => Ok(false),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    pub(super) fn lock(file: &File) -> io::Result<()> {
        file.lock()
    }

    pub(super) fn unlock(file: &File) -> io::Result<()> {
        file.unlock()
    }
}

/// How often the lock is tried before the thread waits for it: about 20 ms in total.
const BRIEF_TRIES: u32 = 12;
const SHORTEST_PAUSE: Duration = Duration::from_micros(50);
const LONGEST_PAUSE: Duration = Duration::from_millis(3);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_can_time_out_and_be_repeated() {
        let path = std::env::temp_dir().join(format!("tower-events-lock-{}", std::process::id()));
        let [mut one, mut two, mut three] = [(); 3].map(|()| Lock::open(&path).unwrap());
        let long = Duration::from_secs(10);
        assert!(one.acquire(Duration::ZERO).unwrap());
        for _ in 0..3 {
            assert!(!two.acquire(Duration::from_millis(1)).unwrap());
        }
        one.release();
        // A caller that gave up does not block others.
        assert!(three.acquire(long).unwrap());
        assert!(!two.acquire(Duration::ZERO).unwrap());
        three.release();
        assert!(two.acquire(long).unwrap());
        assert!(!one.acquire(Duration::ZERO).unwrap());
        two.release();
        assert!(one.acquire(long).unwrap());
        std::fs::remove_file(&path).unwrap();
    }
}
