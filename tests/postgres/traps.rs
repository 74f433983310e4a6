//! One test per trap of the server. The order of commits is in `outbox.rs`, notifications are in `notifying.rs`, lost
//! tails in the conformance suite.

use std::time::Duration;

use tower_events::{
    Channel, Cursor, Event, Retention, Store, StoreError,
    cursor::epoch_of,
    store::{Append, Change, Expect, Health, Limit, OpenErrorKind, Outcome, Reason, Start},
    stores::postgres::PostgresStore,
};

use super::{
    harness::{client, fresh_schema},
    server::{self, Server},
    support::{Watch, a, store_in, texts, until},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_nodes_migrate_at_once() {
    let Some(server) = server::shared() else { return };
    let schema = fresh_schema();
    let mut nodes = tokio::task::JoinSet::new();
    for _ in 0..12 {
        let options = PostgresStore::options().schema(&schema).connections(1);
        let url = server.url();
        nodes.spawn(async move {
            let store = options.connect(&url).await.unwrap();
            store.migrate().await.unwrap();
            store.append(&a(), Append::new([Event::text("x")])).await.unwrap();
            store.migrate().await.unwrap();
        });
    }
    nodes.join_all().await;
    let page = store_in(server, &schema).await.read(&a(), Start::Earliest, Limit::default()).await.unwrap();
    assert_eq!(page.entries.len(), 12);
    assert!(page.entries.iter().all(|entry| entry.cursor.epoch == page.head.cursor.epoch), "one place");
}

#[tokio::test]
async fn a_role_that_may_not_create_uses_an_existing_schema() {
    let Some(server) = server::shared() else { return };
    let schema = fresh_schema();
    let client = client(server).await;
    client.batch_execute(&format!("create role {schema} login")).await.unwrap();
    let url = server.url().replace("postgres@", &format!("{schema}@"));
    let store = PostgresStore::options().schema(&schema).connect(&url).await.unwrap();
    let refused = store.migrate().await.unwrap_err();
    assert!(matches!(refused, StoreError::Unavailable(_)), "{refused:?}");
    assert!(format!("{refused:?}").contains("permission denied for database"), "{refused:?}");
    let missing = store.append(&a(), Append::new([Event::text("x")])).await.unwrap_err();
    assert!(
        matches!(&missing, StoreError::Unavailable(source) if source.to_string().contains("migrate")),
        "{missing:?}"
    );
    store_in(server, &schema).await;
    client
        .batch_execute(&format!(
            "grant usage on schema {schema} to {schema}; grant usage on all sequences in schema {schema} to {schema};
             grant select, insert, update, delete on all tables in schema {schema} to {schema};"
        ))
        .await
        .unwrap();
    store.migrate().await.unwrap();
    store.append(&a(), Append::new([Event::text("x")])).await.unwrap();
    store.tidy().await.unwrap();
    store.delete(&a()).await.unwrap();
}

/// Applications on one database do not see each other.
#[tokio::test]
async fn schemas_are_separate() {
    let Some(server) = server::shared() else { return };
    let (one, other) = (store_in(server, &fresh_schema()).await, store_in(server, &fresh_schema()).await);
    let cursor = one.append(&a(), Append::new([Event::text("x")])).await.unwrap().head.cursor;
    let page = other.read(&a(), Start::After(cursor), Limit::default()).await.unwrap();
    assert_eq!(page.outcome, Outcome::Reset(Reason::EpochChanged));
    assert!(page.entries.is_empty());
}

/// The database creates channels too, for the outbox, and must give them the same epochs.
#[tokio::test]
async fn the_database_computes_epochs_as_the_crate_does() {
    let Some(server) = server::shared() else { return };
    let schema = fresh_schema();
    store_in(server, &schema).await;
    let client = client(server).await;
    let statement = client.prepare(&format!("select {schema}.epoch_of($1, $2)")).await.unwrap();
    for n in 0..200 {
        let place = if n < 3 { [0, 1, u64::MAX][n] } else { fastrand::u64(..) };
        let name: String = (0..fastrand::usize(1..40)).map(|_| fastrand::char('!'..'\u{10ff}')).collect();
        let Ok(channel) = Channel::new(name) else { continue };
        let row = client.query_one(&statement, &[&(place as i64), &channel.as_str()]).await.unwrap();
        assert_eq!(row.get::<_, i64>(0) as u64, epoch_of(place, &channel), "{place} {channel:?}");
    }
}

/// With a stricter isolation, a snapshot may be older than a wait; the store retries.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_is_stricter_by_default_is_fine() {
    let Some(server) = server::shared() else { return };
    let schema = fresh_schema();
    store_in(server, &schema).await;
    let url = format!("{}?options=-c%20default_transaction_isolation=repeatable%5C%20read", server.url());
    let mut appenders = tokio::task::JoinSet::new();
    for node in 0..4 {
        let options = PostgresStore::options().schema(&schema).connections(2);
        // Half of them cannot configure their sessions.
        let options = if node % 2 == 0 { options } else { options.behind_pooler(&url) };
        let store = options.connect(&url).await.unwrap();
        appenders.spawn(async move {
            for n in 0..25 {
                store.append(&a(), Append::new([Event::text(n.to_string())])).await.unwrap();
            }
        });
    }
    appenders.join_all().await;
    let page = store_in(server, &schema).await.read(&a(), Start::Earliest, Limit::default()).await.unwrap();
    let seqs: Vec<_> = page.entries.iter().map(|entry| entry.cursor.seq).collect();
    assert_eq!(seqs, (1..=100).collect::<Vec<_>>());
}

