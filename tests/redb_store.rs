//! The store of `examples/redb_store`: the conformance suite, and what a durable store has to keep besides.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

#[path = "../examples/redb_store/store.rs"]
mod store;
#[path = "../examples/redb_store/tables.rs"]
mod tables;
#[path = "../examples/redb_store/writes.rs"]
mod writes;

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use redb::{Builder, Database, ReadableTableMetadata as _, StorageBackend, backends::FileBackend};
use tower_events::{
    AnyStore, Channel, Event, Retention, Store as _, StoreError,
    store::{
        Append, Clock, Limit, Start,
        kit::{Known, WriteTransaction as _},
    },
    testing::{Harness, Time, Unable, Wrapped, clauses, conformance_tests},
};

use self::{
    store::RedbStore,
    tables::{ENTRIES, Failure, KEY_ORDER, KEYS},
    writes::Writes,
};

struct RedbHarness;

struct Place {
    directory: Directory,
    now: Arc<AtomicU64>,
    fails: Arc<AtomicBool>,
    store: RedbStore,
}

impl Place {
    async fn new(directory: Directory, now: Arc<AtomicU64>, retention: Retention) -> Self {
        let (fails, begun) = (Arc::new(AtomicBool::new(false)), Instant::now());
        // The last call on a store that was dropped may still run, and only one store can have the file open.
        let store = loop {
            match open(&directory.file(), &now, &fails, retention.clone()) {
                Ok(store) => break store,
                Err(error) => assert!(begun.elapsed() < Duration::from_secs(10), "{error:?}"),
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        };
        Self { directory, now, fails, store }
    }
}

fn open(
    path: &Path,
    now: &Arc<AtomicU64>,
    fails: &Arc<AtomicBool>,
    retention: Retention,
) -> Result<RedbStore, StoreError> {
    let (path, now, fails) = (path.to_owned(), Arc::clone(now), Arc::clone(fails));
    let open = move || {
        let file = File::options().read(true).write(true).create(true).truncate(false).open(&path)?;
        let backend = UnreliableFile { file: FileBackend::new(file)?, fails: Arc::clone(&fails) };
        Builder::new().create_with_backend(backend)
    };
    RedbStore::open(open, retention, Clock::new(move || now.load(Ordering::SeqCst)))
}

impl Harness for RedbHarness {
    type Store = RedbStore;
    type Place = Place;

    async fn place(&self, retention: Retention) -> Place {
        Place::new(Directory::new(), Arc::new(AtomicU64::new(1_732_094_400_000)), retention).await
    }

    async fn open(&self, place: &Place) -> RedbStore {
        place.store.clone()
    }

    fn time(&self) -> Time {
        Time::Controlled
    }

    async fn advance(&self, place: &Place, by: Duration) {
        place.now.fetch_add(by.as_millis() as u64, Ordering::SeqCst);
    }

    async fn step_back(&self, place: &Place, by: Duration) -> Result<(), Unable> {
        place.now.fetch_sub(by.as_millis() as u64, Ordering::SeqCst);
        Ok(())
    }

    async fn lose_tail(&self, place: &Place, channel: &Channel, n: u64) -> Result<(), Unable> {
        let channel = channel.clone();
        place.store.write(move |writes| lose_tail(writes, &channel, n)).await.unwrap();
        Ok(())
    }

    async fn reopen(&self, place: Place, retention: Retention) -> Result<Place, Unable> {
        let Place { directory, now, store, .. } = place;
        drop(store);
        Ok(Place::new(directory, now, retention).await)
    }

    async fn begin_trouble(&self, place: &Place) -> Result<(), Unable> {
        place.fails.store(true, Ordering::SeqCst);
        Ok(())
    }

