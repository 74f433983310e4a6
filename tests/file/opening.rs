//! Which files can be opened, and the errors of others.

use rusqlite::Connection;
use tower_events::{
    Event, FileStore, Store, StoreError,
    store::{Append, OpenErrorKind},
};

use super::{
    child::Child,
    support::{Temporary, append, error_chain, integrity, read_all, room, texts, with_suffix},
};

#[tokio::test]
async fn parent_directories_are_created() {
    let dir = Temporary::new();
    let path = dir.path().join("a/b/c/events.db");
    append(&FileStore::open(&path).unwrap(), "x").await.unwrap();
    assert_eq!(texts(&read_all(&FileStore::open(&path).unwrap()).await), ["x"]);
}

#[test]
fn foreign_files_are_refused_and_not_changed() {
    let dir = Temporary::new();
    let path = dir.file();
    let refused = |kind, text: &str| {
        let error = FileStore::open(&path).unwrap_err();
        assert_eq!(error.kind(), &kind, "{}", error_chain(&error));
        assert!(error_chain(&error).contains(text), "{}", error_chain(&error));
        assert!(error_chain(&error).contains("events.db"), "{}", error_chain(&error));
    };
    std::fs::write(&path, "a text that is longer than the header of a database, so that it cannot be one".repeat(20))
        .unwrap();
    let before = std::fs::read(&path).unwrap();
    refused(OpenErrorKind::Foreign, "is not an event file");
    assert_eq!(std::fs::read(&path).unwrap(), before);

    std::fs::remove_file(&path).unwrap();
    Connection::open(&path).unwrap().execute_batch("CREATE TABLE users (name)").unwrap();
    let before = std::fs::read(&path).unwrap();
    refused(OpenErrorKind::Foreign, "users");
    assert_eq!(std::fs::read(&path).unwrap(), before);

    std::fs::remove_file(&path).unwrap();
    drop(FileStore::open(&path).unwrap());
    Connection::open(&path).unwrap().execute_batch("PRAGMA user_version = 99").unwrap();
    refused(OpenErrorKind::NewerFormat { stored: 99, supported: 3 }, "99");

    Connection::open(&path).unwrap().execute_batch("PRAGMA user_version = -1").unwrap();
    refused(OpenErrorKind::Corrupt, "-1");

    let directory = FileStore::open(dir.path()).unwrap_err();
    assert_eq!(directory.kind(), &OpenErrorKind::Foreign);
    let io = std::io::Error::from(directory);
    assert!(io.to_string().contains("directory"), "{io}");
}

#[test]
fn a_path_that_names_no_file_is_invalid() {
    let dir = Temporary::new();
    let refused = FileStore::open(dir.path().join("..")).unwrap_err();
    assert_eq!((refused.kind(), refused.is_retryable()), (&OpenErrorKind::Settings, false));
}

#[test]
fn an_error_of_the_system_keeps_its_kind() {
    let dir = Temporary::new();
    std::fs::write(dir.file(), "").unwrap();
    let refused = FileStore::open(dir.file().join("below/events.db")).unwrap_err();
    assert_eq!(refused.kind(), &OpenErrorKind::Io, "{refused:?}");
    let reported = std::fs::create_dir_all(dir.file().join("below")).unwrap_err();
    assert_eq!(std::io::Error::from(refused).kind(), reported.kind());
}

#[tokio::test]
async fn an_empty_file_becomes_a_store() {
    let dir = Temporary::new();
    std::fs::write(dir.file(), "").unwrap();
    append(&FileStore::open(dir.file()).unwrap(), "x").await.unwrap();
}