/// A standby is behind, and what it lacks would look lost.
#[tokio::test]
async fn a_read_only_server_is_not_used() {
    let Some(server) = server::shared() else { return };
    let url = format!("{}?options=-c%20default_transaction_read_only=on", server.url());
    let refused = PostgresStore::connect(&url).await.unwrap_err();
    assert!(*refused.kind() == OpenErrorKind::Unreachable && refused.is_retryable(), "{refused:?}");
    let nonsense = PostgresStore::connect("postgres://localhost:notaport/").await.unwrap_err();
    assert!(*nonsense.kind() == OpenErrorKind::Settings && !nonsense.is_retryable(), "{nonsense:?}");
}

/// Retention deletes as much as is appended; the record's updates stay in their page; the tables stop growing.
#[tokio::test]
async fn retention_leaves_no_bloat() {
    // Of its own: vacuum keeps what any transaction in the database may still see, so also one of another test.
    let Some(server) = Server::start_with("-c autovacuum=off") else { return };
    let schema = fresh_schema();
    let options = PostgresStore::options().schema(&schema).retention(Retention::default().events(200));
    let store = options.connect(&server.url()).await.unwrap();
    store.migrate().await.unwrap();
    let client = client(&server).await;
    let mut sizes = Vec::new();
    for _ in 0..6 {
        for _ in 0..100 {
            store.append(&a(), Append::new((0..20).map(|_| Event::text("x".repeat(200))))).await.unwrap();
        }
        // What autovacuum does by itself, once a minute at most.
        for table in ["entry", "head"] {
            client.batch_execute(&format!("vacuum {schema}.{table}")).await.unwrap();
        }
        let size = format!("select pg_total_relation_size('{schema}.entry') + pg_total_relation_size('{schema}.head')");
        sizes.push(client.query_one(&size, &[]).await.unwrap().get::<_, i64>(0));
    }
    let kept = client.query_one(&format!("select count(*) from {schema}.entry"), &[]).await.unwrap().get::<_, i64>(0);
    assert!((200..=400).contains(&kept), "{kept} entries kept");
    // Each round writes about 800 kB.
    assert!(sizes[5] <= 2 * sizes[0].max(sizes[1]), "sizes {sizes:?}");
    until("the statistics are there", async || {
        let updates =
            "select n_tup_upd, n_tup_hot_upd from pg_stat_all_tables where schemaname = $1 and relname = 'head'";
        let row = client.query_one(updates, &[&schema]).await.unwrap();
        let (all, hot): (i64, i64) = (row.get(0), row.get(1));
        all >= 400 && hot * 10 >= all * 9
    })
    .await;
}

