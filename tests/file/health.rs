//! The store's health: each kind of trouble is reported, and so is its end, within seconds and even if nothing but
//! health is called.

use std::{fs, os::unix::fs::FileExt as _, path::Path, time::Duration};

use rustix::process::Signal;
use tokio::time::{Instant, sleep};
use tower_events::{
    FileStore, Store as _, StoreError,
    store::{Health, Limit, Start},
};

use super::{
    child::Child,
    disk_space::{Mounted, mount},
    support::{Temporary, append, keeping_all, read_all, room, with_suffix},
};

/// Waits until the store has this health.
pub(crate) async fn wait_for_health(store: &FileStore, health: Health) {
    let begun = Instant::now();
    while store.health() != health {
        assert!(begun.elapsed() < Duration::from_secs(20), "{:?}, not {health:?}", store.health());
        sleep(Duration::from_millis(5)).await;
    }
}

async fn can_read(store: &FileStore) -> bool {
    store.read(&room(), Start::Earliest, Limit::default()).await.is_ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_is_unavailable_while_its_file_is_moved_away() {
    let dir = Temporary::new();
    let store = keeping_all().open(dir.file()).unwrap();
    append(&store, "x").await.unwrap();
    assert_eq!(store.health(), Health::Ready);
    let ends = ["", "-wal", "-shm"];
    for _ in 0..2 {
        for end in ends {
            fs::rename(with_suffix(&dir.file(), end), with_suffix(&dir.file(), &format!("-moved{end}"))).unwrap();
        }
        // Without any other call since.
        assert_eq!(store.health(), Health::Unavailable);
        assert!(append(&store, "y").await.is_err() && !can_read(&store).await);
        for end in ends {
            fs::rename(with_suffix(&dir.file(), &format!("-moved{end}")), with_suffix(&dir.file(), end)).unwrap();
        }
        wait_for_health(&store, Health::Ready).await;
        append(&store, "z").await.unwrap();
    }
    // First another file is in its place, then none.
    fs::rename(dir.file(), with_suffix(&dir.file(), "-moved")).unwrap();
    fs::write(dir.file(), "").unwrap();
    assert_eq!(store.health(), Health::Unavailable);
    fs::remove_file(dir.file()).unwrap();
    assert_eq!(store.health(), Health::Unavailable);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_on_a_full_disk_is_read_only_until_there_is_space() {
    let dir = Temporary::new();
    let Some(_mounted) = Mounted::new("a_store_on_a_full_disk_is_read_only_until_there_is_space", &dir) else { return };
    let store = keeping_all().open(dir.file()).unwrap();
    while append(&store, "x".repeat(20_000)).await.is_ok() {}
    assert_eq!(store.health(), Health::ReadOnly);
    assert!(can_read(&store).await);
    // Retries must not mistake a full disk for one with space.
    for _ in 0..60 {
        sleep(Duration::from_millis(50)).await;
        assert_eq!(store.health(), Health::ReadOnly);
    }
    assert!(mount(&["-o", "remount,size=8m"], &dir));
    wait_for_health(&store, Health::Ready).await;
    append(&store, "space again").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_is_read_only_while_another_process_keeps_the_lock() {
    let dir = Temporary::new();
    let store = keeping_all().timeout(Duration::from_millis(200)).open(dir.file()).unwrap();
    append(&store, "before").await.unwrap();
    let mut child = Child::start("hold-lock", &dir.file());
    assert_eq!(child.next_line().as_deref(), Some("ready"));
    child.signal(Signal::STOP);
    assert!(append(&store, "never").await.is_err());
    assert_eq!(store.health(), Health::ReadOnly);
    assert!(can_read(&store).await);
    child.kill();
    wait_for_health(&store, Health::Ready).await;
    append(&store, "after").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_is_read_only_while_its_wal_may_not_grow() {
    let dir = Temporary::new();
    let store = keeping_all().max_wal_bytes(8 << 20).open(dir.file()).unwrap();
    append(&store, "first").await.unwrap();
    let mut child = Child::start("hold-snapshot", &dir.file());
    assert_eq!(child.next_line().as_deref(), Some("ready"));
    child.signal(Signal::STOP);
    while append(&store, "x".repeat(100_000)).await.is_ok() {}
    assert_eq!(store.health(), Health::ReadOnly);
    assert!(can_read(&store).await);
    child.kill();
    wait_for_health(&store, Health::Ready).await;
    append(&store, "last").await.unwrap();
}

/// Damage to the whole file; `damaged_channels` tests damage to one channel's rows.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_is_unavailable_while_its_file_is_corrupt() {
    let dir = Temporary::new();
    let store = keeping_all().open(dir.file()).unwrap();
    for _ in 0..50 {
        append(&store, "x".repeat(5_000)).await.unwrap();
    }
    let whole = all_of(&dir.file(), &store).await;
    let file = fs::OpenOptions::new().write(true).open(dir.file()).unwrap();
    file.write_all_at(&vec![0xff; whole.len()], 0).unwrap();
    let begun = Instant::now();
    while store.health() == Health::Ready {
        assert!(begun.elapsed() < Duration::from_secs(20), "the damage is not noticed");
        _ = can_read(&store).await;
        sleep(Duration::from_millis(20)).await;
    }
    wait_for_health(&store, Health::Unavailable).await;
    file.write_all_at(&whole, 0).unwrap();
    wait_for_health(&store, Health::Ready).await;
    append(&store, "after").await.unwrap();
    assert_eq!(read_all(&store).await.len(), 51);
}

/// The bytes of the database file, after everything in the WAL was copied into it.
async fn all_of(path: &Path, store: &FileStore) -> Vec<u8> {
    let db = rusqlite::Connection::open(path).unwrap();
    db.busy_timeout(Duration::from_secs(5)).unwrap();
    db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    assert!(can_read(store).await);
    fs::read(path).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_channel_does_not_affect_health() {
    let dir = Temporary::new();
    let store = keeping_all().open(dir.file()).unwrap();
    append(&store, "x").await.unwrap();
    let db = rusqlite::Connection::open(dir.file()).unwrap();
    db.execute_batch("UPDATE channels SET earliest_seq = head_seq + 1").unwrap();
    for _ in 0..20 {
        assert!(matches!(append(&store, "y").await, Err(StoreError::Corrupt(_))));
        assert!(!can_read(&store).await);
        assert_eq!(store.health(), Health::Ready);
        sleep(Duration::from_millis(20)).await;
    }
}
