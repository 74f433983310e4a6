//! What Redis does differently from what one would think: each trap that is known, and what the store makes of it.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    time::{Duration, Instant},
};

use futures_core::Stream;
use tower_events::{
    Event, RedisStore, Retention, Store, StoreError,
    store::{Append, Change, Expect, Limit, Outcome, Reason, Start},
    stores::redis::ConnectError,
};

use super::{
    load::{channel, node, url},
    logs::Logs,
    server::Server,
    wire::Wire,
};

macro_rules! server {
    ($($setting:expr),*) => {
        match Server::start(&[$($setting),*]).await {
            Some(server) => server,
            None => return,
        }
    };
}

fn text(text: &str) -> Append {
    Append::new([Event::text(text)])
}

async fn next(changes: &mut Pin<&mut impl Stream<Item = Change>>) -> Change {
    let next = poll_fn(|cx| changes.as_mut().poll_next(cx));
    tokio::time::timeout(Duration::from_secs(10), next).await.expect("a hint in time").expect("no end")
}

/// Takes hints until one speaks of the channel.
async fn hint_of(changes: &mut Pin<&mut impl Stream<Item = Change>>, name: &str) {
    loop {
        match next(changes).await {
            Change::Entries(entries) if entries[0].channel.as_str() == name => return,
            Change::Head(of, _) if of.as_str() == name => return,
            _ => {}
        }
    }
}

