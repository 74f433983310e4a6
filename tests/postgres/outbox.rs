//! The SQL function that appends in the caller's own transaction.

use std::time::Duration;

use tokio::time::timeout;
use tower_events::{
    Channel, Cursor, Data, Delivery, Event, Hub, HubOptions, Snapshots, Store, StoreError, Subscription,
    store::{Append, Limit, Outcome, Start},
    stores::postgres::PostgresStore,
};

use super::{
    harness::{client, fresh_schema},
    server,
    support::{a, store_in, texts, until},
};

#[tokio::test]
async fn a_message_and_its_event_commit_together() {
    let Some(server) = server::shared() else { return };
    let schema = fresh_schema();
    let store = store_in(server, &schema).await;
    let mut client = client(server).await;
    client.batch_execute(&format!("create table {schema}.message (text text)")).await.unwrap();
    let start = store.read(&a(), Start::Latest, Limit::POSITION).await.unwrap().next;

    let lost = client.transaction().await.unwrap();
    write(&lost, &schema, "rolled back").await;
    lost.rollback().await.unwrap();
    let page = store.read(&a(), Start::After(start), Limit::default()).await.unwrap();
    assert_eq!((page.outcome, page.entries.len(), page.next), (Outcome::Continued, 0, start));

    let kept = client.transaction().await.unwrap();
    let cursor = write(&kept, &schema, "committed").await;
    assert!(store.read(&a(), Start::After(start), Limit::default()).await.unwrap().entries.is_empty());
    kept.commit().await.unwrap();
    let page = store.read(&a(), Start::After(start), Limit::default()).await.unwrap();
    assert_eq!(texts(&page.entries), ["committed"]);
    assert_eq!(page.next, cursor);
    assert_eq!(page.next.seq, start.seq + 1, "a rollback leaves no gap");
    let messages = client.query_one(&format!("select count(*) from {schema}.message"), &[]).await.unwrap();
    assert_eq!(messages.get::<_, i64>(0), 1);
}

async fn write(transaction: &tokio_postgres::Transaction<'_>, schema: &str, text: &str) -> Cursor {
    transaction.execute(&format!("insert into {schema}.message values ($1)"), &[&text]).await.unwrap();
    let row = transaction.query_one(&format!("select {schema}.append_text('a', $1)"), &[&text]).await.unwrap();
    row.get::<_, String>(0).parse().expect("the text of a cursor")
}

/// The problem of ids from a sequence, which a counter row does not have.
#[tokio::test]
async fn readers_skip_what_commits_late_with_a_sequence_but_not_with_a_counter_row() {
    let Some(server) = server::shared() else { return };
    let schema = fresh_schema();
    let store = store_in(server, &schema).await;
    let (mut slow, quick) = (client(server).await, client(server).await);

    // With a sequence: the slow transaction draws 1, the fast one draws 2 and commits, and the reader continues from 2.
    quick.batch_execute(&format!("create table {schema}.naive (id bigserial, text text)")).await.unwrap();
    let insert = format!("insert into {schema}.naive (text) values ($1)");
    let transaction = slow.transaction().await.unwrap();
    transaction.execute(&insert, &[&"slow"]).await.unwrap();
    quick.execute(&insert, &[&"quick"]).await.unwrap();
    let after = |id: i64| format!("select id, text from {schema}.naive where id > {id} order by id");
    let seen = quick.query_one(&after(0), &[]).await.unwrap();
    assert_eq!(seen.get::<_, &str>(1), "quick");
    transaction.commit().await.unwrap();
    let rest = quick.query(&after(seen.get(0)), &[]).await.unwrap();
    assert!(rest.is_empty(), "the naive reader was expected to miss the slow event");

    // With a counter row: the fast append waits for the slow one, and the reader sees both in order.
    let mut next = store.read(&a(), Start::Latest, Limit::POSITION).await.unwrap().next;
    let transaction = slow.transaction().await.unwrap();
    transaction.execute(&format!("select {schema}.append_text('a', 'slow')"), &[]).await.unwrap();
    let waiting = tokio::spawn({
        let store = store.clone();
        async move { store.append(&a(), Append::new([Event::text("quick")])).await.map(drop) }
    });
    until("the fast append waits for the row", async || {
        let waits = "select 1 from pg_locks where not granted and locktype in ('transactionid', 'tuple')";
        !quick.query(waits, &[]).await.unwrap().is_empty()
    })
    .await;
    let page = store.read(&a(), Start::After(next), Limit::default()).await.unwrap();
    assert!(page.entries.is_empty() && page.outcome == Outcome::Continued);
    next = page.next;
    transaction.commit().await.unwrap();
    waiting.await.unwrap().unwrap();
    let page = store.read(&a(), Start::After(next), Limit::default()).await.unwrap();
    assert_eq!(texts(&page.entries), ["slow", "quick"]);
    assert_eq!(page.outcome, Outcome::Continued);
}

