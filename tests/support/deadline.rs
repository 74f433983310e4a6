//! A deadline for every test: without it a test that hangs would block the whole run, and not be named.

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

/// Starts, or restarts, the deadline of the test on this thread. When it passes, the process names the test and exits: nothing
/// else ends a test that waits for ever, or one that never yields. The helpers that tests call first call this, so that no
/// test has to.
pub(crate) fn arm() {
    TEST.with(|test| test.get_or_init(watch).left.store(PARTS, Ordering::Relaxed));
}

thread_local! {
    /// Dropped when the test is over, because each runs on its own thread. If all run on one, each test restarts it.
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
        thread::spawn(watch_all);
        Mutex::default()
    });
    watchdog.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(&test));
    test
}

static WATCHDOG: OnceLock<Mutex<Vec<Weak<Test>>>> = OnceLock::new();

fn watch_all() {
    loop {
        // Counted in parts, so that time in which the system ran other processes counts for one part at most.
        thread::sleep(PART);
        let Some(tests) = WATCHDOG.get() else { continue };
        let mut tests = tests.lock().unwrap_or_else(PoisonError::into_inner);
        tests.retain(|test| test.upgrade().is_some_and(|test| count_down(&test)));
    }
}

/// Takes one part of the test's time; exits when none is left.
fn count_down(test: &Test) -> bool {
    if test.left.fetch_sub(1, Ordering::Relaxed) > 1 {
        return true;
    }
    // Not by `eprintln!`, whose output the test harness captures and would never print.
    _ = writeln!(std::io::stderr(), "test {} hangs: it is not over after {:?}", test.name, PART * PARTS);
    exit(101);
}

/// Many times as long as the longest test takes on a slow machine.
const PARTS: u32 = 1_800;
const PART: Duration = Duration::from_millis(100);