/// A restore brings back another history from where the dump ended.
#[tokio::test]
async fn after_a_restore_from_an_older_dump_every_reader_is_reset() {
    let Some(server) = server::shared() else { return };
    let schema = fresh_schema();
    let store = store_in(server, &schema).await;
    let born_later = Channel::new("created after the dump").unwrap();
    let absent = store.heads(std::slice::from_ref(&born_later)).await.unwrap()[0].cursor;
    let before = store.append(&a(), Append::new(["1", "2"].map(Event::text))).await.unwrap().head.cursor;
    let dump = server.program("pg_dump", &["-n", &schema]);
    let lost = store.append(&a(), Append::new(["lost 3", "lost 4"].map(Event::text))).await.unwrap();
    let born = store.append(&born_later, Append::new([Event::text("lost")])).await.unwrap().head.cursor;
    client(server).await.batch_execute(&format!("drop schema {schema} cascade")).await.unwrap();
    server.script(&dump);

    let outcome = async |channel: &Channel, cursor: Cursor| {
        store.read(channel, Start::After(cursor), Limit::default()).await.unwrap().outcome
    };
    let [third, fourth] = [0, 1].map(|n| lost.entries[n].cursor);
    assert_eq!(outcome(&a(), before).await, Outcome::Continued);
    for cursor in [third, fourth] {
        assert_eq!(outcome(&a(), cursor).await, Outcome::Reset(Reason::Ahead));
    }
    assert_eq!(outcome(&born_later, born).await, Outcome::Reset(Reason::Ahead));
    assert_eq!(outcome(&born_later, absent).await, Outcome::Continued);

    // Appends continue, also past the old head.
    store.append(&a(), Append::new(["new 3", "new 4", "new 5"].map(Event::text))).await.unwrap();
    store.append(&born_later, Append::new(["1", "2"].map(Event::text))).await.unwrap();
    assert_eq!(outcome(&a(), before).await, Outcome::Continued);
    for (channel, cursor) in [(&a(), third), (&a(), fourth), (&born_later, born)] {
        assert_eq!(outcome(channel, cursor).await, Outcome::Reset(Reason::EpochChanged));
    }
    let page = store.read(&a(), Start::After(before), Limit::default()).await.unwrap();
    assert_eq!(texts(&page.entries), ["new 3", "new 4", "new 5"]);
}

/// TLS verifies the server's identity; and passwords are in the URL.
#[tokio::test]
async fn tls_verifies_and_passwords_are_in_the_url() {
    let tls = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/postgres/tls");
    let Some(server) = Server::start() else { return };
    server.encrypt(&tls);
    let plain = server.url();
    assert!(PostgresStore::connect(&plain).await.is_err(), "the server accepts no unencrypted connection");
    let trusted = format!("{}?sslmode=verify-full&sslrootcert={}", server.url(), tls.join("ca.pem").display());
    let trusted = trusted.replace("postgres@", "ada:pa%24s%20w%C3%B6rd@");
    let store = PostgresStore::connect(&trusted).await.unwrap();
    store.migrate().await.unwrap();
    let mut watch = Watch::armed(&store).await;
    let head = store.append(&a(), Append::new([Event::text("x")])).await.unwrap().head;
    watch.until("an entry", |change| matches!(change, Change::Entries(all) if all[0].cursor == head.cursor)).await;

    let pem = std::fs::read(tls.join("ca.pem")).unwrap();
    let by_builder =
        format!("{}?x=1", server.url()).replace("postgres@", "ada:pa%24s%20w%C3%B6rd@").replace("?x=1", "");
    PostgresStore::options().root_certificates(pem).connect(&by_builder).await.unwrap();
    for (wrong, kind) in [
        (trusted.replace("ca.pem", "other-ca.pem"), OpenErrorKind::Tls),
        (trusted.replace("&sslrootcert=", "&application_name="), OpenErrorKind::Tls),
        (trusted.replace("pa%24s", "pass"), OpenErrorKind::Denied),
    ] {
        let refused = PostgresStore::options().timeout(Duration::from_secs(2)).connect(&wrong).await;
        assert_eq!(refused.map(drop).map_err(|error| error.kind().clone()), Err(kind), "{wrong}");
    }
}

/// A schema of a version that remembered keys without the fingerprint of their event.
#[tokio::test]
async fn a_key_of_an_older_schema_matches_every_event() {
    let Some(server) = server::shared() else { return };
    let schema = fresh_schema();
    let keyed = |text: &str, key: &str| Append::new([Event::text(text).keyed(key).unwrap()]);
    let first = store_in(server, &schema).await.append(&a(), keyed("first", "old")).await.unwrap();
    let older = format!("alter table {schema}.key drop column print; update {schema}.place set version = 1");
    client(server).await.batch_execute(&older).await.unwrap();

    let store = store_in(server, &schema).await;
    let again = store.append(&a(), keyed("other", "old")).await.unwrap();
    assert_eq!((again.receipts[0].cursor, again.receipts[0].duplicate), (first.head.cursor, true));
    store.append(&a(), keyed("first", "new")).await.unwrap();
    let refused = store.append(&a(), keyed("other", "new")).await;
    assert!(matches!(refused, Err(StoreError::KeyReused { index: 0 })), "{refused:?}");
}