    async fn end_trouble(&self, place: &Place) {
        place.fails.store(false, Ordering::SeqCst);
    }
}

/// Removes the last `n` entries, and their keys, as a disk does that loses what it acknowledged.
fn lose_tail(writes: &mut Writes<'_>, channel: &Channel, n: u64) -> Result<(), Failure> {
    let name = channel.as_str();
    let Some(mut row) = writes.row(channel)? else { return Ok(()) };
    let (mut entries, mut keys) = (writes.transaction.open_table(ENTRIES)?, writes.transaction.open_table(KEYS)?);
    for _ in 0..n.min(row.count()) {
        let head = row.record.head.cursor;
        let lost = tables::entry(channel, entries.remove((name, head.seq))?)?;
        keys.retain(|(of, _), (_, known)| of != name || Known::from_numbers(known).receipt.cursor != head)?;
        row.bytes -= lost.size() as u64;
        row.record.head.cursor = lost.prev();
    }
    writes.store(channel, &mut row)
}

/// A file that can be told to accept no writes.
#[derive(Debug)]
struct UnreliableFile {
    file: FileBackend,
    fails: Arc<AtomicBool>,
}

impl UnreliableFile {
    fn check(&self) -> io::Result<()> {
        if self.fails.load(Ordering::SeqCst) { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }
}

impl StorageBackend for UnreliableFile {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        self.file.read(offset, len)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.check()?;
        self.file.set_len(len)
    }

    fn sync_data(&self, eventual: bool) -> io::Result<()> {
        self.check()?;
        self.file.sync_data(eventual)
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.check()?;
        self.file.write(offset, data)
    }
}

/// Removed when it is dropped.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let nth = COUNT.fetch_add(1, Ordering::SeqCst);
        let path = std::env::temp_dir().join(format!("tower-events-redb-{}-{nth}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn file(&self) -> PathBuf {
        self.0.join("events.redb")
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        _ = fs::remove_dir_all(&self.0);
    }
}

conformance_tests! {
    mod in_a_file in [RedbHarness];
    mod erased in [Wrapped::new(RedbHarness, AnyStore::new)];
}

#[tokio::test]
async fn some_seeds_agree_with_the_model() {
    for seed in 0..5 {
        clauses::agrees_with_a_model_from(&RedbHarness, seed).await;
    }
}

#[tokio::test]
async fn keys_are_removed_once_they_have_expired_and_those_appended_again_stay() {
    let (harness, room) = (RedbHarness, Channel::new("room").unwrap());
    let place = harness.place(Retention::default().key_window(Duration::from_secs(10))).await;
    let append = |keys: &'static [&str]| {
        let events = keys.iter().map(|key| Event::text("x").keyed(key).unwrap());
        place.store.append(&room, Append::new(events))
    };
    let stored = || async {
        let count = |writes: &mut Writes<'_>| {
            let (keys, order) = (writes.transaction.open_table(KEYS)?, writes.transaction.open_table(KEY_ORDER)?);
            Ok((keys.len()?, order.len()?))
        };
        place.store.write(count).await.unwrap()
    };
    append(&["a", "b", "c"]).await.unwrap();
    assert_eq!(stored().await, (3, 3));
    harness.advance(&place, Duration::from_secs(11)).await;
    assert_eq!(append(&["b"]).await.unwrap().entries.len(), 1);
    assert_eq!(stored().await, (1, 1));
    assert_eq!(append(&["b"]).await.unwrap().entries.len(), 0);
}

#[tokio::test]
async fn what_was_appended_is_there_after_the_file_was_opened_again() {
    let (directory, room) = (Directory::new(), Channel::new("room").unwrap());
    let file = directory.file();
    let create = move || Database::create(&file);
    let open = || RedbStore::open(create.clone(), Retention::default(), Clock::system());
    let store = open().unwrap();
    let appended = store.append(&room, Append::new([Event::text("a"), Event::text("b")])).await.unwrap();
    assert!(open().is_err(), "one process has the file");
    drop(store);
    let store = loop {
        match open() {
            Ok(store) => break store,
            Err(_) => tokio::task::yield_now().await,
        }
    };
    let first = appended.entries[0].cursor;
    let page = store.read(&room, Start::After(first), Limit::default()).await.unwrap();
    assert_eq!((page.entries, page.head), (appended.entries[1..].to_vec(), appended.head));
}
