//! Schemas of other versions.

use std::time::Duration;

use tower_events::{
    Channel, Cursor, Event, Store, StoreError,
    store::{Append, Clock, Health, Limit, OpenErrorKind, Outcome, Start, Use},
    stores::postgres::PostgresStore,
};

use super::{
    harness::{client, fresh_schema},
    server::{self, Server},
    support::{a, store_in, texts, until},
};

/// Sets which versions may use a schema, as a migration by a newer version does before it changes anything.
async fn raise(server: &Server, schema: &str, [version, reader, writer]: [u32; 3]) {
    let raise =
        format!("update {schema}.place set version = {version}, oldest_reader = {reader}, oldest_writer = {writer}");
    client(server).await.batch_execute(&raise).await.unwrap();
}

fn is_newer<T>(result: &Result<T, StoreError>, denied: Use) -> bool {
    matches!(result, Err(StoreError::NewerFormat { stored: 9, supported: 3, denied: what }) if *what == denied)
}

#[tokio::test]
async fn a_schema_that_only_newer_versions_may_write_is_read() {
    let Some(server) = server::shared() else { return };
    let schema = fresh_schema();
    let store = store_in(server, &schema).await;
    let head = store.append(&a(), Append::new(["x", "y"].map(Event::text))).await.unwrap().head;
    raise(server, &schema, [9, 3, 9]).await;
    let keyed = Event::text("z").keyed("k").unwrap();
    for append in [Append::new([Event::text("z")]), Append::new([keyed]), Append::new([]).closing()] {
        for channel in [a(), Channel::new("new").unwrap()] {
            let refused = store.append(&channel, append.clone()).await;
            assert!(is_newer(&refused, Use::Write), "{refused:?}");
        }
    }
    assert!(is_newer(&store.init(&a(), vec![], tower_events::store::Expect::Any).await, Use::Write));
    assert!(is_newer(&store.delete(&a()).await, Use::Write));
    assert!(is_newer(&store.tidy().await, Use::Write));
    assert!(is_newer(&store.migrate().await, Use::Write));
    let outbox =
        client(server).await.execute(&format!("select {schema}.append_text('a', 'z')"), &[]).await.unwrap_err();
    assert_eq!(outbox.code().map(|code| code.code()), Some("TE001"));
    assert_eq!(store.health(), Health::ReadOnly);

    let page = store.read(&a(), Start::Earliest, Limit::default()).await.unwrap();
    assert_eq!((texts(&page.entries), page.head), (vec!["x", "y"], head));
    assert_eq!(store.heads(&[a()]).await.unwrap(), [head]);
    assert_eq!(store.channels("", None, 9).await.unwrap(), [(a(), head)]);
    // A node that starts now can serve readers.
    let late = PostgresStore::options().schema(&schema).connect(&server.url()).await.unwrap();
    assert_eq!(late.heads(&[a()]).await.unwrap(), [head]);

    raise(server, &schema, [3, 3, 3]).await;
    until("it can be written again, without any call", async || store.health() == Health::Ready).await;
    store.append(&a(), Append::new([Event::text("z")])).await.unwrap();
}

#[tokio::test]
async fn a_schema_that_only_newer_versions_may_read_is_left_alone() {
    let Some(server) = server::shared() else { return };
    let schema = fresh_schema();
    let store = store_in(server, &schema).await;
    let first = store.append(&a(), Append::new(["x", "y"].map(Event::text))).await.unwrap().entries[0].cursor;
    // So that its connections have the statements prepared.
    store.read(&a(), Start::After(first), Limit::default()).await.unwrap();
    raise(server, &schema, [9, 9, 9]).await;
    for start in [Start::Earliest, Start::After(first), Start::Latest] {
        let refused = store.read(&a(), start, Limit::default()).await;
        assert!(is_newer(&refused, Use::Read), "{refused:?}");
    }
    assert!(is_newer(&store.read(&Channel::new("b").unwrap(), Start::Latest, Limit::default()).await, Use::Read));
    assert!(is_newer(&store.heads(&[a()]).await, Use::Read));
    assert!(is_newer(&store.channels("", None, 9).await, Use::Read));
    assert!(is_newer(&store.append(&a(), Append::new([Event::text("z")])).await, Use::Write));
    assert_eq!(store.health(), Health::Unavailable);
    let refused = PostgresStore::options().schema(&schema).connect(&server.url()).await.unwrap_err();
    assert!(matches!(refused.kind(), OpenErrorKind::NewerFormat { stored: 9, supported: 3 }), "{refused:?}");
    let said = refused.to_string();
    assert!(said.contains("format 9") && said.contains("format 3"), "{said}");

    // Also when what its statements name no longer exists.
    let rename = format!("alter table {schema}.head rename to tip; drop function {schema}.read_page");
    client(server).await.batch_execute(&rename).await.unwrap();
    assert!(is_newer(&store.read(&a(), Start::After(first), Limit::default()).await, Use::Read));
    assert!(is_newer(&store.read(&a(), Start::Latest, Limit::default()).await, Use::Read));
    assert!(is_newer(&store.append(&a(), Append::new([Event::text("z")])).await, Use::Read));
}

