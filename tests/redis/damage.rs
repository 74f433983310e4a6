//! Damaged data, and calls that stop halfway: what the affected channel loses, and that no other channel loses
//! anything.

use std::time::Duration;

use tower_events::{
    Event, RedisStore, Retention, Store, StoreError,
    store::{Append, Appended, Entry, Expect, Health, Limit, Outcome, Start},
};

use super::{
    load::{channel, node},
    server::Server,
    support::{server, text, until},
};

const PLACE: &str = "{tower-events}:place";

fn texts(from: usize, to: usize) -> Append {
    Append::new((from..to).map(|n| Event::text(n.to_string())))
}

fn keyed(text: &str) -> Append {
    Append::new([Event::text(text).keyed(text).unwrap()])
}

async fn kept(store: &RedisStore, name: &str) -> Vec<Entry> {
    let (mut kept, mut start) = (Vec::new(), Start::Earliest);
    loop {
        let page = store.read(&channel(name), start, Limit::default().events(1000)).await.unwrap();
        assert_eq!(page.outcome, Outcome::Continued);
        (start, kept) = (Start::After(page.next), [kept, page.entries].concat());
        if page.next == page.head.cursor {
            return kept;
        }
    }
}

/// Twelve publishers that append to both channels at once, so that calls to the server concern both.
async fn append_to_both(
    store: &RedisStore,
    good: &str,
    bad: &str,
) -> (Vec<Appended>, Vec<Result<Appended, StoreError>>) {
    let appending = (0..12).map(|_| {
        let (store, good, bad) = (store.clone(), channel(good), channel(bad));
        tokio::spawn(async move {
            let mut all = (Vec::new(), Vec::new());
            for _ in 0..10 {
                let (to_good, to_bad) = tokio::join!(store.append(&good, text("x")), store.append(&bad, text("x")));
                all.0.push(to_good.expect("there is nothing wrong with it"));
                all.1.push(to_bad);
            }
            all
        })
    });
    let mut all = (Vec::new(), Vec::new());
    for appending in appending.collect::<Vec<_>>() {
        let (good, bad) = appending.await.unwrap();
        all.0.extend(good);
        all.1.extend(bad);
    }
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unreadable_record_affects_no_other_channel() {
    let server = server!();
    let store = node(&server.url()).await;
    let long = "x".repeat(97);
    for (nth, garbage) in ["garbage", &long].into_iter().enumerate() {
        let (good, bad) = (format!("good {nth}"), format!("bad {nth}"));
        let before = store.append(&channel(&good), texts(0, 50)).await.unwrap();
        store.append(&channel(&bad), texts(0, 50)).await.unwrap();
        server.command(&["HSET", PLACE, &format!("c:{bad}"), garbage]).await;
        let (appended, refused) = append_to_both(&store, &good, &bad).await;
        assert!(refused.iter().all(|refused| matches!(refused, Err(StoreError::Corrupt(_)))), "{refused:?}");
        let mut all: Vec<_> =
            before.entries.into_iter().chain(appended.into_iter().flat_map(|one| one.entries)).collect();
        all.sort_by_key(|entry| entry.cursor.seq);
        assert_eq!(kept(&store, &good).await, all);
        assert!(matches!(store.heads(&[channel(&bad)]).await, Err(StoreError::Corrupt(_))));
        assert!(store.heads(&[channel(&good)]).await.is_ok());
        let read = store.read(&channel(&bad), Start::Earliest, Limit::default()).await;
        assert!(matches!(read, Err(StoreError::Corrupt(_))), "{read:?}");
        store.delete(&channel(&bad)).await.unwrap();
        store.append(&channel(&bad), text("again")).await.unwrap();
    }
}

/// Keys of another type under the store's names: what they replaced is lost, and nothing else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_of_another_type_counts_as_deleted() {
    let server = server!();
    let store = node(&server.url()).await;
    for name in ["a", "b"] {
        store.append(&channel(name), texts(0, 10)).await.unwrap();
        store.append(&channel(name), keyed("key")).await.unwrap();
    }
    for key in ["log:a", "keys0:a", "keys1:a", "turns"] {
        server.command(&["SET", &format!("{{tower-events}}:{key}"), "garbage"]).await;
    }
    let before = kept(&store, "b").await;
    let (to_b, to_a) = append_to_both(&store, "b", "a").await;
    let to_a: Vec<_> = to_a.into_iter().map(|appended| appended.expect("a log that starts anew")).collect();
    let all = |appended: Vec<Appended>| {
        let mut all: Vec<_> = appended.into_iter().flat_map(|one| one.entries).collect();
        all.sort_by_key(|entry| entry.cursor.seq);
        all
    };
    assert_eq!(kept(&store, "b").await, [before, all(to_b)].concat());
    assert_eq!(kept(&store, "a").await, all(to_a));
    let first = store.append(&channel("a"), keyed("new")).await.unwrap();
    let again = store.append(&channel("a"), keyed("new")).await.unwrap();
    assert_eq!((again.receipts[0].cursor, again.receipts[0].duplicate), (first.head.cursor, true));
    store.append(&channel("c"), text("x")).await.unwrap();
    let has_turn = async || server.command(&["ZSCORE", "{tower-events}:turns", "c"]).await.starts_with('$');
    until("the new channel gets its turn", Duration::from_secs(10), has_turn).await;
}

