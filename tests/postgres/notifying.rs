//! How nodes notify each other of appends: one connection that listens, and notifications that delay nothing.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use tokio::sync::mpsc::UnboundedReceiver;
use tokio_postgres::AsyncMessage;
use tower_events::{
    Channel, Cursor, Event, Store,
    store::{Append, Change, Limit, Start},
    stores::postgres::PostgresStore,
};

use super::{
    harness::{client, fresh_schema},
    proxy::Proxy,
    server::{self, Server},
    support::{Watch, a, store_in, texts, until},
};

/// The notifications in a schema, while the client is kept.
async fn listen(server: &Server, schema: &str) -> (tokio_postgres::Client, UnboundedReceiver<String>) {
    let (client, mut connection) =
        tokio_postgres::connect(&server.url(), tokio_postgres::NoTls).await.expect("a connection");
    let (said, hears) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Some(Ok(message)) = std::future::poll_fn(|cx| connection.poll_message(cx)).await {
            if let AsyncMessage::Notification(notification) = message {
                _ = said.send(notification.payload().to_owned());
            }
        }
    });
    client.batch_execute(&format!("listen {schema}")).await.unwrap();
    (client, hears)
}

/// If it is the node's only append, the notification is sent with the commit, so a node that dies right after has sent
/// it.
#[tokio::test]
async fn the_only_append_of_a_node_notifies_with_its_commit() {
    let Some(server) = server::shared() else { return };
    let schema = fresh_schema();
    let reader = store_in(server, &schema).await;
    let (_listener, mut hears) = listen(server, &schema).await;
    let plain = || Append::new([Event::text("plain")]);
    let keyed = Event::text("keyed").keyed("k").unwrap();
    let appends = [plain(), plain(), Append::new([keyed]), Append::new([Event::text("last")]).closing()];
    for append in appends {
        let store = store_in(server, &schema).await;
        let head = store.append(&a(), append).await.unwrap().head;
        // The notifications that it would have sent later are not sent.
        drop(store);
        let payload = tokio::time::timeout(Duration::from_secs(10), hears.recv()).await.expect("a word").unwrap();
        let line = payload.lines().nth(1).unwrap().to_owned();
        assert_eq!(line, format!("{}{}a", head.cursor, if head.closed { '!' } else { '.' }));
    }
    assert_eq!(reader.read(&a(), Start::Latest, Limit::POSITION).await.unwrap().head.cursor.seq, 4);
}

/// A transaction that notifies commits alone in the whole database, so appends must not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn notifications_are_off_the_write_path_and_few() {
    let Some(server) = server::shared() else { return };
    let schema = fresh_schema();
    let store = store_in(server, &schema).await;
    let (_listener, mut hears) = listen(server, &schema).await;
    let began = Instant::now();
    let mut appenders = tokio::task::JoinSet::new();
    for appender in 0..16 {
        let store = store.clone();
        appenders.spawn(async move {
            let channel = Channel::new(format!("channel {appender}")).unwrap();
            for n in 0..60 {
                store.append(&channel, Append::new([Event::text(n.to_string())])).await.unwrap();
            }
        });
    }
    appenders.join_all().await;
    // At most one per 5 ms, and every head is sent in the end.
    let most = began.elapsed().as_millis() as usize / 5 + 3;
    let (mut last, mut count) = (HashSet::new(), 0);
    while last.len() < 16 {
        let payload = tokio::time::timeout(Duration::from_secs(10), hears.recv()).await.expect("a word").unwrap();
        count += 1;
        let finals = payload
            .lines()
            .skip(1)
            .filter(|line| line.split_at(Cursor::TEXT_LEN).0.parse::<Cursor>().is_ok_and(|cursor| cursor.seq == 60));
        last.extend(finals.map(str::to_owned));
    }
    assert!(count <= most && count < 960 / 2, "{count} notifications for 960 appends, at most {most} expected");
}

/// A payload is shorter than 8 000 bytes, and 40 of the longest names exceed that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_long_names_at_once_fit_into_notifications() {
    let Some(server) = server::shared() else { return };
    let schema = fresh_schema();
    let (here, there) = (store_in(server, &schema).await, store_in(server, &schema).await);
    let mut watch = Watch::armed(&there).await;
    let names: Vec<_> = (0..150).map(|n| Channel::new(format!("{}{n:03}", "й".repeat(126))).unwrap()).collect();
    let mut appends = tokio::task::JoinSet::new();
    for name in names.clone() {
        let here = here.clone();
        appends.spawn(async move { here.append(&name, Append::new([Event::text("x")])).await.map(drop) });
    }
    assert!(appends.join_all().await.iter().all(Result::is_ok));
    let mut missing: HashSet<_> = names.into_iter().collect();
    watch
        .until("every channel", |change| {
            match change {
                Change::Head(channel, _) => _ = missing.remove(channel),
                Change::Resync => missing.clear(),
                Change::Entries(_) => panic!("events in a notification"),
            }
            missing.is_empty()
        })
        .await;
}