/// Version 2 had one floor, one table for channels, and nothing that stopped older nodes.
#[tokio::test]
async fn a_schema_of_version_2_is_upgraded() {
    let Some(server) = server::shared() else { return };
    let schema = fresh_schema();
    let client = client(server).await;
    client.batch_execute(&include_str!("version2.sql").replace("version2", &schema)).await.unwrap();
    client
        .batch_execute(&format!(
            "create role {schema} login; grant usage on schema {schema} to {schema};
             grant usage on all sequences in schema {schema} to {schema};
             grant select, insert, update, delete on all tables in schema {schema} to {schema};
             create role {schema}_member login in role {schema}"
        ))
        .await
        .unwrap();
    // A node of version 2, with its statements prepared.
    let statements = [
        "update $S.channel ch set seq = ch.seq + 1 where ch.name = $1 and not ch.closed returning ch.seq",
        "select p.epoch, p.floor, c.name from $S.place p left join $S.channel c on c.name = any (array[$1])",
    ]
    .map(|sql| sql.replace("$S", &schema));
    let mut old = Vec::new();
    for sql in &statements {
        old.push(client.prepare(sql).await.unwrap());
    }
    client.query(&old[1], &[&"room"]).await.unwrap();

    let options = PostgresStore::options().schema(&schema).clock(Clock::new(|| 1_795_914_850_000));
    let store = options.clone().connect(&server.url()).await.unwrap();
    let refused = store.append(&a(), Append::new([Event::text("x")])).await.unwrap_err();
    assert!(matches!(&refused, StoreError::Unavailable(why) if why.to_string().contains("migrate")), "{refused:?}");
    store.migrate().await.unwrap();
    store.migrate().await.unwrap();

    let [room, closed, gone] = ["room", "closed", "gone"].map(|name| Channel::new(name).unwrap());
    let page = store.read(&room, Start::Earliest, Limit::default()).await.unwrap();
    assert_eq!(texts(&page.entries), ["one", "two", r#"{"n":3}"#]);
    assert_eq!((page.entries[0].cursor.seq, page.head.cursor.seq), (42, 44));
    assert!(store.heads(std::slice::from_ref(&closed)).await.unwrap()[0].closed);
    let again = store.append(&room, Append::new([Event::text("one").keyed("k1").unwrap()])).await.unwrap();
    assert!(again.receipts[0].duplicate);
    store.append(&room, Append::new([Event::text("four")])).await.unwrap();
    // The absent channel is where it was.
    let place = store.heads(std::slice::from_ref(&gone)).await.unwrap()[0].cursor;
    assert_eq!(place, Cursor { epoch: tower_events::cursor::epoch_of(0x0123_4567_89ab_cdef, &gone), seq: 42, tag: 0 });
    store.append(&gone, Append::new([Event::text("new")])).await.unwrap();
    let page = store.read(&gone, Start::After(place), Limit::default()).await.unwrap();
    assert_eq!((page.outcome, texts(&page.entries)), (Outcome::Continued, vec!["new"]));

    // Nodes of version 2 can no longer change anything or notify.
    for statement in &old {
        client.query(statement, &[&"room"]).await.expect_err("a statement of version 2");
    }
    for sql in &statements {
        client.query(sql, &[&"room"]).await.expect_err("a statement of version 2");
    }
    // Roles that could use the schema can still use it.
    let url = server.url().replace("postgres@", &format!("{schema}@"));
    let node = options.clone().connect(&url).await.unwrap();
    node.migrate().await.unwrap();
    node.append(&room, Append::new([Event::text("five")])).await.unwrap();
    node.delete(&closed).await.unwrap();
    node.tidy().await.unwrap();
    // Roles that could use it as members can do so as members, and no longer than that.
    let member = server.url().replace("postgres@", &format!("{schema}_member@"));
    options.connect(&member).await.unwrap().append(&room, Append::new([Event::text("six")])).await.unwrap();
    assert_eq!(direct_grants(&client, &schema).await, 0);
}

/// The privileges of the role that is only a member of another.
async fn direct_grants(client: &tokio_postgres::Client, schema: &str) -> i64 {
    let direct = format!(
        "select count(*) from (
            select relacl as acl from pg_class where relnamespace = '{schema}'::regnamespace
            union all select proacl from pg_proc where pronamespace = '{schema}'::regnamespace
         ) o, aclexplode(o.acl) a where a.grantee = '{schema}_member'::regrole"
    );
    client.query_one(&direct, &[]).await.unwrap().get(0)
}

/// An application's long transaction delays an upgrade, and nothing else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upgrade_that_has_to_wait_lets_others_work() {
    let Some(server) = server::shared() else { return };
    let schema = fresh_schema();
    let store = store_in(server, &schema).await;
    let mut holder = client(server).await;
    let transaction = holder.transaction().await.unwrap();
    transaction.execute(&format!("select {schema}.append_text('held', 'x')"), &[]).await.unwrap();
    raise(server, &schema, [2, 2, 2]).await;
    let upgrading = tokio::spawn({
        let store = store_in_own(server, &schema).await;
        async move { store.migrate().await }
    });
    let began = std::time::Instant::now();
    while began.elapsed() < Duration::from_secs(2) {
        store.append(&a(), Append::new([Event::text("x")])).await.unwrap();
    }
    assert!(!upgrading.is_finished());
    transaction.commit().await.unwrap();
    upgrading.await.unwrap().unwrap();
    store.append(&a(), Append::new([Event::text("x")])).await.unwrap();
}

async fn store_in_own(server: &Server, schema: &str) -> PostgresStore {
    PostgresStore::options().schema(schema).connections(1).connect(&server.url()).await.unwrap()
}
