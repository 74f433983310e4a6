//! Child processes: this program again, in a role. Lines that a child prints for the test start with `> `.

use std::{
    io::{BufRead as _, BufReader, Lines},
    path::Path,
    pin::pin,
    process::{ChildStdout, Command, Stdio},
    task::{Context, Poll, Waker},
    time::Duration,
};

use rusqlite::Connection;
use rustix::{
    fs::{FlockOperation, flock, inotify},
    process::{Pid, Signal, kill_process},
};
use tokio::runtime::Runtime;
use tower_events::{
    Delivery, FileStore, Hub, Retention, Store as _, Subscription,
    store::{Append, Clock, Start, floor, resume},
    stores::file::Durability,
};

use super::support::{append, error_chain, keeping_all, room, with_suffix};

/// A child process, killed when dropped.
pub(crate) struct Child {
    process: std::process::Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Child {
    pub(crate) fn start(role: &str, path: &Path) -> Self {
        Self::start_by(Command::new(std::env::current_exe().unwrap()), role, path)
    }

    /// Starts it through another command, such as strace, which is given this program and its arguments last.
    pub(crate) fn start_by(mut command: Command, role: &str, path: &Path) -> Self {
        command.args(["--exact", "child::plays_child_role", "--nocapture", "--test-threads=1"]);
        command.env("TOWER_EVENTS_ROLE", role).env("TOWER_EVENTS_FILE", path);
        // Panics of a child whose output is no longer read do not matter.
        command.stderr(if std::env::var_os("TOWER_EVENTS_LOUD").is_some() { Stdio::inherit() } else { Stdio::null() });
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        Self { process, lines }
    }

    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// The next line that it prints; `None` once it has ended.
    pub(crate) fn next_line(&mut self) -> Option<String> {
        loop {
            let line = self.lines.next()?.ok()?;
            if let Some((_, text)) = line.split_once("> ") {
                return Some(text.to_owned());
            }
        }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.process), signal).unwrap();
    }

    /// Kills it, and returns the lines that have not been read.
    pub(crate) fn kill(mut self) -> Vec<String> {
        self.signal(Signal::KILL);
        self.process.wait().unwrap();
        std::iter::from_fn(|| self.next_line()).collect()
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        _ = self.process.kill();
        _ = self.process.wait();
    }
}

/// Not a test itself: does nothing unless this process is a child.
#[test]
fn plays_child_role() {
    let Ok(role) = std::env::var("TOWER_EVENTS_ROLE") else { return };
    let path = std::env::var_os("TOWER_EVENTS_FILE").unwrap();
    let path = Path::new(&path);
    let mut words = role.split(' ');
    let runtime = Runtime::new().unwrap();
    let (role, of) = (words.next().unwrap(), words.next());
    let times = words.next().and_then(|times| times.parse().ok()).unwrap_or(u64::MAX);
    match (role, of) {
        ("publish", Some(prefix)) => runtime.block_on(publish(path, prefix, Durability::Process, times)),
        ("publish-synced", Some(prefix)) => runtime.block_on(publish(path, prefix, Durability::Power, times)),
        ("listen", _) => runtime.block_on(listen(path)),
        ("listen-without-inotify", _) => {
            // Takes all inotify instances of this user; other processes then have none either.
            let taken: Vec<_> = std::iter::from_fn(|| inotify::init(inotify::CreateFlags::CLOEXEC).ok()).collect();
            runtime.block_on(listen(path));
            drop(taken);
        }
        ("hold-lock", _) => hold_lock(path),
        ("hold-snapshot", _) => hold_snapshot(path),
        ("bystander", _) => runtime.block_on(bystander(path)),
        ("fork", _) => fork_with_store(&runtime, path),
        ("draw", _) => draw_in_both_processes(),
        other => panic!("no such role: {other:?}"),
    }
}