/// Appends that wait for each other share a call; one that is refused does not make the others fail.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reused_key_is_refused_alone() {
    let Some(server) = server::shared() else { return };
    let store = store_in(server, &fresh_schema()).await;
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..60 {
        let store = store.clone();
        tasks.spawn(async move {
            // Every third append uses an earlier key for another event, as its second event.
            let text = if n % 3 == 2 { "other" } else { "same" };
            let keyed = Event::text(text).keyed(format!("k{}", n / 3)).unwrap();
            (n, store.append(&a(), Append::new([Event::text(format!("plain {n}")), keyed])).await)
        });
    }
    let mut refused = 0;
    while let Some(done) = tasks.join_next().await {
        match done.unwrap() {
            (_, Ok(done)) => assert_eq!(done.receipts.len(), 2),
            (_, Err(StoreError::KeyReused { index: 1 })) => refused += 1,
            (n, Err(error)) => panic!("{n}: {error:?}"),
        }
    }
    // The first append with a key decides which of the three events it identifies.
    assert!((20..=40).contains(&refused), "{refused}");
    let page = store.read(&a(), Start::Earliest, Limit::default()).await.unwrap();
    let plain = texts(&page.entries).iter().filter(|text| text.starts_with("plain")).count();
    assert_eq!((plain, page.entries.len() - plain), (60 - refused, 20), "{:?}", texts(&page.entries));
}

/// A read-only database can be read, and a call that had nothing to write does not mean that it can be written.
#[tokio::test]
async fn a_read_only_database_is_read_only_until_something_is_written() {
    let Some(server) = server::shared() else { return };
    let schema = fresh_schema();
    let store = store_in(server, &schema).await;
    let keyed = || Append::new([Event::text("x").keyed("k").unwrap()]);
    store.append(&a(), keyed()).await.unwrap();
    let refuse = format!(
        "create function {schema}.refuse() returns trigger language plpgsql as $$ begin
            raise exception 'cannot execute INSERT in a read-only transaction' using errcode = '25006'; end $$;
         create trigger refuse before insert on {schema}.entry for each row execute function {schema}.refuse()"
    );
    let client = client(server).await;
    client.batch_execute(&refuse).await.unwrap();
    store.append(&a(), Append::new([Event::text("y")])).await.expect_err("a refusal");
    assert_eq!(store.health(), Health::ReadOnly);
    store.read(&a(), Start::Earliest, Limit::default()).await.unwrap();
    store.delete(&Channel::new("absent").unwrap()).await.unwrap();
    assert_eq!(store.health(), Health::ReadOnly, "nothing was deleted");
    assert!(store.append(&a(), keyed()).await.unwrap().receipts[0].duplicate);
    assert_eq!(store.health(), Health::ReadOnly, "it was there before");
    store.init(&a(), vec![], Expect::NeverUsed).await.expect_err("a conflict");
    assert_eq!(store.health(), Health::ReadOnly, "nothing was replaced");
    client.batch_execute(&format!("drop trigger refuse on {schema}.entry")).await.unwrap();
    store.append(&a(), Append::new([Event::text("y")])).await.unwrap();
    assert_eq!(store.health(), Health::Ready);
}

#[tokio::test]
async fn an_error_of_connecting_says_what_is_wrong_and_whether_to_retry() {
    let Some(server) = server::shared() else { return };
    let refused = async |url: String| {
        let error = PostgresStore::options().timeout(Duration::from_secs(2)).connect(&url).await.unwrap_err();
        assert!(error.to_string().starts_with("PostgreSQL "), "{error}");
        (error.kind().clone(), error.is_retryable())
    };
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let nowhere = format!("postgres://postgres@127.0.0.1:{port}/postgres");
    assert_eq!(refused(nowhere).await, (OpenErrorKind::Unreachable, true));
    let elsewhere = format!("postgres://postgres@{}/elsewhere", server.address());
    assert_eq!(refused(elsewhere).await, (OpenErrorKind::Settings, false));
    assert_eq!(refused(server.url().replace("postgres@", "nobody@")).await, (OpenErrorKind::Denied, false));
}
