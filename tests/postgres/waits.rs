//! What waits for what: callers for connections, and migrations for each other.

use std::time::Duration;

use tokio::task::JoinSet;
use tower_events::{Channel, Event, Store, store::Append, stores::postgres::PostgresStore};

use super::{
    harness::{client, fresh_schema},
    server,
    support::{a, until},
};

/// Writers share connections, and a shared one must still be returned to callers that wait for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_that_share_the_only_connection_starve_no_other_caller() {
    let Some(server) = server::shared() else { return };
    let schema = fresh_schema();
    let options = PostgresStore::options().schema(&schema).connections(1);
    let store = options.timeout(Duration::from_secs(2)).connect(&server.url()).await.unwrap();
    store.migrate().await.unwrap();
    let mut writers = JoinSet::new();
    for writer in 0..8 {
        let (store, channel) = (store.clone(), Channel::new(format!("of writer {writer}")).unwrap());
        writers.spawn(async move {
            loop {
                store.append(&channel, Append::new([Event::text("x")])).await.expect("a turn");
            }
        });
    }
    let channels = [a()];
    for _ in 0..20 {
        tokio::select! {
            heads = store.heads(&channels) => drop(heads.expect("a turn among writers")),
            ended = writers.join_next() => panic!("{ended:?}"),
        }
    }
}

/// A migration may take longer than anything else may wait for a lock.
#[tokio::test]
async fn a_migration_waits_for_another_one_as_long_as_it_takes() {
    let Some(server) = server::shared() else { return };
    let schema = fresh_schema();
    let call_timeout = Duration::from_secs(1);
    let store = PostgresStore::options().schema(&schema).timeout(call_timeout).connect(&server.url()).await.unwrap();
    let (other, watch) = (client(server).await, client(server).await);
    let lock = format!("begin; select pg_advisory_xact_lock(hashtextextended('tower-events migrate {schema}', 0))");
    other.batch_execute(&lock).await.unwrap();
    let migrating = tokio::spawn({
        let store = store.clone();
        async move { store.migrate().await }
    });
    let waiting = format!(
        "select count(*) from pg_stat_activity where wait_event = 'advisory' and query like '%migrate {schema}%'
            and clock_timestamp() - query_start > interval '{} ms'",
        call_timeout.as_millis()
    );
    until("it has waited for longer than it would for a row", async || {
        migrating.is_finished() || watch.query_one(&waiting, &[]).await.unwrap().get::<_, i64>(0) == 1
    })
    .await;
    other.batch_execute("commit").await.unwrap();
    migrating.await.unwrap().unwrap();
    store.append(&a(), Append::new([Event::text("x")])).await.unwrap();
}