/// Appends this many times, or until it is killed, and prints what was acknowledged or why an append failed.
async fn publish(path: &Path, prefix: &str, durability: Durability, times: u64) {
    let store = keeping_all().durability(durability).open(path).unwrap();
    for n in 0..times {
        let text = format!("{prefix}:{n}");
        match append(&store, &text).await {
            Ok(_) => println!("\n> {text}"),
            Err(error) => {
                println!("\n> failed {error:?} {}", error_chain(&error));
                if n > 10_000 {
                    return;
                }
            }
        }
    }
}

/// Prints every event, from the first one on.
async fn listen(path: &Path) {
    let hub = Hub::new(keeping_all().open(path).unwrap());
    let mut subscriber = hub.subscribe(Subscription::new(room()).start(Start::Earliest)).await.unwrap();
    println!("\n> ready");
    while let Some(delivery) = subscriber.next().await {
        match delivery.unwrap() {
            Delivery::Events(events) => {
                events.entries().for_each(|entry| println!("\n> {}", entry.data.as_shown()));
            }
            other => println!("\n> {other:?}"),
        }
    }
}

/// Holds the lock in the middle of a write.
fn hold_lock(path: &Path) {
    let lock = std::fs::OpenOptions::new().write(true).open(with_suffix(path, "-lock")).unwrap();
    flock(&lock, FlockOperation::LockExclusive).unwrap();
    let db = Connection::open(path).unwrap();
    db.execute_batch("BEGIN IMMEDIATE; UPDATE origin SET floor = 1000000; DELETE FROM entries;").unwrap();
    println!("\n> ready");
    std::thread::park();
}

/// Holds a snapshot in the middle of a read.
fn hold_snapshot(path: &Path) {
    let db = Connection::open(path).unwrap();
    db.execute_batch("BEGIN; SELECT count(*) FROM entries;").unwrap();
    println!("\n> ready");
    std::thread::park();
}

/// Appends to a channel of its own now and then, with a retention that is less than that of any test.
async fn bystander(path: &Path) {
    let brief = Duration::from_millis(400);
    let least = Retention::default().events(1).bytes(200).age(brief).forget_after(brief).key_window(brief);
    let options = FileStore::options().retention(least).clock(Clock::new(|| 1_732_094_400_000));
    let store = options.open(path).unwrap();
    let channel = tower_events::Channel::new("bystander").unwrap();
    println!("\n> ready");
    loop {
        let event = tower_events::Event::text("x");
        _ = store.append(&channel, Append::new([event])).await;
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Forks, and prints what the child can still do. The child cannot use the runtime, whose threads it has not inherited.
fn fork_with_store(runtime: &Runtime, path: &Path) {
    let store = keeping_all().open(path).unwrap();
    // Large enough to be written by the writer's thread, which then sleeps and holds no lock that the child would wait
    // for.
    runtime.block_on(append(&store, "x".repeat(100_000))).unwrap();
    match fork::fork().unwrap() {
        fork::Fork::Parent(child) => {
            fork::waitpid(child).unwrap();
            runtime.block_on(append(&store, "parent")).unwrap();
            println!("\n> done");
        }
        fork::Fork::Child => {
            println!("\n> append {:?}", poll_once(append(&store, "child")));
            println!("\n> read {:?}", poll_once(store.heads(&[room()])));
            println!("\n> open {:?}", keeping_all().open(path).map_err(|error| error.kind().clone()));
            std::process::exit(0);
        }
    }
}

/// Forks, and prints what parent and child draw.
fn draw_in_both_processes() {
    let draw = || (std::array::from_fn::<_, 4, _>(|_| resume::fresh_tag()), resume::fresh_epoch(), floor::raised(0, 0));
    // Initialises the state that the child inherits.
    draw();
    match fork::fork().unwrap() {
        fork::Fork::Parent(child) => {
            fork::waitpid(child).unwrap();
            println!("\n> {:?}", draw());
        }
        fork::Fork::Child => {
            println!("\n> {:?}", draw());
            std::process::exit(0);
        }
    }
}

/// The output of a future that does not wait.
fn poll_once<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(done) => done,
        Poll::Pending => panic!("it waits"),
    }
}
