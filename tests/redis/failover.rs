//! Planned failovers: the old primary lives on as a replica, with every connection to it open.

use std::{
    pin::pin,
    time::{Duration, Instant},
};

use tower_events::{
    RedisStore, Store,
    store::{Append, Change, Health, Limit, Outcome, Start},
};

use super::{
    load::{channel, node, url},
    server::Server,
    support::{next, text, until},
    wire::Wire,
};

async fn pair() -> Option<(Server, Server)> {
    let primary = Server::start(&["--repl-ping-replica-period", "3600", "--repl-diskless-sync-delay", "0"]).await?;
    let replica = Server::start(&["--repl-ping-replica-period", "3600", "--repl-diskless-sync-delay", "0"]).await?;
    replica.follow(&primary).await;
    Some((primary, replica))
}

async fn fail_over(primary: &Server, replica: &Server) {
    let port = replica.addr().port().to_string();
    let answer = primary.command(&["FAILOVER", "TO", "127.0.0.1", &port]).await;
    assert!(answer.starts_with("+OK"), "{answer}");
    let is_done = async || replica.info("role").await == "master" && primary.info("role").await == "slave";
    until("the replica becomes the primary", Duration::from_secs(60), is_done).await;
}

/// How often to retry while a store looks for the new primary; bounded.
async fn append(store: &RedisStore, name: &str, append: Append) -> tower_events::store::Appended {
    let began = Instant::now();
    loop {
        match store.append(&channel(name), append.clone()).await {
            Ok(appended) => return appended,
            Err(error) => assert!(error.is_retryable() && began.elapsed() < Duration::from_secs(10), "{error:?}"),
        }
    }
}

#[tokio::test]
async fn reads_follow_a_planned_failover_as_appends_do() {
    let Some((primary, replica)) = pair().await else { return };
    let wire = Wire::to(primary.addr()).await;
    let (writer, reader) = (node(&url(&wire)).await, node(&url(&wire)).await);
    let before = writer.append(&channel("a"), text("before")).await.unwrap();
    let page = reader.read(&channel("a"), Start::Earliest, Limit::default()).await.unwrap();
    assert_eq!(page.entries, before.entries);
    fail_over(&primary, &replica).await;
    // From here on, only the new primary has the entries.
    primary.command(&["REPLICAOF", "127.0.0.1", "1"]).await;
    wire.redirect(replica.addr());
    let after = append(&writer, "a", text("after")).await;
    for store in [&writer, &reader] {
        for cursor in [before.head.cursor, after.head.cursor] {
            let began = Instant::now();
            let page = loop {
                match store.read(&channel("a"), Start::After(cursor), Limit::default()).await {
                    Ok(page) => break page,
                    Err(error) => {
                        assert!(error.is_retryable() && began.elapsed() < Duration::from_secs(10), "{error:?}");
                    }
                }
            };
            assert_eq!((page.outcome, page.head), (Outcome::Continued, after.head));
        }
        assert_eq!(store.heads(&[channel("a")]).await.unwrap(), [after.head]);
        let is_ready = async || store.health() == Health::Ready;
        until("everything is connected again", Duration::from_secs(10), is_ready).await;
    }
}

#[tokio::test]
async fn until_the_new_primary_is_known_nothing_stale_is_read_and_health_reports_it() {
    let Some((primary, replica)) = pair().await else { return };
    let wire = Wire::to(primary.addr()).await;
    let store = node(&url(&wire)).await;
    let mut changes = pin!(store.changes());
    assert!(matches!(next(&mut changes).await, Change::Resync));
    store.append(&channel("a"), text("before")).await.unwrap();
    next(&mut changes).await;
    fail_over(&primary, &replica).await;
    // No calls are made: the ping detects it.
    until("health tells", Duration::from_secs(15), async || store.health() != Health::Ready).await;
    assert_eq!(store.health(), Health::Unavailable);
    let read = store.read(&channel("a"), Start::Earliest, Limit::default()).await;
    assert!(read.is_err_and(|error| error.is_retryable()));
    assert!(store.heads(&[channel("a")]).await.is_err_and(|error| error.is_retryable()));
    wire.redirect(replica.addr());
    until("health recovers", Duration::from_secs(15), async || store.health() == Health::Ready).await;
    assert!(matches!(next(&mut changes).await, Change::Resync), "hints come from the new primary");
    append(&store, "a", text("after")).await;
    assert!(matches!(next(&mut changes).await, Change::Entries(_)));
}

/// A key that another connection appended a moment ago may be on the primary only: repeating it has to wait for
/// replicas too.
#[tokio::test]
async fn a_duplicate_is_acknowledged_once_replicas_have_it() {
    let Some((primary, replica)) = pair().await else { return };
    let within = Duration::from_secs(1);
    let store = async || RedisStore::options().replicas(1, within).connect(&primary.url()).await.unwrap();
    let (one, other) = (store().await, store().await);
    let keyed = || Append::new([tower_events::Event::text("x").keyed("k").unwrap()]);
    one.append(&channel("a"), keyed()).await.unwrap();
    other.append(&channel("b"), text("x")).await.unwrap();
    let written = async || primary.info("rdb_changes_since_last_save").await.parse::<u64>().unwrap();
    let before = written().await;
    assert!(other.append(&channel("a"), keyed()).await.unwrap().receipts[0].duplicate);
    // Newer servers wait only for what the connection itself wrote.
    assert!(written().await > before, "a duplicate does not wait without replicas");
    replica.signal("-STOP");
    let alone = other.append(&channel("a"), keyed()).await;
    replica.signal("-CONT");
    assert!(matches!(alone, Err(tower_events::StoreError::Unknown(_))), "{alone:?}");
}

/// The primary has it, and a replica may.
#[tokio::test]
async fn an_append_waiting_for_replicas_is_unknown_if_the_primary_is_demoted() {
    let Some((primary, replica)) = pair().await else { return };
    let options = RedisStore::options().replicas(1, Duration::from_secs(5)).timeout(Duration::from_secs(8));
    let store = options.connect(&primary.url()).await.unwrap();
    store.append(&channel("a"), text("1")).await.unwrap();
    replica.signal("-STOP");
    let waits = tokio::spawn(async move { store.append(&channel("a"), text("2")).await });
    let is_waited = async || primary.info("blocked_clients").await == "1";
    until("the append waits", Duration::from_secs(4), is_waited).await;
    primary.command(&["REPLICAOF", "127.0.0.1", "1"]).await;
    let ended = waits.await.unwrap();
    replica.signal("-CONT");
    assert!(matches!(ended, Err(tower_events::StoreError::Unknown(_))), "{ended:?}");
}
