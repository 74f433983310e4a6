//! A disk that is full. It has to be prepared, for which not everybody has the right: `TOWER_EVENTS_SMALL_DISK` is an empty
//! folder of the server's user on a file system of 32 MiB (`mount -t tmpfs -o size=32m,uid=postgres tmpfs /mnt/small`).

use std::time::Duration;

use tower_events::{
    Event, Store,
    store::{Append, Health, Limit, Start, StoreError},
    stores::postgres::PostgresStore,
};

use super::{
    server::{Server, as_user},
    support::{a, until},
};

#[tokio::test]
async fn a_full_disk_is_full_and_read_only_until_there_is_room() {
    let Some(disk) = std::env::var_os("TOWER_EVENTS_SMALL_DISK") else { return };
    let Some(server) = Server::start() else { return };
    let disk = disk.to_str().unwrap();
    let filler = format!("{disk}/filler");
    let fill = as_user("sh").args(["-c", "head -c 8388608 /dev/zero > \"$0\"", &filler]).current_dir("/").status();
    assert!(fill.unwrap().success());
    server.script(format!("create tablespace small location '{disk}'").as_bytes());
    let url = format!("{}?options=-c%20default_tablespace%3Dsmall", server.url());
    let store = PostgresStore::options().timeout(Duration::from_secs(5)).connect(&url).await.unwrap();
    store.migrate().await.unwrap();
    assert_eq!(store.health(), Health::Ready);

    let mut acknowledged = 0;
    let random = || Event::text((0..50_000).map(|_| fastrand::alphanumeric()).collect::<String>());
    let refused = loop {
        match store.append(&a(), Append::new([random()])).await {
            Ok(_) => acknowledged += 1,
            Err(error) => break error,
        }
        assert!(acknowledged < 2_000, "the disk is too large");
    };
    println!("after {acknowledged} appends: {refused:?}");
    assert!(matches!(refused, StoreError::Full(_)), "{refused:?}");
    assert_eq!(store.health(), Health::ReadOnly);
    let page = store.read(&a(), Start::Earliest, Limit { events: 1, ..Limit::default() }).await.unwrap();
    assert_eq!((page.entries.len(), page.head.cursor.seq), (1, acknowledged));
    assert_eq!(store.heads(&[a()]).await.unwrap(), [page.head]);
    // Asking again does not make it writable.
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(store.health(), Health::ReadOnly);
    assert!(matches!(store.append(&a(), Append::new([random()])).await, Err(StoreError::Full(_))));

    assert!(as_user("rm").arg(&filler).current_dir("/").status().unwrap().success());
    until("it can be written again", async || store.health() == Health::Ready).await;
    let appended = store.append(&a(), Append::new([random()])).await.unwrap();
    assert_eq!(appended.head.cursor.seq, acknowledged + 1);
}
