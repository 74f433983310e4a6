//! Disk space: a full disk, a reader that prevents the WAL from being reused, and churn.

use std::{io::Write as _, mem::MaybeUninit, process::Command, time::Duration};

use rustix::{
    fs::inotify::{self, CreateFlags, WatchFlags},
    process::Signal,
};
use tower_events::{
    FileStore, Retention, Store as _, StoreError,
    store::{Append, Limit, Start},
    stores::file::FileOptions,
};

use super::{
    child::Child,
    support::{
        Temporary, append, error_chain, integrity, keeping_all, read_all, room, skip, texts, wait_until_retries_pause,
        with_suffix,
    },
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_is_reported_and_recovered_from() {
    let dir = Temporary::new();
    let Some(_mounted) = Mounted::new("a_full_disk_is_reported_and_recovered_from", &dir) else { return };
    let store = keeping_all().open(dir.file()).unwrap();
    let large = |n: usize| format!("{n}:{}", "x".repeat(20_000));
    let mut kept = Vec::new();
    let error = loop {
        match append(&store, large(kept.len())).await {
            Ok(_) => kept.push(large(kept.len())),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, StoreError::Full(_)), "{error:?}");
    assert_eq!(texts(&read_all(&store).await), kept, "reads go on");
    assert!(matches!(append(&store, large(0)).await, Err(StoreError::Full(_))));
    mount(&["-o", "remount,size=8m"], &dir);
    append(&store, "space again").await.unwrap();
    assert_eq!(read_all(&store).await.len(), kept.len() + 1);
    assert_eq!(integrity(&dir.file()), "ok");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_does_not_keep_the_janitor_busy() {
    let dir = Temporary::new();
    let Some(_mounted) = Mounted::new("a_full_disk_does_not_keep_the_janitor_busy", &dir) else { return };
    let retention = Retention::default().age(Duration::from_millis(1500)).key_window(Duration::from_millis(400));
    let store = FileStore::options().retention(retention).open(dir.file()).unwrap();
    append(&store, "x").await.unwrap();
    let mut rest = std::fs::File::create(dir.path().join("rest")).unwrap();
    while rest.write_all(&[0; 4096]).is_ok() {}
    // The event has expired by then, and removing it is a write.
    wait_until_retries_pause(&store).await;
    assert!(!store.upkeep().janitor_lag.is_zero());
    rest.set_len(0).unwrap();
    let begun = std::time::Instant::now();
    while !store.upkeep().janitor_lag.is_zero() {
        assert!(begun.elapsed() < Duration::from_secs(30), "the janitor goes on once there is room");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A small file system, mounted on a directory.
pub(crate) struct Mounted<'a>(&'a Temporary);

impl<'a> Mounted<'a> {
    pub(crate) fn new(test: &str, dir: &'a Temporary) -> Option<Self> {
        if mount(&["-t", "tmpfs", "-o", "size=2m", "none"], dir) {
            return Some(Self(dir));
        }
        skip(test, "no file system can be mounted here (not root?)");
        None
    }
}

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        _ = Command::new("umount").arg("--lazy").arg(self.0.path()).status();
    }
}

pub(crate) fn mount(arguments: &[&str], dir: &Temporary) -> bool {
    Command::new("mount").args(arguments).arg(dir.path()).output().is_ok_and(|output| output.status.success())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wal_that_a_stopped_reader_keeps_is_bounded_and_the_reader_is_named() {
    let dir = Temporary::new();
    let largest = 24 << 20;
    let options = FileStore::options().retention(Retention::default().events(100)).max_wal_bytes(largest);
    let store = options.open(dir.file()).unwrap();
    append(&store, "first").await.unwrap();
    let mut child = Child::start("hold-snapshot", &dir.file());
    assert_eq!(child.next_line().as_deref(), Some("ready"));
    child.signal(Signal::STOP);
    let error = loop {
        if let Err(error) = append(&store, "x".repeat(3000)).await {
            break error;
        }
    };
    assert!(matches!(error, StoreError::Full(_)), "{error:?}");
    let text = error_chain(&error);
    assert!(text.contains(&format!("process {}", child.id())) && text.contains("stopped"), "{text}");
    let wal = std::fs::metadata(with_suffix(&dir.file(), "-wal")).unwrap().len();
    assert!(wal < largest + (16 << 20), "{wal}");
    store.read(&room(), Start::Earliest, Limit::default()).await.unwrap();
    child.kill();
    append(&store, "last").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_wal_is_truncated_by_later_appends() {
    let dir = Temporary::new();
    let store = store_with_long_wal(&dir, FileStore::options()).await;
    // Its length is checked once per some appends, and it is truncated at the first check at which no checkpoint is running.
    for _ in 0..20_000 {
        append(&store, "x".repeat(3000)).await.unwrap();
        if wal_size(&dir) < 16 << 20 {
            return;
        }
    }
    panic!("{} bytes", wal_size(&dir));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_wal_is_truncated_without_appends() {
    let dir = Temporary::new();
    let often = Duration::from_millis(400);
    let options = FileStore::options().retention(Retention::default().events(100).key_window(often));
    let _store = store_with_long_wal(&dir, options).await;
    let inotify_fd = inotify::init(CreateFlags::CLOEXEC).unwrap();
    inotify::add_watch(&inotify_fd, with_suffix(&dir.file(), "-wal"), WatchFlags::MODIFY).unwrap();
    let mut buffer = [MaybeUninit::uninit(); 4096];
    let mut cuts = inotify::Reader::new(&inotify_fd, &mut buffer);
    while wal_size(&dir) > 0 {
        cuts.next().unwrap();
    }
    assert_eq!(integrity(&dir.file()), "ok");
}

/// A store with a long WAL, which a stopped reader kept from being reused until it was killed.
async fn store_with_long_wal(dir: &Temporary, options: FileOptions) -> FileStore {
    let store = options.open(dir.file()).unwrap();
    append(&store, "first").await.unwrap();
    let mut child = Child::start("hold-snapshot", &dir.file());
    assert_eq!(child.next_line().as_deref(), Some("ready"));
    child.signal(Signal::STOP);
    while wal_size(dir) < 40 << 20 {
        append(&store, "x".repeat(3000)).await.unwrap();
    }
    child.kill();
    store
}

fn wal_size(dir: &Temporary) -> u64 {
    std::fs::metadata(with_suffix(&dir.file(), "-wal")).unwrap().len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn churn_reuses_space() {
    let dir = Temporary::new();
    let store = FileStore::options().retention(Retention::default().events(500)).open(dir.file()).unwrap();
    let size = |end| std::fs::metadata(with_suffix(&dir.file(), end)).map_or(0, |metadata| metadata.len());
    let mut most = (0, 0);
    for n in 0..300 {
        let batch = vec![tower_events::Event::text("x".repeat(200)); 100];
        store.append(&room(), Append::new(batch)).await.unwrap();
        if n == 30 {
            most = (size(""), size("-wal"));
        }
    }
    assert!(size("") <= 2 * most.0.max(1 << 20), "{} after {}", size(""), most.0);
    assert!(size("-wal") <= 16 << 20, "{}", size("-wal"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn free_space_is_returned_to_the_system() {
    let dir = Temporary::new();
    let store = keeping_all().open(dir.file()).unwrap();
    for _ in 0..40 {
        append(&store, "x".repeat(1 << 20)).await.unwrap();
    }
    store.delete(&room()).await.unwrap();
    let other = tower_events::Channel::new("other").unwrap();
    let pages = || {
        let db = rusqlite::Connection::open(dir.file()).unwrap();
        db.query_row("PRAGMA page_count", [], |row| row.get::<_, i64>(0)).unwrap()
    };
    let before = pages();
    // Some pages with each append.
    while pages() > before / 4 {
        store.append(&other, Append::new([tower_events::Event::text("x")])).await.unwrap();
    }
}
