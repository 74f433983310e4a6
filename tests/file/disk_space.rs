//! Room on the disk: none left, a reader who keeps the log from being reused, and what churn takes.

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
        Temporary, append, with_suffix, wait_until_retries_pause, integrity, keeping_all, read_all, room, skip, texts, error_chain,
    },
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_is_said_and_left_behind() {
    let dir = Temporary::new();
    let Some(_mounted) = Mounted::new("a_full_disk_is_said_and_left_behind", &dir) else { return };
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
    append(&store, "room again").await.unwrap();
    assert_eq!(read_all(&store).await.len(), kept.len() + 1);
    assert_eq!(integrity(&dir.file()), "ok");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_keeps_no_janitor_busy() {
    let dir = Temporary::new();
    let Some(_mounted) = Mounted::new("a_full_disk_keeps_no_janitor_busy", &dir) else { return };
    let retention = Retention::default().age(Duration::from_millis(1500)).key_window(Duration::from_millis(400));
    let store = FileStore::options().retention(retention).open(dir.file()).unwrap();
    append(&store, "x").await.unwrap();
    let mut rest = std::fs::File::create(dir.path().join("rest")).unwrap();
    while rest.write_all(&[0; 4096]).is_ok() {}
    // By then the event is too old, and its removal has to be written down.
    wait_until_retries_pause(&store).await;
}

/// A small file system.
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
async fn a_stopped_reader_bounds_the_log_and_is_named() {
    let dir = Temporary::new();
    let largest = 24 << 20;
    let options = FileStore::options().retention(Retention::default().events(100)).largest_wal(largest);
    let store = options.open(dir.file()).unwrap();
    append(&store, "first").await.unwrap();
    let mut child = Child::start("read", &dir.file());
    assert_eq!(child.next_line().as_deref(), Some("ready"));
    child.signal(Signal::STOP);
    let error = loop {
        if let Err(error) = append(&store, "x".repeat(3000)).await {
            break error;
        }
    };
    assert!(matches!(error, StoreError::Full(_)), "{error:?}");
    let said = error_chain(&error);
    assert!(said.contains(&format!("process {}", child.id())) && said.contains("stopped"), "{said}");
    let log = std::fs::metadata(with_suffix(&dir.file(), "-wal")).unwrap().len();
    assert!(log < largest + (16 << 20), "{log}");
    store.read(&room(), Start::Earliest, Limit::default()).await.unwrap();
    child.kill();
    append(&store, "last").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_a_reader_made_long_is_cut_with_the_next_appends() {
    let dir = Temporary::new();
    let store = made_long(&dir, FileStore::options()).await;
    // The next look at its length is some appends away.
    for _ in 0..2000 {
        append(&store, "x".repeat(3000)).await.unwrap();
    }
    assert!(log(&dir) < 16 << 20, "{}", log(&dir));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_a_reader_made_long_is_cut_when_nobody_appends() {
    let dir = Temporary::new();
    let often = Duration::from_millis(400);
    let options = FileStore::options().retention(Retention::default().events(100).key_window(often));
    let _store = made_long(&dir, options).await;
    let eyes = inotify::init(CreateFlags::CLOEXEC).unwrap();
    inotify::add_watch(&eyes, with_suffix(&dir.file(), "-wal"), WatchFlags::MODIFY).unwrap();
    let mut buffer = [MaybeUninit::uninit(); 4096];
    let mut cuts = inotify::Reader::new(&eyes, &mut buffer);
    while log(&dir) > 0 {
        cuts.next().unwrap();
    }
    assert_eq!(integrity(&dir.file()), "ok");
}

/// A store with a long log, of which a stopped reader kept the beginning until it was killed.
async fn made_long(dir: &Temporary, options: FileOptions) -> FileStore {
    let store = options.open(dir.file()).unwrap();
    append(&store, "first").await.unwrap();
    let mut child = Child::start("read", &dir.file());
    assert_eq!(child.next_line().as_deref(), Some("ready"));
    child.signal(Signal::STOP);
    while log(dir) < 40 << 20 {
        append(&store, "x".repeat(3000)).await.unwrap();
    }
    child.kill();
    store
}

fn log(dir: &Temporary) -> u64 {
    std::fs::metadata(with_suffix(&dir.file(), "-wal")).unwrap().len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn churn_uses_its_own_room_again() {
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
async fn room_that_is_free_goes_back_to_the_system() {
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
    // A little with each append.
    while pages() > before / 4 {
        store.append(&other, Append::new([tower_events::Event::text("x")])).await.unwrap();
    }
}
