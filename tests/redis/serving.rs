//! Servers that are full, unreachable, read-only or restrictive, and how the store handles them.

use std::{
    pin::pin,
    time::{Duration, Instant},
};

use tower_events::{
    Event, RedisStore, Store, StoreError,
    store::{Append, Change, Expect, Health, Limit, OpenErrorKind, Outcome, Start},
};

use super::{
    away,
    load::{channel, node, url},
    logs::Logs,
    server::Server,
    support::{hint_of, next, server, text, until},
    wire::Wire,
};

/// Redis evicts whole keys if configured to: under pressure some are lost, and that is reported.
#[tokio::test]
async fn eviction_is_reported() {
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
        // The place may be evicted at any moment, so a call may need several attempts; the store makes those itself.
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
        let page = store.read(name, Start::After(positions[nth]), Limit::default().events(2000)).await;
        let page = page.unwrap();
        resets[nth] += usize::from(page.outcome != Outcome::Continued);
        seen[nth] += page.entries.len();
        assert!(resets[nth] > 0 || seen[nth] == appended[nth], "{name}: {} of {}", seen[nth], appended[nth]);
    }
    assert!(resets.iter().sum::<usize>() > 0);
}

#[tokio::test]
async fn an_eviction_policy_causes_a_warning() {
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

/// Without eviction, a full server refuses appends, and everything else works.
#[tokio::test]
async fn a_full_server_accepts_no_events_and_serves_those_it_has() {
    let server = server!();
    let store = node(&server.url()).await;
    let first = store.append(&channel("a"), text("first")).await.unwrap();
    server.command(&["CONFIG", "SET", "maxmemory", "1mb"]).await;
    let refused = store.append(&channel("a"), text("second")).await.unwrap_err();
    assert!(matches!(&refused, StoreError::Full(why) if why.to_string().contains("'maxmemory'")), "{refused:?}");
    assert!(matches!(store.init(&channel("a"), vec![], Expect::Any).await, Err(StoreError::Full(_))));
    let page = store.read(&channel("a"), Start::Earliest, Limit::default()).await.unwrap();
    assert_eq!(page.entries, first.entries);
    assert_eq!(store.heads(&[channel("a")]).await.unwrap()[0], first.head);
    assert_eq!(store.health(), Health::ReadOnly);
    store.delete(&channel("a")).await.unwrap();
    assert_eq!(store.health(), Health::ReadOnly, "there is no more room than before");
    server.command(&["CONFIG", "SET", "maxmemory", "0"]).await;
    until("health recovers", Duration::from_secs(10), async || store.health() == Health::Ready).await;
    store.append(&channel("a"), text("third")).await.unwrap();
}

#[tokio::test]
async fn a_server_without_enough_replicas_is_read_only() {
    let server = server!();
    let store = node(&server.url()).await;
    let first = store.append(&channel("a"), text("first")).await.unwrap();
    server.command(&["CONFIG", "SET", "min-replicas-to-write", "1"]).await;
    let refused = store.append(&channel("a"), text("second")).await.unwrap_err();
    assert!(matches!(refused, StoreError::Unavailable(_)), "{refused:?}");
    assert_eq!(store.health(), Health::ReadOnly);
    let page = store.read(&channel("a"), Start::Earliest, Limit::default()).await.unwrap();
    assert_eq!(page.entries, first.entries);
    server.command(&["CONFIG", "SET", "min-replicas-to-write", "0"]).await;
    until("health recovers", Duration::from_secs(10), async || store.health() == Health::Ready).await;
}

/// An old primary that became a replica accepts no writes.
#[tokio::test]
async fn a_replica_accepts_no_events() {
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
async fn a_failure_takes_no_longer_than_the_timeout() {
    let server = server!();
    let wire = Wire::to(server.addr()).await;
    let store = node(&url(&wire)).await;
    store.append(&channel("a"), text("first")).await.unwrap();
    assert_eq!(store.health(), Health::Ready);
    let took = async |store: &RedisStore| {
        let began = Instant::now();
        let error = store.append(&channel("a"), text("x")).await.unwrap_err();
        let read = store.read(&channel("a"), Start::Earliest, Limit::default()).await.unwrap_err();
        assert!(matches!(read, StoreError::Unavailable(_)), "{read:?}");
        assert!(began.elapsed() < 2 * super::load::PATIENCE + Duration::from_secs(5), "{:?}", began.elapsed());
        error
    };
    wire.freeze();
    let sent = took(&store).await;
    assert!(matches!(sent, StoreError::Unknown(_)), "sent without a response: {sent:?}");
    let unsent = took(&store).await;
    assert!(matches!(unsent, StoreError::Unavailable(_)), "never sent: {unsent:?}");
    assert_eq!(store.health(), Health::Unavailable);
    wire.cut();
    wire.thaw();
    while store.append(&channel("a"), text("x")).await.is_err() {}
    store.read(&channel("a"), Start::Earliest, Limit::POSITION).await.unwrap();
    assert_eq!(store.health(), Health::Ready);
}

/// Attempts to connect are spaced out: no busy loop, however often calls are made.
#[tokio::test]
async fn an_unreachable_server_is_not_contacted_all_the_time() {
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
    assert!(matches!(next(&mut changes).await, Change::Resync), "the reader recovers by itself");
}

#[tokio::test]
async fn a_server_that_is_away_for_long_keeps_nobody_busy() {
    let server = server!();
    let store = node(&server.url()).await;
    away::check(store, server, Server::kill, async |server| server.run().await).await;
}

#[tokio::test]
async fn replicas_that_do_not_follow_make_an_append_unknown() {
    let (primary, replica) = (server!(), server!("--repl-diskless-sync-delay", "0"));
    replica.follow(&primary).await;
    let store = RedisStore::options().replicas(1, Duration::from_millis(1500)).connect(&primary.url()).await.unwrap();
    let head = store.append(&channel("a"), text("1")).await.unwrap().head;
    let copied = replica.command(&["XLEN", "{tower-events}:log:a"]).await;
    assert!(copied.starts_with(":1") && head.cursor.seq > 0, "{copied}");
    replica.signal("-STOP");
    let lonely = store.append(&channel("a"), text("2")).await.unwrap_err();
    replica.signal("-CONT");
    assert!(matches!(lonely, StoreError::Unknown(_)), "{lonely:?}");
    store.append(&channel("a"), text("3")).await.unwrap();
}

/// Exactly the permissions that the documentation lists, and a password in the URL.
#[tokio::test]
async fn a_user_with_minimal_permissions_is_enough() {
    let server = server!();
    let rules = "on >secret ~{tower-events}:* &{tower-events}:* +@read +@write +@connection +@scripting +@pubsub +wait +info +time";
    let words: Vec<_> = ["ACL", "SETUSER", "app"].into_iter().chain(rules.split(' ')).collect();
    assert!(server.command(&words).await.starts_with("+OK"));
    server.command(&["ACL", "SETUSER", "default", "off"]).await;
    for url in [server.url(), format!("redis://app:wrong@{}/", server.addr())] {
        let refused = RedisStore::connect(&url).await.unwrap_err();
        assert_eq!(refused.kind(), &OpenErrorKind::Denied, "{refused:?}");
        assert!(!format!("{refused} {refused:?}").contains("wrong"), "a password is a secret: {refused:?}");
    }
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

/// Callers bound what a store appends while the server is unreachable; none of them waits for ever.
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
    // By then attempts to connect are further apart than this timeout: the first call may fail without one.
    let appends = async || match store.append(&channel("a"), text("x")).await {
        Ok(_) => true,
        Err(error) => {
            assert!(error.is_retryable(), "{error:?}");
            false
        }
    };
    until("an append succeeds", Duration::from_secs(20), appends).await;
}

/// A server of a cluster that does not own the slot reports this; the server that owns it is sufficient.
#[tokio::test]
async fn a_cluster_is_used_through_the_server_with_the_keys() {
    let bus = || std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
    let (one, other) = (bus(), bus());
    let without = server!("--cluster-enabled", "yes", "--cluster-port", &one);
    let with = server!("--cluster-enabled", "yes", "--cluster-port", &other);
    with.command(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]).await;
    without.command(&["CLUSTER", "MEET", "127.0.0.1", &with.addr().port().to_string(), &other]).await;
    let is_ok = async |server: &Server| server.command(&["CLUSTER", "INFO"]).await.contains("cluster_state:ok");
    let is_whole = async || is_ok(&without).await && is_ok(&with).await;
    until("the cluster forms", Duration::from_secs(60), is_whole).await;
    let refused = RedisStore::connect(&without.url()).await;
    let to = with.addr().to_string();
    let refused = refused.unwrap_err();
    assert_eq!(refused.kind(), &OpenErrorKind::Moved { to });
    let store = node(&with.url()).await;
    let appended = store.append(&channel("a"), text("x")).await.unwrap();
    let page = store.read(&channel("a"), Start::Earliest, Limit::default()).await.unwrap();
    assert_eq!(page.entries, appended.entries);
}
