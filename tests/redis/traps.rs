//! Behaviour of Redis that is unexpected for a log: each known trap, and how the store handles it.

use std::{
    pin::pin,
    time::{Duration, Instant},
};

use tower_events::{
    Event, RedisStore, Retention, Store, StoreError,
    store::{Append, Change, Limit, OpenErrorKind, Outcome, Reason, Start},
};

use super::{
    load::{channel, node, url},
    support::{hint_of, next, server, text},
    wire::Wire,
};

/// By default the driver gives up on any reply after 500 ms; a connection that listens has to wait for ever.
#[tokio::test]
async fn the_listener_outlives_the_drivers_default_timeout() {
    let server = server!();
    let wire = Wire::to(server.addr()).await;
    let store = node(&url(&wire)).await;
    let mut changes = pin!(store.changes());
    assert!(matches!(next(&mut changes).await, Change::Resync));
    store.append(&channel("a"), text("1")).await.unwrap();
    hint_of(&mut changes, "a").await;
    let before = wire.accepted();
    tokio::time::sleep(Duration::from_millis(1500)).await;
    store.append(&channel("a"), text("2")).await.unwrap();
    assert!(matches!(next(&mut changes).await, Change::Entries(_)), "no resync: the connection is the same");
    assert_eq!(wire.accepted(), before);
}

/// A channel is followed without reconnecting or sending a request to the server.
#[tokio::test]
async fn a_new_channel_is_received_at_once_on_the_one_connection() {
    let server = server!();
    let (store, other) = (node(&server.url()).await, node(&server.url()).await);
    let (mut changes, mut again) = (pin!(store.changes()), pin!(store.changes()));
    for changes in [&mut changes, &mut again] {
        assert!(matches!(next(changes).await, Change::Resync));
    }
    let listening = server.command(&["CLIENT", "LIST", "TYPE", "pubsub"]).await;
    assert_eq!(listening.matches("id=").count(), 1, "{listening}");
    for name in ["a", "b c", "d:{e}", "чат"] {
        other.append(&channel(name), text("x")).await.unwrap();
        hint_of(&mut changes, name).await;
        hint_of(&mut again, name).await;
    }
    let still = server.command(&["CLIENT", "LIST", "TYPE", "pubsub"]).await;
    let id = |clients: &str| clients.split(['\n', ' ']).nth(1).map(str::to_owned);
    assert_eq!(id(&still), id(&listening));
}

/// `XTRIM` leaves `max-deleted-entry-id` unset, and a read from a trimmed id returns the next survivor.
#[tokio::test]
async fn trimming_is_reported_though_redis_forgets_it() {
    let server = server!();
    let store = RedisStore::options().retention(Retention::default().events(10)).connect(&server.url()).await.unwrap();
    let first = store.append(&channel("a"), text("first")).await.unwrap().head.cursor;
    for _ in 0..50 {
        store.append(&channel("a"), text("more")).await.unwrap();
    }
    let stream = server.command(&["XINFO", "STREAM", "{tower-events}:log:a"]).await;
    assert!(stream.contains("max-deleted-entry-id\r\n$3\r\n0-0"), "{stream}");
    let page = store.read(&channel("a"), Start::After(first), Limit::default()).await.unwrap();
    assert_eq!(page.outcome, Outcome::Reset(Reason::Trimmed));
    assert_eq!(page.entries[0].prev(), page.from);
}

/// In Redis, a deleted log starts its ids anew; here `seq` continues, and the loss is reported.
#[tokio::test]
async fn a_deleted_log_continues_above_and_the_loss_is_reported() {
    let server = server!();
    let store = node(&server.url()).await;
    let entries = store.append(&channel("a"), Append::new((0..5).map(|n| Event::text(n.to_string())))).await.unwrap();
    server.command(&["DEL", "{tower-events}:log:a"]).await;
    let cursors: Vec<_> = entries.entries.iter().map(|entry| entry.cursor).collect();
    for appended in 0..3 {
        for (nth, cursor) in cursors.iter().enumerate() {
            let page = store.read(&channel("a"), Start::After(*cursor), Limit::default()).await.unwrap();
            let expected = if nth == 4 { Outcome::Continued } else { Outcome::Reset(Reason::Trimmed) };
            assert_eq!((page.outcome, page.entries.len()), (expected, appended));
        }
        let page = store.read(&channel("a"), Start::Time(0), Limit::default()).await.unwrap();
        assert_eq!(page.outcome, Outcome::Reset(Reason::Trimmed));
        let head = store.append(&channel("a"), text("after")).await.unwrap().head;
        assert_eq!(head.cursor.seq, 6 + appended as u64);
    }
}

/// If an older log is restored under a newer record, entries that do not match the record are not served.
#[tokio::test]
async fn another_log_under_the_record_is_not_served() {
    let server = server!();
    let store = node(&server.url()).await;
    let first = store.append(&channel("a"), Append::new((0..5).map(|n| Event::text(n.to_string())))).await.unwrap();
    server.command(&["COPY", "{tower-events}:log:a", "old"]).await;
    store.delete(&channel("a")).await.unwrap();
    let second = store.append(&channel("a"), text("new")).await.unwrap();
    server.command(&["COPY", "old", "{tower-events}:log:a", "REPLACE"]).await;
    for cursor in [first.entries[0].cursor, first.head.cursor] {
        let page = store.read(&channel("a"), Start::After(cursor), Limit::default()).await.unwrap();
        assert!(page.outcome != Outcome::Continued && page.entries.is_empty(), "{page:?}");
    }
    let third = store.append(&channel("a"), text("newer")).await.unwrap();
    let page = store.read(&channel("a"), Start::After(second.head.cursor), Limit::default()).await.unwrap();
    assert_eq!((page.outcome, page.entries), (Outcome::Continued, third.entries));
}

