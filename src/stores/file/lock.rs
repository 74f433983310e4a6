//! The lock of those who write: an own file, locked as a whole, which the system unlocks when its holder dies. SQLite's
//! busy handler polls, so that with it alone some writers starve; this one makes them queue.

use std::{
    fs::{File, OpenOptions},
    io,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc},
    thread,
    time::{Duration, Instant},
};

/// The lock file of one store.
pub(super) struct Lock {
    file: File,
    /// Waits on behalf of this lock, so that waiting can have an end: started when it is first needed.
    waiter: Option<Waiter>,
}

struct Waiter {
    requests: mpsc::Sender<()>,
    outcomes: mpsc::Receiver<io::Result<WaitOutcome>>,
    /// Whether it was asked and has not told yet.
    is_waiting: bool,
    /// Whether someone waits for what it was asked for.
    wanted: Arc<Mutex<bool>>,
}

/// What became of a lock that was waited for.
enum WaitOutcome {
    Held,
    /// Nobody wanted it any more: who keeps it would keep all others from writing.
    Released,
}

impl Lock {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        Ok(Self { file, waiter: None })
    }

    /// Locks, if it needs no waiting.
    pub(super) fn try_acquire(&mut self) -> io::Result<bool> {
        let pending = self.waiter.as_mut().is_some_and(Waiter::is_pending);
        if pending { Ok(false) } else { os::try_lock(&self.file) }
    }

    /// Locks; `false` when the lock was not to be had within `patience`.
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

    /// Most who hold the lock give it back sooner than another thread could be asked to wait for it. Who naps longer and
    /// longer leaves the processors to them, and lets each do several commits in a row.
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
        // Cannot fail for a file that is open; and if it did, the next to close it would unlock it.
        _ = os::unlock(&self.file);
    }
}

impl Waiter {
    /// The clone shares the lock with its original.
    fn start(file: File) -> io::Result<Self> {
        let (requests, incoming) = mpsc::channel();
        let (send_outcome, outcomes) = mpsc::channel();
        let wanted = Arc::new(Mutex::new(true));
        let is_wanted = Arc::clone(&wanted);
        let wait = move || {
            for () in incoming {
                let locked = os::lock(&file);
                // Held until it is told, so that who stops waiting learns of it, or it is given back.
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

    /// Whether it waits, though nobody wants what it waits for.
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
                    // It may have told just before.
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

/// How often to try for the lock before it is waited for: for some 20 ms in all.
const BRIEF_TRIES: u32 = 12;
const SHORTEST_PAUSE: Duration = Duration::from_micros(50);
const LONGEST_PAUSE: Duration = Duration::from_millis(3);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_ends_and_goes_on() {
        let path = std::env::temp_dir().join(format!("tower-events-lock-{}", std::process::id()));
        let [mut one, mut two, mut three] = [(); 3].map(|()| Lock::open(&path).unwrap());
        let long = Duration::from_secs(10);
        assert!(one.acquire(Duration::ZERO).unwrap());
        for _ in 0..3 {
            assert!(!two.acquire(Duration::from_millis(1)).unwrap());
        }
        one.release();
        // Who waited in vain and does not come back is in nobody's way.
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