#[tokio::test]
async fn a_terminated_listener_listens_again_and_reports_a_gap() {
    let Some(server) = server::shared() else { return };
    let schema = fresh_schema();
    let (here, there) = (store_in(server, &schema).await, store_in(server, &schema).await);
    let (mut watch, client) = (Watch::armed(&there).await, client(server).await);
    for round in 1..=3 {
        let listeners = format!("select pg_terminate_backend(pid) from {}", listeners_of(&schema));
        assert_eq!(client.query(&listeners, &[]).await.unwrap().len(), 1, "one listener per store that is followed");
        here.append(&a(), Append::new([Event::text("missed, perhaps")])).await.unwrap();
        watch.until("a resync", |change| matches!(change, Change::Resync)).await;
        assert!(there.stats().listening);
        let head = here.append(&a(), Append::new([Event::text("heard")])).await.unwrap().head;
        watch.until("a head", |change| matches!(change, Change::Head(_, at) if *at == head)).await;
        assert_eq!(there.stats().reconnects, round);
    }
}

/// Neither end of a half-open connection is notified. The listener checks that it receives, so it detects this.
#[tokio::test]
async fn a_listener_that_receives_nothing_detects_it() {
    let Some(server) = server::shared() else { return };
    let schema = fresh_schema();
    let here = store_in(server, &schema).await;
    let proxy = Proxy::start(server.address()).await;
    // As behind a pooler, the listener takes another route than the appends: here through the proxy.
    let there = PostgresStore::options().schema(&schema).behind_pooler(server.url_at(proxy.address));
    let there = there.connect(&server.url()).await.unwrap();
    let mut watch = Watch::armed(&there).await;
    proxy.freeze();
    let head = here.append(&a(), Append::new([Event::text("not heard")])).await.unwrap().head;
    until("the listener detects it", async || !there.stats().listening).await;
    proxy.cut();
    proxy.thaw();
    watch.until("a resync", |change| matches!(change, Change::Resync)).await;
    assert_eq!(there.heads(&[a()]).await.unwrap(), [head]);
}

/// The connections whose last query says that they listen.
fn listeners_of(schema: &str) -> String {
    format!("pg_stat_activity where query like '%listen \"{schema}\"' and pid <> pg_backend_pid()")
}

/// No listener runs without watchers, and one serves all of them.
#[tokio::test]
async fn one_connection_listens_for_all_watchers_and_only_while_there_are_any() {
    let Some(server) = server::shared() else { return };
    let schema = fresh_schema();
    let (store, client) = (store_in(server, &schema).await, client(server).await);
    let listeners = async || {
        let count = format!("select count(*) from {}", listeners_of(&schema));
        client.query_one(&count, &[]).await.unwrap().get::<_, i64>(0)
    };
    assert_eq!(listeners().await, 0);
    let watches = [Watch::armed(&store).await, Watch::armed(&store).await, Watch::armed(&store).await];
    assert_eq!(listeners().await, 1);
    drop(watches);
    until("the listener is gone", async || listeners().await == 0).await;
    let _again = Watch::armed(&store).await;
    assert_eq!(listeners().await, 1);
}

/// If it is the only append, the notification is sent in its transaction, and so both could fail.
#[tokio::test]
async fn a_role_that_may_not_notify_can_append() {
    let Some(server) = Server::start() else { return };
    let owner = store_in(&server, "tower_events").await;
    let client = client(&server).await;
    client
        .batch_execute(
            "revoke execute on function pg_notify from public; create role mute login; grant usage on schema tower_events
             to mute; grant all on all sequences in schema tower_events to mute; grant all on all tables in schema
             tower_events to mute",
        )
        .await
        .unwrap();
    let url = server.url().replace("postgres@", "mute@");
    let mute = PostgresStore::options().schema("tower_events").connect(&url).await.unwrap();
    for n in 0..3 {
        for event in [Event::text(n.to_string()), Event::text("keyed").keyed(n.to_string()).unwrap()] {
            mute.append(&a(), Append::new([event])).await.unwrap();
        }
    }
    let page = owner.read(&a(), Start::Earliest, Limit::default()).await.unwrap();
    assert_eq!(texts(&page.entries), ["0", "keyed", "1", "keyed", "2", "keyed"]);
}