/// Entries that a call appended without writing the record, as older versions could leave them.
#[tokio::test]
async fn a_surplus_is_removed_and_nothing_else() {
    let server = server!();
    server.command(&["ACL", "SETUSER", "app", "on", "nopass", "~*", "&*", "+@all", "-xsetid"]).await;
    let without = node(&format!("redis://app:x@{}/", server.addr())).await;
    let with = node(&server.url()).await;
    for (name, store) in [("a", &with), ("b", &without)] {
        let first = store.append(&channel(name), texts(0, 10)).await.unwrap();
        let surplus = "local log, last = KEYS[1], redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
            local seq = string.match(last[1], '%d+')
            for more = 1, 150 do
              redis.call('XADD', log, string.format('%d-0', seq + more), 'h', last[2][2], 'e', last[2][4])
            end
            return 1";
        let log = format!("{{tower-events}}:log:{name}");
        assert!(server.command(&["EVAL", surplus, "1", &log]).await.starts_with(":1"));
        assert_eq!(kept(store, name).await, first.entries, "a read ignores it");
        let second = store.append(&channel(name), texts(10, 12)).await.unwrap();
        assert_eq!(second.entries[0].cursor.seq, first.head.cursor.seq + 1);
        assert_eq!(kept(store, name).await, [first.entries, second.entries].concat());
        assert!(server.command(&["XLEN", &log]).await.starts_with(":12"));
        let life = server.command(&["PTTL", &log]).await;
        assert!(!life.starts_with(":-"), "{life}");
    }
}

/// Each command of the scripts fails once, in the middle of each call: the call is made by a user without permission
/// for that command.
#[tokio::test]
async fn wherever_a_call_stops_acknowledged_entries_stay() {
    let server = server!();
    let keep = Retention::default().events(10);
    let owner = RedisStore::options().retention(keep.clone()).connect(&server.url()).await.unwrap();
    let commands = [
        "xadd", "hset", "xtrim", "pexpire", "zadd", "publish", "unlink", "hdel", "hget", "hmget", "xlen", "xrange",
        "zrem",
    ];
    for command in commands {
        let rules = ["ACL", "SETUSER", command, "on", "nopass", "~*", "&*", "+@all", &format!("-{command}")];
        server.command(&rules).await;
        let url = format!("redis://{command}:x@{}/", server.addr());
        let user = RedisStore::options().retention(keep.clone()).open(&url).unwrap();
        for what in ["append", "key", "trim", "close", "init", "empty init", "new"] {
            let name = format!("{what} without {command}");
            let mut before = Vec::new();
            if what != "new" {
                before = owner.append(&channel(&name), texts(0, 5)).await.unwrap().entries;
            }
            if what == "trim" {
                let entries = owner.append(&channel(&name), texts(5, 10)).await.unwrap().entries;
                before.extend(entries);
            }
            let new = if what == "key" { keyed("x") } else { texts(5, 8) };
            let done = match what {
                "init" => user.init(&channel(&name), vec![Event::text("new")], Expect::Any).await.map(drop),
                "empty init" => user.init(&channel(&name), vec![], Expect::Any).await.map(drop),
                "close" => user.append(&channel(&name), new.closing()).await.map(drop),
                _ => user.append(&channel(&name), new).await.map(drop),
            };
            let after = kept(&owner, &name).await;
            let what_for = format!("{name}: {done:?} {after:?}");
            match (&done, what) {
                // Either the old or the new history, but a complete one.
                (result, "init" | "empty init") => {
                    let is_old = after == before;
                    assert!(is_old || after.iter().all(|entry| entry.data.as_text() == Some("new")), "{what_for}");
                    assert!(result.is_err() || !is_old, "{what_for}");
                    assert!(!matches!(result, Err(StoreError::Unavailable(_))) || is_old, "{what_for}");
                }
                (Ok(()), _) => assert!(after.len() > before.len() || what == "trim", "{what_for}"),
                (Err(StoreError::Unavailable(_)), _) => {
                    assert_eq!(after, before, "{what_for}");
                }
                // Nothing that is stored is damaged.
                (Err(StoreError::Corrupt(_)), _) => panic!("{what_for}"),
                (Err(_), _) => assert!(after.starts_with(&before), "{what_for}"),
            }
            // The channel continues, also for readers that were at its head.
            if let Some(last) = before.last().filter(|_| !what.contains("init")) {
                let page = owner.read(&channel(&name), Start::After(last.cursor), Limit::default()).await.unwrap();
                assert_eq!(page.outcome, Outcome::Continued, "{what_for}");
            }
            let next = owner.append(&channel(&name), text("next")).await;
            assert!(next.is_ok() || what == "close", "{what_for}: {next:?}");
        }
    }
}