/// The cursor of an absent channel never becomes valid again after the place was lost, alone or with everything else.
#[tokio::test]
async fn a_lost_place_is_another_place() {
    let server = server!();
    let store = node(&server.url()).await;
    for loss in [&["FLUSHALL"][..], &["DEL", "{tower-events}:place"]] {
        let absent = store.read(&channel("a"), Start::Latest, Limit::POSITION).await.unwrap().next;
        let appended =
            store.append(&channel("a"), Append::new((0..5).map(|n| Event::text(n.to_string())))).await.unwrap();
        let watched = [absent, appended.entries[2].cursor, appended.head.cursor];
        server.command(loss).await;
        for appended in 0..3 {
            for cursor in watched {
                let page = store.read(&channel("a"), Start::After(cursor), Limit::default()).await.unwrap();
                assert_eq!(page.outcome, Outcome::Reset(Reason::EpochChanged));
                assert_eq!(page.entries.len(), appended);
            }
            store.append(&channel("a"), text("new")).await.unwrap();
        }
        store.delete(&channel("a")).await.unwrap();
    }
}

/// Reading and following leave nothing behind but the place itself.
#[tokio::test]
async fn reading_stores_nothing() {
    let server = server!();
    let store = node(&server.url()).await;
    for n in 0..50 {
        let name = channel(&n.to_string());
        store.read(&name, Start::Earliest, Limit::default()).await.unwrap();
        store.append(&name, Append::new([])).await.unwrap();
        store.delete(&name).await.unwrap();
        store.heads(&[name]).await.unwrap();
    }
    assert!(server.command(&["DBSIZE"]).await.starts_with(":1\r\n"));
    let fields = server.command(&["HKEYS", "{tower-events}:place"]).await;
    assert!(fields.starts_with("*3\r\n") && ["epoch", "format", "keep"].iter().all(|name| fields.contains(name)));
}

/// The use of other channels causes unused ones to be removed, and their memory to be freed.
#[tokio::test]
async fn the_janitor_forgets_unused_channels() {
    let server = server!();
    let short = Duration::from_millis(100);
    let keep = Retention::default().age(short).forget_after(short).key_window(short);
    let store = RedisStore::options().retention(keep).connect(&server.url()).await.unwrap();
    for n in 0..100 {
        let keyed = Event::text("x".repeat(1000)).keyed("k").unwrap();
        store.append(&channel(&format!("idle {n}")), Append::new([keyed])).await.unwrap();
    }
    // Some of its entries in the schedule were evicted, too.
    server.command(&["ZREMRANGEBYRANK", "{tower-events}:turns", "0", "20"]).await;
    let end = Instant::now() + Duration::from_secs(60);
    let is_idle = async || server.command(&["HKEYS", "{tower-events}:place"]).await.contains("c:idle");
    while is_idle().await {
        assert!(Instant::now() < end, "still there after a minute");
        store.append(&channel("busy"), text("x")).await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let keys = server.command(&["KEYS", "*idle*"]).await;
    assert!(!keys.contains("log:idle"), "{keys}");
}

#[tokio::test]
async fn prefixes_keep_applications_apart() {
    let server = server!();
    let store = |prefix: &str| RedisStore::options().prefix(prefix);
    let (one, other) =
        (store("one").connect(&server.url()).await.unwrap(), store("other").connect(&server.url()).await.unwrap());
    one.append(&channel("a"), text("x")).await.unwrap();
    assert!(other.read(&channel("a"), Start::Earliest, Limit::default()).await.unwrap().entries.is_empty());
    for bad in ["", "a b", "{a}", "a'", &"x".repeat(65)] {
        let refused = store(bad).open(&server.url()).unwrap_err();
        assert_eq!(refused.kind(), &OpenErrorKind::Settings, "{bad:?}");
    }
    let refused = RedisStore::connect("http://127.0.0.1/").await.unwrap_err();
    assert_eq!(refused.kind(), &OpenErrorKind::Settings, "{refused:?}");
}

/// Keys of a version that remembered them without the fingerprint of their event.
#[tokio::test]
async fn a_key_of_an_older_version_matches_every_event() {
    let server = server!();
    let store = node(&server.url()).await;
    let keyed = |text: &str, key: &str| Append::new([Event::text(text).keyed(key).unwrap()]);
    let first = store.append(&channel("a"), keyed("first", "old")).await.unwrap();
    let shortened = "for nth = 0, 1 do local hash = '{tower-events}:keys' .. nth .. ':a'
        local value = redis.call('HGET', hash, 'old')
        if value then return redis.call('HSET', hash, 'old', string.sub(value, 1, 20)) end end";
    assert_eq!(server.command(&["EVAL", shortened, "0"]).await.trim(), ":0", "an existing field");

    let again = store.append(&channel("a"), keyed("other", "old")).await.unwrap();
    assert_eq!((again.receipts[0].cursor, again.receipts[0].duplicate), (first.head.cursor, true));
    store.append(&channel("a"), keyed("first", "new")).await.unwrap();
    let refused = store.append(&channel("a"), keyed("other", "new")).await;
    assert!(matches!(refused, Err(StoreError::KeyReused { index: 0 })), "{refused:?}");
}
