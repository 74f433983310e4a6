//! A deadline for every test. One that hangs would keep the whole run waiting, and nobody would be told which it is.

use std::{
    cell::OnceCell,
    io::Write as _,
    process::exit,
    sync::{
        Arc, Mutex, OnceLock, PoisonError, Weak,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::Duration,
};

/// Gives the test that runs on this thread its whole time from now on. When that is over, the process ends and says which
/// test it was: nothing else ends one that waits for ever, or that never waits. Called by what tests call first, so that
/// none has to ask for it.
pub(crate) fn arm() {
    TEST.with(|test| test.get_or_init(watch).left.store(PARTS, Ordering::Relaxed));
}

thread_local! {
    /// Dropped when the test is over, for each has a thread of its own. Where all run on one, each begins anew.
    static TEST: OnceCell<Arc<Test>> = const { OnceCell::new() };
}

struct Test {
    name: String,
    left: AtomicU32,
}

fn watch() -> Arc<Test> {
    let name = thread::current().name().unwrap_or("a test").to_owned();
    let test = Arc::new(Test { name, left: AtomicU32::new(PARTS) });
    let watchdog = WATCHDOG.get_or_init(|| {
        thread::spawn(look_after_all);
        Mutex::default()
    });
    watchdog.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(&test));
    test
}

static WATCHDOG: OnceLock<Mutex<Vec<Weak<Test>>>> = OnceLock::new();

fn look_after_all() {
    loop {
        // Counted in parts: what the system gave to other programs counts for little.
        thread::sleep(PART);
        let Some(tests) = WATCHDOG.get() else { continue };
        let mut tests = tests.lock().unwrap_or_else(PoisonError::into_inner);
        tests.retain(|test| test.upgrade().is_some_and(|test| take_part(&test)));
    }
}

fn take_part(test: &Test) -> bool {
    if test.left.fetch_sub(1, Ordering::Relaxed) > 1 {
        return true;
    }
    // Past what captures the output of tests: nobody would print it any more.
    _ = writeln!(std::io::stderr(), "test {} hangs: it is not over after {:?}", test.name, PART * PARTS);
    exit(101);
}

/// Many times what the longest test takes on a slow machine.
const PARTS: u32 = 1_800;
const PART: Duration = Duration::from_millis(100);