#[tokio::test]
async fn removing_or_replacing_an_open_file_is_noticed() {
    let dir = Temporary::new();
    let store = FileStore::open(dir.file()).unwrap();
    append(&store, "x").await.unwrap();
    for end in ["", "-wal", "-shm"] {
        std::fs::rename(with_suffix(&dir.file(), end), with_suffix(&dir.file(), &format!("-moved{end}"))).unwrap();
    }
    assert!(matches!(append(&store, "y").await, Err(StoreError::Unavailable(_))));
    let other = FileStore::open(dir.file()).unwrap();
    append(&other, "z").await.unwrap();
    let error = append(&store, "y").await.unwrap_err();
    assert!(error_chain(&error).contains("replaced"), "{}", error_chain(&error));
}

#[tokio::test]
async fn a_link_opens_the_same_store() {
    let dir = Temporary::new();
    let store = FileStore::open(dir.file()).unwrap();
    let link = dir.path().join("link.db");
    std::os::unix::fs::symlink(dir.file(), &link).unwrap();
    append(&FileStore::open(&link).unwrap(), "x").await.unwrap();
    assert_eq!(texts(&read_all(&store).await), ["x"]);
    assert!(!with_suffix(&link, "-lock").exists());
}

#[test]
fn reads_outside_a_runtime_fail() {
    let dir = Temporary::new();
    let store = FileStore::open(dir.file()).unwrap();
    let channel = super::support::room();
    let mut read = std::pin::pin!(tower_events::Store::heads(&store, std::slice::from_ref(&channel)));
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    let polled = std::future::Future::poll(read.as_mut(), &mut cx);
    assert!(matches!(polled, std::task::Poll::Ready(Err(StoreError::Unavailable(_)))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forked_child_is_refused_and_does_no_harm() {
    let dir = Temporary::new();
    let mut child = Child::start("fork", &dir.file());
    let mut line = || child.next_line().unwrap();
    let (append, read, open) = (line(), line(), line());
    for refused in [append, read] {
        assert!(refused.contains("Unavailable") && refused.contains("forked"), "{refused}");
    }
    assert_eq!(open, "open Err(Forked)");
    assert_eq!(line(), "done");
    let entries = read_all(&FileStore::open(dir.file()).unwrap()).await;
    assert_eq!(texts(&entries)[1..], ["parent"]);
    assert_eq!(integrity(&dir.file()), "ok");
}

#[test]
fn forked_processes_draw_different_tags_and_epochs() {
    let dir = Temporary::new();
    let mut child = Child::start("draw", &dir.file());
    let words = |line: String| {
        line.split(|c: char| !c.is_ascii_digit()).filter(|word| !word.is_empty()).map(str::to_owned).collect::<Vec<_>>()
    };
    let (one, other) = (words(child.next_line().unwrap()), words(child.next_line().unwrap()));
    assert_eq!((one.len(), other.len()), (6, 6));
    for (one, other) in one.iter().zip(&other).take(5) {
        assert_ne!(one, other, "{one} {other}");
    }
}

/// Version 1 stored keys without the fingerprint of their event.
#[tokio::test]
async fn a_key_of_an_older_file_matches_every_event() {
    let dir = Temporary::new();
    let keyed = |text: &str, key: &str| Append::new([Event::text(text).keyed(key).unwrap()]);
    let first = FileStore::open(dir.file()).unwrap().append(&room(), keyed("first", "old")).await.unwrap();
    let older = Connection::open(dir.file()).unwrap();
    let back = "ALTER TABLE origin RENAME TO place; DROP TABLE floors; DROP TABLE format;
                ALTER TABLE keys DROP COLUMN print; PRAGMA user_version = 1;";
    older.execute_batch(back).unwrap();
    drop(older);

    let store = FileStore::open(dir.file()).unwrap();
    let again = store.append(&room(), keyed("other", "old")).await.unwrap();
    assert_eq!((again.receipts[0].cursor, again.receipts[0].duplicate), (first.head.cursor, true));
    store.append(&room(), keyed("first", "new")).await.unwrap();
    let refused = store.append(&room(), keyed("other", "new")).await;
    assert!(matches!(refused, Err(StoreError::KeyReused { index: 0 })), "{refused:?}");
    assert_eq!(texts(&read_all(&store).await), ["first", "first"]);
}
