//! What an operator reads when the file, its directory or its disk cannot be used.

use std::{fs, io::Write as _, os::unix::fs::PermissionsExt as _, path::Path};

use rustix::{process::Uid, thread};
use tower_events::{
    FileStore, StoreError,
    store::{OpenError, OpenErrorKind},
};

use super::{
    disk_space::{Mounted, mount},
    support::{Temporary, append, error_chain, keeping_all, with_suffix},
};

#[tokio::test]
async fn a_full_disk_is_named_in_the_error_of_an_append_and_of_opening() {
    let dir = Temporary::new();
    let Some(_mounted) = Mounted::new("a_full_disk_is_named", &dir) else { return };
    let store = keeping_all().open(dir.file()).unwrap();
    let error = loop {
        if let Err(error) = append(&store, "x".repeat(20_000)).await {
            break error;
        }
    };
    says(&error_chain(&error), &["the event store is full", "disk"]);
    let mut rest = fs::File::create(dir.path().join("rest")).unwrap();
    while rest.write_all(&[0; 512]).is_ok() {}
    refused(&dir.path().join("other.db"), &OpenErrorKind::Full, &["other.db is full; retry when there is space"]);
}

#[tokio::test]
async fn a_read_only_disk_is_named() {
    let dir = Temporary::new();
    let Some(_mounted) = Mounted::new("a_read_only_disk_is_named", &dir) else { return };
    drop(FileStore::open(dir.file()).unwrap());
    // The store's threads close the file soon after it was dropped; until then the disk is busy.
    assert!((0..5_000).any(|_| mount(&["-o", "remount,ro"], &dir)));
    refused(&dir.file(), &OpenErrorKind::Denied, &["events.db denies access; check", "ead-only"]);
}

#[test]
fn a_file_or_directory_without_the_right_to_write_is_named() {
    let dir = Temporary::new();
    drop(FileStore::open(dir.file()).unwrap());
    let unprivileged = std::thread::spawn(move || {
        // Root may write everything. Only this thread becomes another user.
        if rustix::process::geteuid().is_root() {
            thread::set_thread_uid(Uid::from_raw(65534)).unwrap();
        } else {
            for end in ["", "-wal", "-shm", "-lock"] {
                _ = fs::set_permissions(with_suffix(&dir.file(), end), fs::Permissions::from_mode(0o444));
            }
            fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o555)).unwrap();
        }
        refused(&dir.file(), &OpenErrorKind::Denied, &["events.db denies access; check", "ermission"]);
        refused(&dir.path().join("new.db"), &OpenErrorKind::Denied, &["new.db denies access; check", "ermission"]);
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).ok();
        dir
    });
    drop(unprivileged.join().unwrap());
}

#[tokio::test]
async fn a_deleted_file_is_named() {
    let dir = Temporary::new();
    let store = FileStore::open(dir.file()).unwrap();
    append(&store, "x").await.unwrap();
    fs::remove_file(dir.file()).unwrap();
    let error = append(&store, "y").await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
    says(&error_chain(&error), &["unavailable; retry later", "events.db", "removed"]);
}

/// That the file cannot be opened, and the text names why.
fn refused(file: &Path, kind: &OpenErrorKind, words: &[&str]) {
    let error: OpenError = FileStore::open(file).unwrap_err();
    assert_eq!(error.kind(), kind, "{}", error_chain(&error));
    says(&error_chain(&error), words);
}

fn says(text: &str, words: &[&str]) {
    println!("{text}");
    for word in words {
        assert!(text.contains(word), "{word:?} is not in {text:?}");
    }
}