#[tokio::test]
async fn a_locked_channel_fails_in_time_without_effect() {
    let Some(server) = server::shared() else { return };
    let schema = fresh_schema();
    let call_timeout = Duration::from_secs(2);
    let options = PostgresStore::options().schema(&schema).timeout(call_timeout);
    let store = options.connect(&server.url()).await.unwrap();
    store.migrate().await.unwrap();
    let mut holder = client(server).await;
    let transaction = holder.transaction().await.unwrap();
    transaction.execute(&format!("select {schema}.append_text('a', 'held')"), &[]).await.unwrap();
    let append = Append::new([Event::text("refused")]);
    let refused = timeout(call_timeout * 3, store.append(&a(), append)).await.expect("it ends in time");
    assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
    // Other channels are not delayed.
    store.append(&Channel::new("b").unwrap(), Append::new([Event::text("b")])).await.unwrap();
    transaction.commit().await.unwrap();
    store.append(&a(), Append::new([Event::text("later")])).await.unwrap();
    let page = store.read(&a(), Start::Earliest, Limit::default()).await.unwrap();
    assert_eq!(texts(&page.entries), ["held", "later"]);
}

#[tokio::test]
async fn events_arrive_as_the_store_would_have_written_them() {
    let Some(server) = server::shared() else { return };
    let schema = fresh_schema();
    let store = store_in(server, &schema).await;
    let client = client(server).await;
    let call = |arguments: &str| format!("select {schema}.append({arguments})");
    let first =
        client.query_one(&call(r#"'чат', '{"a": "b, c", "n": [1, 2]}', 'message', 5, 'k'"#), &[]).await.unwrap();
    // `jsonb` has an order of its own.
    let again =
        client.query_one(&call(r#"'чат', '{"n": [1, 2], "a": "b, c"}', 'message', 5, 'k'"#), &[]).await.unwrap();
    assert_eq!(first.get::<_, String>(0), again.get::<_, String>(0), "the cursor of the first event with the key");
    client.query_one(&call(r#"'чат', '"a\nb"', notify => false"#), &[]).await.unwrap();

    let channel = Channel::new("чат").unwrap();
    let duplicate = Event::new(Data::from_json(r#"{"a":"b, c","n":[1,2]}"#).unwrap());
    let duplicate = Append::new([duplicate.named("message").unwrap().at(5).unwrap().keyed("k").unwrap()]);
    let duplicate = store.append(&channel, duplicate).await.unwrap();
    assert!(duplicate.receipts[0].duplicate, "keys are shared with the store");
    let page = store.read(&channel, Start::Earliest, Limit::default()).await.unwrap();
    assert_eq!(texts(&page.entries), [r#"{"a":"b, c","n":[1,2]}"#, "a\nb"]);
    assert_eq!(page.entries[0].name.as_ref().unwrap().as_str(), "message");
    assert_eq!(page.entries[0].time, 5);
    assert_eq!(page.entries[1].data.as_text(), Some("a\nb"));
    assert_eq!(page.entries[1].time, page.entries[1].appended);
}

#[tokio::test]
async fn what_no_reader_could_parse_is_refused() {
    let Some(server) = server::shared() else { return };
    let schema = fresh_schema();
    let store = store_in(server, &schema).await;
    store.append(&Channel::new("closed").unwrap(), Append::new([]).closing()).await.unwrap();
    let client = client(server).await;
    let long = "x".repeat(256);
    for (arguments, code) in [
        ("'', '1'", "22023"),
        ("null, '1'", "22023"),
        (&*format!("'{long}', '1'"), "22023"),
        (r"E'a\nb', '1'", "22023"),
        (r"E'a\u0085b', '1'", "22023"),
        ("'a', null", "22004"),
        ("'a', '1', 'stream-reset'", "22023"),
        ("'a', '1', ''", "22023"),
        ("'a', '1', 'error'", "22023"),
        ("'a', '1', 'open'", "22023"),
        (r"'a', '1', E'a\rb'", "22023"),
        ("'a', '1', null, -1", "22003"),
        ("'a', '1', null, 8640000000000001", "22003"),
        (&*format!("'a', '1', key => '{long}'"), "22023"),
        ("'closed', '1'", "55000"),
    ] {
        let error = client.execute(&format!("select {schema}.append({arguments})"), &[]).await.expect_err(arguments);
        assert_eq!(error.code().map(|code| code.code()), Some(code), "{arguments}: {error:?}");
    }
    assert!(store.read(&a(), Start::Earliest, Limit::default()).await.unwrap().entries.is_empty());
}

/// Hints of the outbox are sent with the commit; without them, comparing heads finds the event.
#[tokio::test]
async fn subscribers_receive_it_with_and_without_a_notification() {
    let Some(server) = server::shared() else { return };
    let schema = fresh_schema();
    let client = client(server).await;
    for (notify, check_every) in [(true, Duration::from_secs(600)), (false, Duration::from_millis(200))] {
        let store = store_in(server, &schema).await;
        let hub = Hub::with_options(store.clone(), HubOptions::default().check_every(check_every));
        let mut subscriber = hub.subscribe(Subscription::new(a())).await.unwrap();
        until("the listener receives", async || store.stats().listening).await;
        client.execute(&format!("select {schema}.append_text('a', 'x', notify => {notify})"), &[]).await.unwrap();
        let delivery = timeout(Duration::from_secs(20), subscriber.next()).await.expect("a delivery");
        drop(delivery.unwrap().unwrap());
    }
}

/// The function computes the same fingerprint as the crate, for text and for compact JSON.
#[tokio::test]
async fn a_key_stands_for_the_same_event_in_sql_and_here() {
    let Some(server) = server::shared() else { return };
    let schema = fresh_schema();
    let store = store_in(server, &schema).await;
    let client = client(server).await;
    let json = |json: &str| Event::new(Data::from_json(json).unwrap());
    let time = 1_732_094_400_123;
    let events = [
        (Event::text("é, \": x"), "append_text('a', 'é, \": x', key => $1)"),
        (
            Event::text("x").named("n").unwrap().at(time).unwrap(),
            "append_text('a', 'x', 'n', 1732094400123, key => $1)",
        ),
        (
            json(r#"{"a":[1,2],"b":"c: d, e\\\" f: g"}"#),
            r#"append('a', '{"a": [1, 2], "b": "c: d, e\\\" f: g"}', key => $1)"#,
        ),
        (json("null"), "append('a', 'null', key => $1)"),
        (Event::text("s: t"), "append('a', '\"s: t\"', key => $1)"),
    ];
    for (nth, (event, call)) in events.into_iter().enumerate() {
        let key = format!("k{nth}");
        let sql = format!("select {schema}.{call}");
        let cursor: String = client.query_one(&sql, &[&key]).await.unwrap().get(0);
        let keyed = Append::new([event.keyed(&key).unwrap()]);
        let again = store.append(&a(), keyed).await.unwrap_or_else(|error| panic!("{call}: {error}"));
        assert_eq!(
            (again.receipts[0].duplicate, again.receipts[0].cursor.to_string()),
            (true, cursor.clone()),
            "{call}"
        );
        assert_eq!(client.query_one(&sql, &[&key]).await.unwrap().get::<_, String>(0), cursor);
        let other = format!("select {schema}.append_text('a', 'other', key => $1)");
        let refused = client.query_one(&other, &[&key]).await.unwrap_err();
        assert_eq!(refused.code().map(|code| code.code()), Some("23505"), "{refused:?}");
    }
}

/// A snapshot and the position that it includes, from one query; a reader that continues from there misses nothing.
#[tokio::test]
async fn a_snapshot_and_its_position_come_from_one_query() {
    let Some(server) = server::shared() else { return };
    let schema = fresh_schema();
    let store = store_in(server, &schema).await;
    let mut client = client(server).await;
    let position = format!("select {schema}.position('a')");
    let at = |row: tokio_postgres::Row| row.get::<_, String>(0).parse::<Cursor>().unwrap();
    let absent = at(client.query_one(&position, &[]).await.unwrap());
    assert_eq!(absent, store.heads(&[a()]).await.unwrap()[0].cursor);
    let first = store.append(&a(), Append::new(["1", "2"].map(Event::text))).await.unwrap().head.cursor;
    assert_eq!(at(client.query_one(&position, &[]).await.unwrap()), first);

    // Within the transaction of the snapshot, the position is as old as the snapshot.
    let level = tokio_postgres::IsolationLevel::RepeatableRead;
    let transaction = client.build_transaction().isolation_level(level).read_only(true).start().await.unwrap();
    let count = format!("select count(*) from {schema}.entry");
    assert_eq!(transaction.query_one(&count, &[]).await.unwrap().get::<_, i64>(0), 2);
    store.append(&a(), Append::new([Event::text("3")])).await.unwrap();
    assert_eq!(at(transaction.query_one(&position, &[]).await.unwrap()), first);
    transaction.commit().await.unwrap();
    let page = store.read(&a(), Start::After(first), Limit::default()).await.unwrap();
    assert_eq!((page.outcome, texts(&page.entries)), (Outcome::Continued, vec!["3"]));
    store.delete(&a()).await.unwrap();
    assert_eq!(at(client.query_one(&position, &[]).await.unwrap()), store.heads(&[a()]).await.unwrap()[0].cursor);
    let refused = client.query_one(&format!("select {schema}.position('')"), &[]).await.unwrap_err();
    assert_eq!(refused.code().map(|code| code.code()), Some("22023"));
}

/// With `usage` on the schema and `execute` on the functions, and without interference from the caller's `search_path`.
#[tokio::test]
async fn a_role_without_privileges_on_the_tables_can_use_the_outbox_once_it_is_allowed_to() {
    let Some(server) = server::shared() else { return };
    let schema = fresh_schema();
    let store = store_in(server, &schema).await;
    let owner = client(server).await;
    owner
        .batch_execute(&format!(
            "create role {schema} login; grant usage on schema {schema} to {schema};
             create schema {schema}_own authorization {schema}"
        ))
        .await
        .unwrap();
    let url = server.url().replace("postgres@", &format!("{schema}@"));
    let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    let calls = [
        format!("select {schema}.append('a', '1', key => 'k')"),
        format!("select {schema}.append_text('a', 'x')"),
        format!("select {schema}.position('a')"),
    ];
    for call in &calls {
        let refused = client.query_one(call, &[]).await.expect_err(call);
        assert_eq!(refused.code().map(|code| code.code()), Some("42501"), "{call}: {refused:?}");
    }
    let grant =
        format!("grant execute on function {schema}.append, {schema}.append_text, {schema}.position to {schema}");
    owner.batch_execute(&grant).await.unwrap();
    // Functions that shadow those of the server would run with the owner's privileges.
    client
        .batch_execute(&format!(
            "create function {schema}_own.octet_length(bytea) returns integer language plpgsql as
                $$ begin raise exception 'as %', current_user; end $$;
             create function {schema}_own.convert_to(text, text) returns bytea language plpgsql as
                $$ begin if current_user <> '{schema}' then raise exception 'as %', current_user; end if;
                return pg_catalog.convert_to($1, $2::name); end $$;
             set search_path = {schema}_own, pg_catalog"
        ))
        .await
        .unwrap();
    for call in &calls {
        client.query_one(call, &[]).await.expect(call);
    }
    let page = store.read(&a(), Start::Earliest, Limit::default()).await.unwrap();
    assert_eq!(texts(&page.entries), ["1", "x"]);
    let tables = client.query_one(&format!("select count(*) from {schema}.entry"), &[]).await.unwrap_err();
    assert_eq!(tables.code().map(|code| code.code()), Some("42501"));
}

/// A role of the outbox can write only through functions that validate the data, even if it may call every function.
#[tokio::test]
async fn a_role_of_the_outbox_can_write_nothing_that_readers_cannot_parse() {
    let Some(server) = server::shared() else { return };
    let schema = fresh_schema();
    let store = store_in(server, &schema).await;
    let owner = client(server).await;
    let may_call = |role: &'static str, function: &str| {
        let sql = format!("select has_function_privilege('{role}', '{schema}.{function}', 'execute')");
        let owner = &owner;
        async move { owner.query_one(&sql, &[]).await.unwrap().get::<_, bool>(0) }
    };
    for function in ["append_data(text, bytea, boolean, text, bigint, text, boolean)", "compact(jsonb)"] {
        assert!(!may_call("pg_monitor", function).await, "{function}");
    }
    let grants = format!(
        "create role {schema} login; grant usage on schema {schema} to {schema};
         grant execute on all functions in schema {schema} to {schema}"
    );
    owner.batch_execute(&grants).await.unwrap();
    let url = server.url().replace("postgres@", &format!("{schema}@"));
    let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    for data in [r"'\xff', true", "'nonsense', false"] {
        let call = format!("select {schema}.append_data('a', {data}, null, null, null, false)");
        let refused = client.query_one(&call, &[]).await.expect_err(data);
        assert_eq!(refused.code().map(|code| code.code()), Some("42501"), "{data}: {refused:?}");
    }
    client.query_one(&format!("select {schema}.append('a', '[1]')"), &[]).await.unwrap();
    let page = store.read(&a(), Start::Earliest, Limit::default()).await.unwrap();
    assert_eq!(texts(&page.entries), ["[1]"]);
}

#[tokio::test]
async fn a_snapshot_and_its_position_are_read_in_one_statement() {
    let Some(server) = server::shared() else { return };
    let schema = fresh_schema();
    let store = store_in(server, &schema).await;
    let (mut writer, reader) = (client(server).await, client(server).await);
    writer.batch_execute(&format!("create table {schema}.message (text text)")).await.unwrap();
    let first = writer.transaction().await.unwrap();
    let committed = write(&first, &schema, "committed").await;
    first.commit().await.unwrap();
    // Neither the message nor its event is visible, although both exist.
    let open = writer.transaction().await.unwrap();
    let uncommitted = write(&open, &schema, "uncommitted").await;

    let sql = format!("select {schema}.position($1), (select string_agg(text, ',') from {schema}.message)");
    let (reader, sql) = (std::sync::Arc::new(reader), std::sync::Arc::new(sql));
    let snapshots = Snapshots::with_positions(move |request| {
        let (reader, sql) = (reader.clone(), sql.clone());
        async move {
            let row = reader.query_one(&*sql, &[&request.channel.as_str()]).await?;
            let position: Cursor = row.get::<_, String>(0).parse()?;
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>((Event::text(row.get::<_, String>(1)), position))
        }
    });
    let hub = Hub::new(store);
    let mut subscriber = hub.subscribe(Subscription::new(a()).snapshots(snapshots)).await.unwrap();
    let Some(Ok(Delivery::Snapshot(snapshot))) = subscriber.next().await else { panic!("a snapshot") };
    assert_eq!((snapshot.cursor(), snapshot.entry().data.as_text()), (committed, Some("committed")));
    open.commit().await.unwrap();
    let Some(Ok(Delivery::Events(events))) = subscriber.next().await else { panic!("an event") };
    assert_eq!((events.len(), events.next()), (1, uncommitted));
}
