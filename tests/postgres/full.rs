//! A full disk, as far as the server can tell: tables cannot grow.

use tower_events::{
    Event, Store,
    store::{Append, Health, Limit, Start, StoreError},
    stores::postgres::PostgresStore,
};

use super::{
    harness::client,
    server::Server,
    support::{a, until},
};

#[tokio::test]
async fn a_full_disk_is_full_and_read_only_until_there_is_room() {
    let Some(server) = Server::start_on_small_disk() else { return };
    let store = PostgresStore::connect(&server.url()).await.unwrap();
    store.migrate().await.unwrap();
    let random = || Event::text((0..50_000).map(|_| fastrand::alphanumeric()).collect::<String>());
    store.append(&a(), Append::new([random()])).await.unwrap();
    assert_eq!(store.health(), Health::Ready);

    server.fill_disk();
    let mut acknowledged = 1;
    let refused = loop {
        match store.append(&a(), Append::new([random()])).await {
            Ok(_) => acknowledged += 1,
            Err(error) => break error,
        }
        assert!(acknowledged < 100, "the disk is not full");
    };
    assert!(matches!(refused, StoreError::Full(_)), "{refused:?}");
    assert_eq!(store.health(), Health::ReadOnly);
    let page = store.read(&a(), Start::Earliest, Limit::default().events(1)).await.unwrap();
    assert_eq!((page.entries.len(), page.head.cursor.seq), (1, acknowledged));
    assert_eq!(store.heads(&[a()]).await.unwrap(), [page.head]);

    // The store probes now and then whether it can write again: two more probes do not make it so.
    let client = client(&server).await;
    let asked =
        "select max(query_start)::text from pg_stat_activity where query like '%.probe(%' and pid <> pg_backend_pid()";
    let mut seen = std::collections::BTreeSet::new();
    until("it probed twice", async || {
        seen.extend(client.query_one(asked, &[]).await.unwrap().get::<_, Option<String>>(0));
        seen.len() > 2
    })
    .await;
    assert_eq!(store.health(), Health::ReadOnly);
    assert!(matches!(store.append(&a(), Append::new([random()])).await, Err(StoreError::Full(_))));

    server.clear_disk();
    until("it can be written again", async || store.health() == Health::Ready).await;
    let appended = store.append(&a(), Append::new([random()])).await.unwrap();
    assert_eq!(appended.head.cursor.seq, acknowledged + 1);
}
