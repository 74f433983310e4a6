//! Which clock determines the age of entries: nodes on machines with wrong clocks, simulated by processes with a small
//! preloaded library. Needs a C compiler.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tower_events::{
    Channel, Event, NatsStore, Retention, Store,
    store::{Append, Limit, Outcome, Start},
};

use crate::server::{Server, servers};

/// The server's URL, for the process with the wrong clock.
const URL: &str = "TOWER_EVENTS_TEST_URL";

const HOUR: i64 = 61 * 60;

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    u64::try_from(since.as_millis()).expect("a time")
}

async fn node(url: &str) -> NatsStore {
    let retention = Retention::default().age(Duration::from_secs(3_600));
    NatsStore::options().retention(retention).connect(url).await.expect("a store")
}

async fn append(store: &NatsStore, text: &str) -> tower_events::store::Appended {
    let event = Event::text(text).keyed(text).expect("a key");
    store.append(&channel(), Append::new([event])).await.expect("an append")
}

fn channel() -> Channel {
    Channel::new("a").expect("a channel")
}

async fn texts(store: &NatsStore) -> Vec<String> {
    let page = store.read(&channel(), Start::Earliest, Limit::default()).await.expect("a page");
    assert_eq!(page.outcome, Outcome::Continued);
    page.entries.iter().map(|entry| entry.data.as_shown().to_owned()).collect()
}

/// The process with the wrong clock: appends once, and checks that it sees what the others see.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_the_process_of_the_wrong_clock() {
    let Ok(url) = std::env::var(URL) else { return };
    println!("WRONG CLOCK {}", now());
    let store = node(&url).await;
    append(&store, "wrong").await;
    println!("SEEN {}", texts(&store).await.join(" "));
    println!("KEY KNOWN {}", append(&store, "1").await.receipts[0].duplicate);
}

/// Appends in a process with a clock that is wrong by this many seconds; returns its output.
fn append_with_clock(library: &Path, seconds: i64, url: &str) -> String {
    let name = "clocks::in_the_process_of_the_wrong_clock";
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.args([name, "--exact", "--nocapture"]).env(URL, url);
    command.env("LD_PRELOAD", library).env("WRONG_BY", seconds.to_string());
    let output = command.output().expect("a process");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    let told = said.lines().find_map(|line| line.split_once("WRONG CLOCK ")?.1.parse::<i64>().ok());
    let off = i64::try_from(now()).expect("a time") - told.expect("a time") + seconds * 1_000;
    assert!(off.abs() < 60_000, "its clock is not wrong: {said}");
    said
}

/// Removes the library when dropped.
struct Library(PathBuf);

impl Library {
    fn compile() -> Self {
        let folder =
            std::env::temp_dir().join(format!("tower-events-clock-{}-{}", std::process::id(), fastrand::u32(..)));
        std::fs::create_dir_all(&folder).expect("a folder");
        std::fs::write(folder.join("clock.c"), SOURCE).expect("a file");
        let done =
            Command::new("cc").args(["-shared", "-fPIC", "-o", "clock.so", "clock.c"]).current_dir(&folder).output();
        let done = done.expect("`cc`; in Debian: apt-get install gcc");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        Self(folder)
    }

    fn path(&self) -> PathBuf {
        self.0.join("clock.so")
    }
}

impl Drop for Library {
    fn drop(&mut self) {
        _ = std::fs::remove_dir_all(&self.0);
    }
}

const SOURCE: &str = "
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t id, struct timespec *at) {
    long failed = syscall(SYS_clock_gettime, id, at);
    const char *by = getenv(\"WRONG_BY\");
    if (!failed && id == CLOCK_REALTIME && by) at->tv_sec += atol(by);
    return failed;
}
";

async fn a_wrong_clock_harms_nobody(seconds: i64) {
    let library = Library::compile();
    for binary in servers() {
        let server = Server::start(&binary);
        let right = node(&server.url()).await;
        for text in ["1", "2", "3", "4", "5", "6"] {
            append(&right, text).await;
        }
        let (path, url) = (library.path(), server.url());
        let said =
            tokio::task::spawn_blocking(move || append_with_clock(&path, seconds, &url)).await.expect("a process");
        assert!(said.contains("SEEN 1 2 3 4 5 6 wrong") && said.contains("KEY KNOWN true"), "{said}");
        append(&right, "after").await;
        for store in [&right, &node(&server.url()).await] {
            assert_eq!(texts(store).await, ["1", "2", "3", "4", "5", "6", "wrong", "after"]);
        }
        assert!(append(&right, "wrong").await.receipts[0].duplicate);
        let page = right.read(&channel(), Start::Last(2), Limit::default()).await.expect("a page");
        for entry in page.entries {
            assert!(entry.appended.abs_diff(now()) < 60_000, "stamps are the server's: {entry:?}");
        }
    }
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_clock_is_an_hour_ahead_drops_nothing_of_others() {
    a_wrong_clock_harms_nobody(HOUR).await;
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_clock_is_days_behind_drops_nothing_of_others() {
    a_wrong_clock_harms_nobody(-100 * HOUR).await;
}