async fn cluster_of_two() -> Option<[(Server, String); 2]> {
    let bus = || std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
    let (one, other) = (bus(), bus());
    let from = Server::start(&["--cluster-enabled", "yes", "--cluster-port", &one]).await?;
    let to = Server::start(&["--cluster-enabled", "yes", "--cluster-port", &other]).await?;
    from.command(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]).await;
    to.command(&["CLUSTER", "MEET", "127.0.0.1", &from.addr().port().to_string(), &one]).await;
    let is_ok = async |server: &Server| server.command(&["CLUSTER", "INFO"]).await.contains("cluster_state:ok");
    until("the cluster forms", Duration::from_secs(60), async || is_ok(&from).await && is_ok(&to).await).await;
    let id = async |server: &Server| server.command(&["CLUSTER", "MYID"]).await.lines().nth(1).unwrap().to_owned();
    let (id_of_from, id_of_to) = (id(&from).await, id(&to).await);
    Some([(from, id_of_from), (to, id_of_to)])
}

/// A slot of a cluster moves key by key: in between, a call finds some of the keys and not others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_that_moves_key_by_key_loses_nothing() {
    let Some([(from, id_of_from), (to, id_of_to)]) = cluster_of_two().await else { return };
    let store = node(&from.url()).await;
    let mut acknowledged = [Vec::new(), Vec::new()];
    for (nth, name) in ["a", "b"].into_iter().enumerate() {
        acknowledged[nth].extend(store.append(&channel(name), texts(0, 20)).await.unwrap().entries);
    }
    let slot = from.command(&["CLUSTER", "KEYSLOT", PLACE]).await.trim().trim_start_matches(':').to_owned();
    to.command(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &id_of_from]).await;
    from.command(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &id_of_to]).await;
    let port = to.addr().port().to_string();
    let migrate = async |key: &str| from.command(&["MIGRATE", "127.0.0.1", &port, key, "0", "5000"]).await;
    for key in ["log:b", "log:a", "turns", "place"] {
        assert!(migrate(&format!("{{tower-events}}:{key}")).await.starts_with("+OK"), "{key}");
        // Calls that concern `a` first and `b` next, and then calls that concern `a` only.
        let appending = (0..36).map(|n| {
            let (store, nth) = (store.clone(), usize::from((6..12).contains(&n)));
            tokio::spawn(async move { (nth, store.append(&channel(["a", "b"][nth]), text("x")).await) })
        });
        for appending in appending.collect::<Vec<_>>() {
            if let (nth, Ok(appended)) = appending.await.unwrap() {
                acknowledged[nth].extend(appended.entries);
            }
        }
    }
    for server in [&to, &from] {
        server.command(&["CLUSTER", "SETSLOT", &slot, "NODE", &id_of_to]).await;
    }
    let moved = store.append(&channel("a"), text("moved")).await;
    assert!(moved.is_err_and(|error| error.is_retryable()));
    assert_eq!(store.health(), Health::Unavailable, "the connected server has none of the keys any more");
    let store = node(&to.url()).await;
    for (name, mut acknowledged) in ["a", "b"].into_iter().zip(acknowledged) {
        acknowledged.sort_by_key(|entry| entry.cursor.seq);
        let kept = kept(&store, name).await;
        assert!(
            acknowledged.iter().all(|entry| kept.contains(entry)),
            "{name}: {} of {}",
            kept.len(),
            acknowledged.len()
        );
        store.append(&channel(name), text("on")).await.unwrap();
    }
}
