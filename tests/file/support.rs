//! A temporary directory per test, and helpers.

use std::{
    error::Error,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use rusqlite::Connection;
use tower_events::{
    Channel, Event, FileStore, Retention, Store, StoreError,
    store::{Append, Appended, Entry, Limit, Start},
    stores::file::FileOptions,
};

pub(crate) struct Temporary(PathBuf);

impl Temporary {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = format!("tower-events-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// The path of the event file.
    pub(crate) fn file(&self) -> PathBuf {
        self.0.join("events.db")
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        _ = std::fs::remove_dir_all(&self.0);
    }
}

/// With unlimited retention.
pub(crate) fn keeping_all() -> FileOptions {
    FileStore::options().retention(Retention::default().events(1 << 40).bytes(1 << 40))
}

pub(crate) fn room() -> Channel {
    Channel::new("room").unwrap()
}

pub(crate) async fn append(store: &FileStore, text: impl Into<String>) -> Result<Appended, StoreError> {
    store.append(&room(), Append::new([Event::text(text)])).await
}

/// All entries of the room, read in pages.
pub(crate) async fn read_all(store: &FileStore) -> Vec<Entry> {
    let (mut start, mut all) = (Start::Earliest, Vec::new());
    loop {
        let page = store.read(&room(), start, Limit::new(500, 1 << 20)).await.unwrap();
        if page.entries.is_empty() {
            return all;
        }
        start = Start::After(page.next);
        all.extend(page.entries);
    }
}

pub(crate) fn texts(entries: &[Entry]) -> Vec<&str> {
    entries.iter().map(|entry| entry.data.as_shown()).collect()
}

/// The result of SQLite's integrity check.
pub(crate) fn integrity(path: &Path) -> String {
    let db = Connection::open(path).unwrap();
    db.busy_timeout(Duration::from_secs(10)).unwrap();
    db.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap()
}

/// Waits until a transaction fails that the store attempted without a request, and checks that it is not retried soon.
pub(crate) async fn wait_until_retries_pause(store: &FileStore) {
    let (begun, commits, attempts) = (Instant::now(), store.commits(), store.attempts());
    while store.attempts() - attempts <= store.commits() - commits {
        assert!(begun.elapsed() < Duration::from_secs(10), "no transaction was attempted");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let before = store.attempts();
    tokio::time::sleep(Duration::from_millis(700)).await;
    let tried = store.attempts() - before;
    assert!(tried <= 2, "{tried} attempts within 0.7 s");
}

/// Waits until this process has no file in the folder open: the threads of a store end shortly after it is dropped.
pub(crate) async fn wait_until_closed(folder: &Path) {
    let begun = Instant::now();
    let is_open = || {
        let open = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
        open.filter_map(|file| std::fs::read_link(file.path()).ok()).any(|path| path.starts_with(folder))
    };
    while is_open() {
        assert!(begun.elapsed() < Duration::from_secs(10), "a store stays open");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// The texts of an error and its sources.
pub(crate) fn error_chain(error: &dyn Error) -> String {
    let source = error.source().map(error_chain);
    source.map_or_else(|| error.to_string(), |source| format!("{error}: {source}"))
}

pub(crate) fn with_suffix(path: &Path, end: &str) -> PathBuf {
    let mut path = path.as_os_str().to_owned();
    path.push(end);
    path.into()
}

/// Skips a test that this machine cannot run; fails in CI.
pub(crate) fn skip(test: &str, why: &str) {
    assert!(std::env::var_os("CI").is_none(), "{why}");
    eprintln!("=== SKIPPED {test}: {why} ===");
}

/// How often a test is repeated: `default`, unless the variable sets another number.
pub(crate) fn repetitions(variable: &str, default: u64) -> u64 {
    std::env::var(variable).ok().and_then(|times| times.parse().ok()).unwrap_or(default)
}