/// The driver gives up on any answer after 500 ms by default; a connection that listens has to wait for ever.
#[tokio::test]
async fn the_reader_outlives_the_drivers_patience() {
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

/// Channels come and go without reconnecting or asking the server for anything.
#[tokio::test]
async fn a_new_channel_is_heard_at_once_on_the_one_connection() {
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
    assert_eq!(still.split(' ').next(), listening.split(' ').next());
}

/// `XTRIM` leaves `max-deleted-entry-id` unset, and a read from a trimmed id answers with the next survivor.
#[tokio::test]
async fn trimming_is_told_though_redis_forgets_it() {
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

/// A log that is deleted starts its ids anew in Redis; here `seq` goes on, and loss is told.
#[tokio::test]
async fn a_deleted_log_goes_on_above_and_is_told() {
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

/// Somebody restored an older log under the newer record: what does not fit is not served.
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

/// The cursor of an absent channel does not come back when the place is lost, alone or with all.
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

/// Redis evicts whole keys when it is told to: with enough pressure something goes, and it is told.
#[tokio::test]
async fn eviction_is_told() {
    let server = server!("--maxmemory", "6mb", "--maxmemory-policy", "allkeys-random");
    let store = node(&server.url()).await;
    let names: Vec<_> = (0..20).map(|n| channel(&format!("channel {n}"))).collect();
    let mut positions = Vec::new();
    for name in &names {
        positions.push(store.read(name, Start::Latest, Limit::POSITION).await.unwrap().next);
    }
    let (mut appended, mut seen, mut resets) = (vec![0; names.len()], vec![0; names.len()], vec![0; names.len()]);
    for round in 0..1500 {
        let nth = round % names.len();
        let batch = Append::new((0..5).map(|_| Event::text("x".repeat(1000))));
        // The place may go at any moment, so a call may need some attempts; those are the store's own.
        store.append(&names[nth], batch).await.unwrap();
        appended[nth] += 5;
        if round % 3 == 0 {
            let page = store.read(&names[nth], Start::After(positions[nth]), Limit::default()).await.unwrap();
            resets[nth] += usize::from(page.outcome != Outcome::Continued);
            seen[nth] += page.entries.len();
            positions[nth] = page.next;
        }
    }
    assert!(server.info("evicted_keys").await.parse::<u64>().unwrap() > 0);
    for (nth, name) in names.iter().enumerate() {
        let page = store.read(name, Start::After(positions[nth]), Limit { events: 2000, ..Limit::default() }).await;
        let page = page.unwrap();
        resets[nth] += usize::from(page.outcome != Outcome::Continued);
        seen[nth] += page.entries.len();
        assert!(resets[nth] > 0 || seen[nth] == appended[nth], "{name}: {} of {}", seen[nth], appended[nth]);
    }
    assert!(resets.iter().sum::<usize>() > 0);
}

#[tokio::test]
async fn an_eviction_policy_is_warned_of() {
    let server = server!("--maxmemory-policy", "allkeys-lru");
    let logs = Logs::of_this_thread();
    node(&server.url()).await;
    assert!(logs.text().contains("maxmemory-policy noeviction"), "{}", logs.text());
    drop(logs);
    server.command(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]).await;
    let logs = Logs::of_this_thread();
    node(&server.url()).await;
    assert!(!logs.text().contains("evict"), "{}", logs.text());
}

/// Without eviction, a server that is full refuses appends, and serves all the rest.
#[tokio::test]
async fn a_full_server_takes_no_events_and_gives_those_it_has() {
    let server = server!();
    let store = node(&server.url()).await;
    let first = store.append(&channel("a"), text("first")).await.unwrap();
    server.command(&["CONFIG", "SET", "maxmemory", "1mb"]).await;
    let refused = store.append(&channel("a"), text("second")).await.unwrap_err();
    assert!(matches!(refused, StoreError::Full(_)), "{refused:?}");
    assert!(matches!(store.init(&channel("a"), vec![], Expect::Any).await, Err(StoreError::Full(_))));
    let page = store.read(&channel("a"), Start::Earliest, Limit::default()).await.unwrap();
    assert_eq!(page.entries, first.entries);
    assert_eq!(store.heads(&[channel("a")]).await.unwrap()[0], first.head);
    store.delete(&channel("a")).await.unwrap();
    server.command(&["CONFIG", "SET", "maxmemory", "0"]).await;
    store.append(&channel("a"), text("third")).await.unwrap();
}

/// An old primary that became a replica takes nothing.
#[tokio::test]
async fn a_replica_takes_no_events() {
    let (server, primary) = (server!(), server!());
    let store = node(&server.url()).await;
    store.append(&channel("a"), text("first")).await.unwrap();
    server.command(&["REPLICAOF", "127.0.0.1", &primary.addr().port().to_string()]).await;
    let refused = store.append(&channel("a"), text("second")).await.unwrap_err();
    assert!(matches!(refused, StoreError::Unavailable(_)), "{refused:?}");
    server.command(&["REPLICAOF", "NO", "ONE"]).await;
    store.append(&channel("a"), text("third")).await.unwrap();
}

#[tokio::test]
async fn a_failure_takes_no_longer_than_the_patience() {
    let server = server!();
    let wire = Wire::to(server.addr()).await;
    let store = node(&url(&wire)).await;
    store.append(&channel("a"), text("first")).await.unwrap();
    assert!(store.is_connected());
    let took = async |store: &RedisStore| {
        let began = Instant::now();
        let error = store.append(&channel("a"), text("x")).await.unwrap_err();
        let read = store.read(&channel("a"), Start::Earliest, Limit::default()).await.unwrap_err();
        assert!(matches!(read, StoreError::Unavailable(_)), "{read:?}");
        assert!(began.elapsed() < 2 * super::load::PATIENCE + Duration::from_millis(500), "{:?}", began.elapsed());
        error
    };
    wire.freeze();
    let sent = took(&store).await;
    assert!(matches!(sent, StoreError::Unknown(_)), "sent, and no answer: {sent:?}");
    let unsent = took(&store).await;
    assert!(matches!(unsent, StoreError::Unavailable(_)), "never sent: {unsent:?}");
    assert!(!store.is_connected());
    wire.cut();
    wire.thaw();
    while store.append(&channel("a"), text("x")).await.is_err() {}
    store.read(&channel("a"), Start::Earliest, Limit::POSITION).await.unwrap();
    assert!(store.is_connected());
}

/// Attempts to connect are spread out: no busy loop, whoever asks how often.
#[tokio::test]
async fn a_server_that_is_away_is_not_asked_all_the_time() {
    let mut server = server!();
    let wire = Wire::to(server.addr()).await;
    let store = node(&url(&wire)).await;
    let mut changes = pin!(store.changes());
    next(&mut changes).await;
    server.kill();
    wire.cut();
    let (before, began) = (wire.accepted(), Instant::now());
    let asking = (0..50).map(|_| {
        let store = store.clone();
        tokio::spawn(async move {
            while began.elapsed() < Duration::from_secs(2) && store.heads(&[channel("a")]).await.is_err() {}
        })
    });
    for asking in asking.collect::<Vec<_>>() {
        asking.await.unwrap();
    }
    let attempts = wire.accepted() - before;
    assert!(attempts < 40, "{attempts} attempts in 2 s");
    server.run().await;
    assert!(matches!(next(&mut changes).await, Change::Resync), "the reader comes back by itself");
}

#[tokio::test]
async fn replicas_that_do_not_follow_make_an_append_unknown() {
    let (primary, replica) = (server!(), server!("--repl-diskless-sync-delay", "0"));
    replica.command(&["REPLICAOF", "127.0.0.1", &primary.addr().port().to_string()]).await;
    while replica.info("master_link_status").await != "up" {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let store = RedisStore::options().replicas(1, Duration::from_millis(1500)).connect(&primary.url()).await.unwrap();
    let head = store.append(&channel("a"), text("1")).await.unwrap().head;
    let copied = node(&replica.url()).await.heads(&[channel("a")]).await;
    // A node on a replica cannot make a place, but here there is one, copied.
    assert_eq!(copied.unwrap_or_default().first().map(|head| head.cursor), Some(head.cursor));
    replica.signal("-STOP");
    let lonely = store.append(&channel("a"), text("2")).await.unwrap_err();
    replica.signal("-CONT");
    assert!(matches!(lonely, StoreError::Unknown(_)), "{lonely:?}");
    store.append(&channel("a"), text("3")).await.unwrap();
}

/// Exactly the rights that the documentation names, and a password in the URL.
#[tokio::test]
async fn a_user_with_few_rights_is_enough() {
    let server = server!();
    let rules = "on >secret ~{tower-events}:* &{tower-events}:* +@read +@write +@connection +@scripting +@pubsub +wait +info +time";
    let words: Vec<_> = ["ACL", "SETUSER", "app"].into_iter().chain(rules.split(' ')).collect();
    assert!(server.command(&words).await.starts_with("+OK"));
    server.command(&["ACL", "SETUSER", "default", "off"]).await;
    assert!(RedisStore::connect(&server.url()).await.is_err());
    assert!(RedisStore::connect(&format!("redis://app:wrong@{}/", server.addr())).await.is_err());
    let store = node(&format!("redis://app:secret@{}/", server.addr())).await;
    let mut changes = pin!(store.changes());
    next(&mut changes).await;
    let keyed = Event::text("x").keyed("k").unwrap();
    store.append(&channel("a"), Append::new([keyed])).await.unwrap();
    hint_of(&mut changes, "a").await;
    store.init(&channel("a"), vec![Event::text("y")], Expect::Any).await.unwrap();
    store.read(&channel("a"), Start::Earliest, Limit::default()).await.unwrap();
    store.heads(&[channel("a")]).await.unwrap();
    store.delete(&channel("a")).await.unwrap();
    assert!(!format!("{store:?}").contains("secret"));
}

/// Reading and following leave nothing behind but the place itself.
#[tokio::test]
async fn what_is_read_is_not_stored() {
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
    assert!(server.command(&["HLEN", "{tower-events}:place"]).await.starts_with(":2\r\n"));
}

/// Channels that nobody uses go with the use of others, and give their memory back.
#[tokio::test]
async fn the_janitor_forgets_what_nobody_uses() {
    let server = server!();
    let short = Duration::from_millis(100);
    let keep = Retention::default().age(short).forget_after(short).key_window(short);
    let store = RedisStore::options().retention(keep).connect(&server.url()).await.unwrap();
    for n in 0..100 {
        let keyed = Event::text("x".repeat(1000)).keyed("k").unwrap();
        store.append(&channel(&format!("idle {n}")), Append::new([keyed])).await.unwrap();
    }
    // Some turns were evicted, too.
    server.command(&["ZREMRANGEBYRANK", "{tower-events}:turns", "0", "20"]).await;
    let end = Instant::now() + Duration::from_secs(60);
    while !server.command(&["HLEN", "{tower-events}:place"]).await.starts_with(":3\r\n") {
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
        assert!(store(bad).open(&server.url()).is_err(), "{bad:?}");
    }
    assert!(RedisStore::connect("http://127.0.0.1/").await.is_err());
}

/// What a store appends while the server is away is bounded by its callers; none of them waits for ever.
#[tokio::test]
async fn a_store_can_be_opened_before_its_server() {
    let mut server = server!();
    server.kill();
    let store = RedisStore::options().timeout(Duration::from_millis(300)).open(&server.url()).unwrap();
    let many = (0..2000).map(|n| {
        let store = store.clone();
        tokio::spawn(async move { store.append(&channel("a"), text(&n.to_string())).await })
    });
    for append in many.collect::<Vec<_>>() {
        assert!(matches!(append.await.unwrap(), Err(StoreError::Unavailable(_))));
    }
    server.run().await;
    // Attempts to connect are spread out, by then further than this patience: the first call may fail without one.
    let end = Instant::now() + Duration::from_secs(20);
    while let Err(error) = store.append(&channel("a"), text("x")).await {
        assert!(error.is_retryable() && Instant::now() < end, "{error:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A server of a cluster that does not have the slot says so, and the one that has it is enough.
#[tokio::test]
async fn a_cluster_is_used_through_the_server_that_has_the_keys() {
    let bus = || std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
    let (one, other) = (bus(), bus());
    let without = server!("--cluster-enabled", "yes", "--cluster-port", &one);
    let with = server!("--cluster-enabled", "yes", "--cluster-port", &other);
    with.command(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]).await;
    without.command(&["CLUSTER", "MEET", "127.0.0.1", &with.addr().port().to_string(), &other]).await;
    let end = Instant::now() + Duration::from_secs(60);
    while !without.command(&["CLUSTER", "INFO"]).await.contains("cluster_state:ok")
        || !with.command(&["CLUSTER", "INFO"]).await.contains("cluster_state:ok")
    {
        assert!(Instant::now() < end, "the cluster does not come together");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let refused = RedisStore::connect(&without.url()).await;
    let to = with.addr().to_string();
    assert!(matches!(&refused, Err(ConnectError::Moved { to: told }) if *told == to), "{refused:?}");
    let store = node(&with.url()).await;
    let appended = store.append(&channel("a"), text("x")).await.unwrap();
    let page = store.read(&channel("a"), Start::Earliest, Limit::default()).await.unwrap();
    assert_eq!(page.entries, appended.entries);
}
