//! The format of what is stored: nodes of several versions on one server, and places of the first version.

use std::time::Duration;

use tower_events::{
    Event, RedisStore, Retention, Store, StoreError,
    store::{Append, Expect, Health, Limit, OpenErrorKind, Outcome, Start, Use},
};

use super::{
    load::{channel, node},
    server::Server,
    support::{server, text, until},
};

const PLACE: &str = "{tower-events}:place";

async fn set_format(server: &Server, format: &str) {
    server.command(&["HSET", PLACE, "format", format]).await;
}

fn is_refused<T: std::fmt::Debug>(result: Result<T, StoreError>, what: Use) {
    let refused = matches!(result, Err(StoreError::NewerFormat { stored: 3, supported: 2, denied }) if denied == what);
    assert!(refused, "{what}: {result:?}");
}

async fn write_all(store: &RedisStore, refused: Use) {
    is_refused(store.append(&channel("a"), text("x")).await, refused);
    is_refused(store.append(&channel("b"), Append::new([]).closing()).await, refused);
    is_refused(store.init(&channel("a"), vec![Event::text("x")], Expect::Any).await, refused);
    is_refused(store.delete(&channel("a")).await, refused);
}

#[tokio::test]
async fn a_format_that_may_not_be_read_is_refused_with_both_versions() {
    let server = server!();
    let store = node(&server.url()).await;
    let appended = store.append(&channel("a"), text("x")).await.unwrap();
    let before = server.command(&["HGET", PLACE, "c:a"]).await;
    set_format(&server, "3 3 3").await;
    write_all(&store, Use::Read).await;
    is_refused(store.read(&channel("a"), Start::Earliest, Limit::default()).await, Use::Read);
    is_refused(store.heads(&[channel("a")]).await, Use::Read);
    is_refused(store.channels("", None, 10).await, Use::Read);
    let refused = RedisStore::connect(&server.url()).await.unwrap_err();
    assert!(matches!(refused.kind(), OpenErrorKind::NewerFormat { stored: 3, supported: 2 }), "{refused}");
    assert!(refused.to_string().contains("format 3") && refused.to_string().contains("format 2"), "{refused}");
    assert_eq!(server.command(&["HGET", PLACE, "c:a"]).await, before);
    set_format(&server, "2 2 2").await;
    let page = store.read(&channel("a"), Start::Earliest, Limit::default()).await.unwrap();
    assert_eq!(page.entries, appended.entries);
    store.append(&channel("a"), text("y")).await.unwrap();
}

#[tokio::test]
async fn a_format_that_may_only_be_read_is_not_written_and_health_reports_it() {
    let server = server!();
    let store = node(&server.url()).await;
    let appended = store.append(&channel("a"), text("x")).await.unwrap();
    set_format(&server, "3 2 3").await;
    write_all(&store, Use::Write).await;
    assert_eq!(store.health(), Health::ReadOnly);
    for store in [&store, &node(&server.url()).await] {
        let page = store.read(&channel("a"), Start::Earliest, Limit::default()).await.unwrap();
        assert_eq!(page.entries, appended.entries);
        assert_eq!(store.heads(&[channel("a")]).await.unwrap(), [appended.head]);
        assert_eq!(store.channels("", None, 10).await.unwrap(), [(channel("a"), appended.head)]);
    }
    set_format(&server, "2 2 2").await;
    until("health recovers", Duration::from_secs(10), async || store.health() == Health::Ready).await;
}

#[tokio::test]
async fn a_newer_format_that_admits_this_version_is_used_alongside_newer_nodes() {
    let server = server!();
    let store = node(&server.url()).await;
    set_format(&server, "3 1 2").await;
    let appended = store.append(&channel("a"), text("x")).await.unwrap();
    let other = node(&server.url()).await;
    assert_eq!(other.heads(&[channel("a")]).await.unwrap(), [appended.head]);
    assert!(server.command(&["HGET", PLACE, "format"]).await.contains("3 1 2"), "the format is not lowered");
}

/// Nodes of 0.1 know one floor, no format and no list of names.
#[tokio::test]
async fn a_place_of_the_first_format_is_upgraded_and_its_cursors_continue() {
    let server = server!();
    let store = node(&server.url()).await;
    let mut cursors = Vec::new();
    for name in ["a", "b", "gone"] {
        cursors.push(store.append(&channel(name), text("1")).await.unwrap().head.cursor);
    }
    store.delete(&channel("gone")).await.unwrap();
    let old = "local place = KEYS[1]
        local epoch = redis.call('HGET', place, 'epoch')
        redis.call('HSET', place, 'epoch', string.sub(epoch, 3), 'floor', '70000')
        for _, field in ipairs(redis.call('HKEYS', place)) do
          if string.sub(field, 1, 2) == 'f:' then redis.call('HDEL', place, field) end
        end
        redis.call('HDEL', place, 'format', 'keep')
        return redis.call('DEL', '{tower-events}:names')";
    assert!(server.command(&["EVAL", old, "1", PLACE]).await.starts_with(":1"));
    // A node that is running, and a new one.
    for store in [&store, &node(&server.url()).await] {
        for (name, cursor) in [("a", cursors[0]), ("b", cursors[1])] {
            let page = store.read(&channel(name), Start::After(cursor), Limit::default()).await.unwrap();
            assert_eq!((page.outcome, page.head.cursor), (Outcome::Continued, cursor));
        }
        assert_eq!(store.heads(&[channel("gone")]).await.unwrap()[0].cursor.seq, 70_000);
    }
    store.append(&channel("a"), text("2")).await.unwrap();
    assert!(server.command(&["HGET", PLACE, "format"]).await.contains("2 2 2"));
    let epoch = server.command(&["HGET", PLACE, "epoch"]).await;
    assert!(epoch.starts_with("$18\r\n2."), "an older node can parse {epoch}");
    let names = async || store.channels("", None, 10).await.unwrap().into_iter().map(|(name, _)| name);
    let is_listed = async || names().await.eq([channel("a"), channel("b")]);
    until("the channels are listed", Duration::from_secs(20), is_listed).await;
}

/// An empty page means the end.
#[tokio::test]
async fn channels_are_listed_completely_at_once_when_no_names_were_stored() {
    let server = server!();
    let store = node(&server.url()).await;
    for n in 0..300 {
        store.append(&channel(&format!("room {n}")), text("x")).await.unwrap();
    }
    for connects in [true, false] {
        server.command(&["DEL", "{tower-events}:names"]).await;
        let store =
            if connects { node(&server.url()).await } else { RedisStore::options().open(&server.url()).unwrap() };
        assert_eq!(store.channels("", None, 1000).await.unwrap().len(), 300);
        assert_eq!(store.channels("none", None, 1000).await.unwrap().len(), 0);
    }
}

/// The list of names can be evicted like any key.
#[tokio::test]
async fn a_lost_list_of_names_is_rebuilt() {
    let server = server!();
    let keep = Retention::default().age(Duration::from_secs(16));
    let store = RedisStore::options().retention(keep).connect(&server.url()).await.unwrap();
    for n in 0..300 {
        store.append(&channel(&format!("room {n}")), text("x")).await.unwrap();
    }
    server.command(&["DEL", "{tower-events}:names"]).await;
    let all = async || {
        // Appends start the janitor.
        store.append(&channel("room 0"), text("x")).await.unwrap();
        store.channels("room ", None, 1000).await.unwrap().len() == 300
    };
    until("all are listed", Duration::from_secs(30), all).await;
    server.command(&["HSET", PLACE, "c:room 5", "garbage"]).await;
    assert_eq!(store.channels("room ", None, 1000).await.unwrap().len(), 299);
}
