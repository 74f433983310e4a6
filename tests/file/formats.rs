//! Files of other versions: older ones are upgraded, and newer ones are refused with their version, when they are
//! opened and while they are in use.

use std::time::Duration;

use rusqlite::Connection;
use tower_events::{
    Channel, Event, FileStore, Retention, Store as _, StoreError,
    store::{Append, Health, Limit, OpenErrorKind, Outcome, Start, Use},
};

use super::support::{Temporary, append, error_chain, integrity, keeping_all, read_all, room, texts};

/// The steps from the newest version back to each older one.
const DOWNGRADES: [&str; 2] = [
    "ALTER TABLE keys DROP COLUMN print; PRAGMA user_version = 1;",
    "ALTER TABLE origin RENAME TO place; DROP TABLE floors; DROP TABLE format; PRAGMA user_version = 2;",
];

fn by_hand(dir: &Temporary) -> Connection {
    let db = Connection::open(dir.file()).unwrap();
    db.busy_timeout(Duration::from_secs(10)).unwrap();
    db
}

/// Downgrades the file to this version.
fn downgrade(dir: &Temporary, version: usize) {
    let db = by_hand(dir);
    DOWNGRADES.iter().skip(version - 1).rev().for_each(|sql| db.execute_batch(sql).unwrap());
}

/// Makes the file one of a newer version, with the oldest versions that may read and write it.
fn set_format(dir: &Temporary, version: u32, reader: u32, writer: u32) {
    let sql = format!(
        "BEGIN IMMEDIATE; PRAGMA user_version = {version};
         UPDATE format SET version = {version}, oldest_reader = {reader}, oldest_writer = {writer};
         UPDATE channels SET due = 0; COMMIT;"
    );
    by_hand(dir).execute_batch(&sql).unwrap();
}

fn channel(name: &str) -> Channel {
    Channel::new(name).unwrap()
}

#[tokio::test]
async fn an_older_file_is_upgraded_with_its_floor() {
    for version in [1, 2] {
        let dir = Temporary::new();
        append(&FileStore::open(dir.file()).unwrap(), "kept").await.unwrap();
        downgrade(&dir, version);
        by_hand(&dir).execute("UPDATE place SET floor = 7", []).unwrap();

        let store = FileStore::open(dir.file()).unwrap();
        assert_eq!(texts(&read_all(&store).await), ["kept"]);
        let absent: Vec<_> = (0..20).map(|n| channel(&format!("absent {n}"))).collect();
        let heads = store.heads(&absent).await.unwrap();
        assert!(heads.iter().all(|head| head.cursor.seq == 7), "{heads:?}");
        // After the upgrade a floor rises for a few names only, and the positions of other absent channels stay valid.
        store.append(&channel("goes"), Append::new([Event::text("x")])).await.unwrap();
        store.delete(&channel("goes")).await.unwrap();
        let page = store.read(&absent[0], Start::After(heads[0].cursor), Limit::default()).await.unwrap();
        assert_eq!(page.outcome, Outcome::Continued);
        let first = store.append(&absent[0], Append::new([Event::text("first")])).await.unwrap();
        assert_eq!(first.head.cursor.seq, 8);
        assert_eq!(integrity(&dir.file()), "ok");
    }
}

/// A running process of the version before formats were stored.
#[tokio::test]
async fn a_process_of_an_older_version_cannot_write_after_an_upgrade() {
    let dir = Temporary::new();
    append(&FileStore::open(dir.file()).unwrap(), "x").await.unwrap();
    downgrade(&dir, 2);
    let older = by_hand(&dir);
    let (mut begin, mut raise) = (
        older.prepare("SELECT epoch, floor FROM place").unwrap(),
        older.prepare("UPDATE place SET floor = ?1").unwrap(),
    );
    assert!(begin.query_row([], |_| Ok(())).is_ok() && raise.execute([3]).is_ok());
    let newer = FileStore::open(dir.file()).unwrap();
    assert!(begin.query_row([], |_| Ok(())).is_err() && raise.execute([9]).is_err());
    append(&newer, "y").await.unwrap();
    assert_eq!(newer.heads(&[channel("absent")]).await.unwrap()[0].cursor.seq, 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_format_that_is_upgraded_while_a_store_is_open_is_refused_with_its_version() {
    let dir = Temporary::new();
    let store = keeping_all().open(dir.file()).unwrap();
    append(&store, "x").await.unwrap();
    let set_format = |version, reader, writer| set_format(&dir, version, reader, writer);
    set_format(4, 3, 3);
    append(&store, "y").await.unwrap();
    assert_eq!(read_all(&FileStore::open(dir.file()).unwrap()).await.len(), 2);

    set_format(4, 3, 4);
    let refused = append(&store, "z").await.unwrap_err();
    assert!(matches!(refused, StoreError::NewerFormat { stored: 4, supported: 3, denied: Use::Write }), "{refused:?}");
    assert!(
        error_chain(&refused).contains("format 4") && error_chain(&refused).contains("format 3"),
        "{}",
        error_chain(&refused)
    );
    assert_eq!((store.health(), read_all(&store).await.len()), (Health::ReadOnly, 2));
    // A store that is opened now can read too.
    let reader = keeping_all().open(dir.file()).unwrap();
    assert_eq!(read_all(&reader).await.len(), 2);
    assert!(matches!(append(&reader, "z").await, Err(StoreError::NewerFormat { .. })));

    set_format(5, 5, 5);
    let refused = store.heads(&[room()]).await.unwrap_err();
    assert!(matches!(refused, StoreError::NewerFormat { stored: 5, supported: 3, denied: Use::Read }), "{refused:?}");
    assert!(matches!(store.channels("", None, 9).await, Err(StoreError::NewerFormat { .. })));
    assert!(matches!(append(&store, "z").await, Err(StoreError::NewerFormat { .. })));
    assert_eq!(store.health(), Health::Unavailable);
    let refused = FileStore::open(dir.file()).unwrap_err();
    assert_eq!(refused.kind(), &OpenErrorKind::NewerFormat { stored: 5, supported: 3 });
    assert!(
        error_chain(&refused).contains("format 5") && error_chain(&refused).contains("format 3"),
        "{}",
        error_chain(&refused)
    );

    set_format(3, 3, 3);
    super::health::wait_for_health(&store, Health::Ready).await;
    append(&store, "z").await.unwrap();
    assert_eq!(texts(&read_all(&store).await), ["x", "y", "z"]);
}

/// In a recommended upgrade, newer processes are started next to older ones, which may end much later.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_may_not_write_does_not_keep_taking_the_lock() {
    let dir = Temporary::new();
    // The janitor checks for work ten times a second.
    let often = Retention::default().key_window(Duration::from_millis(400));
    let store = FileStore::options().retention(often).open(dir.file()).unwrap();
    append(&store, "x").await.unwrap();
    set_format(&dir, 4, 3, 4);
    super::support::wait_until_retries_pause(&store).await;
    assert!(matches!(append(&store, "y").await, Err(StoreError::NewerFormat { .. })));
}
