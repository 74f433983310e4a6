//! Faults of servers and networks. In each case: order per channel, nothing acknowledged is lost unless a reset reports
//! it, and nothing is delivered twice.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use tower_events::{
    Channel, Event, NatsStore, Retention, Store, StoreError,
    store::{Append, Health, Limit, Outcome, Reason, Start},
};

use crate::{
    away,
    load::{Load, Report},
    server::{Server, servers},
    wire::{Slow, Wire},
};

fn is_long() -> bool {
    std::env::var_os("TOWER_EVENTS_LONG").is_some()
}

/// This many repetitions, or one in the short form.
pub fn times(long: usize) -> usize {
    if is_long() { long } else { 1 }
}

fn channel() -> Channel {
    Channel::new("room: 1.*>").expect("a channel")
}

async fn store(url: &str) -> NatsStore {
    let retention = Retention::default().events(1_000_000).bytes(1 << 30);
    let options = NatsStore::options().retention(retention).timeout(Duration::from_secs(2));
    options.connect(url).await.expect("a store")
}

async fn load(url: &str) -> Load {
    Load::start(vec![store(url).await, store(url).await], store(url).await, &channel()).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_publish_while_a_third_resumes() {
    for binary in servers() {
        let server = Server::start(&binary);
        let load = load(&server.url()).await;
        load.more(if is_long() { 20_000 } else { 1_000 }).await;
        let report = load.end().await;
        report.show("none, two nodes at full speed", &binary, 1);
        assert!(report.is_perfect(), "{report:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_server_comes_back_with_everything_that_was_acknowledged() {
    for binary in servers() {
        let (mut server, mut sum) = (Server::start(&binary), Report::default());
        let repetitions = times(20);
        for _ in 0..repetitions {
            let load = load(&server.url()).await;
            load.more(fastrand::u64(50..500)).await;
            server.kill();
            server.run();
            load.more(200).await;
            sum.add(load.end().await);
        }
        sum.show("kill -9 and restart under load", &binary, repetitions);
        assert!(sum.is_perfect(), "{sum:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_loses_its_storage_resets_everyone() {
    for binary in servers() {
        let (mut server, mut sum) = (Server::start(&binary), Report::default());
        let repetitions = times(10);
        for _ in 0..repetitions {
            let load = load(&server.url()).await;
            load.more(200).await;
            server.kill();
            std::fs::remove_dir_all(server.store()).expect("the storage is removed");
            server.run();
            load.more(100).await;
            let report = load.end().await;
            assert_eq!(report.resets, [Reason::EpochChanged], "{report:?}");
            assert_eq!(report.duplicated, 0, "{report:?}");
            sum.add(report);
        }
        sum.show("kill -9 and storage lost", &binary, repetitions);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_suspended_server_fails_calls_in_time_and_loses_nothing() {
    for binary in servers() {
        let (server, mut sum) = (Server::start(&binary), Report::default());
        let repetitions = times(3);
        for _ in 0..repetitions {
            let load = load(&server.url()).await;
            load.more(100).await;
            server.pause();
            tokio::time::sleep(Duration::from_secs(if is_long() { 10 } else { 3 })).await;
            server.go_on();
            load.more(200).await;
            sum.add(load.end().await);
        }
        sum.show("SIGSTOP", &binary, repetitions);
        assert!(sum.is_perfect(), "{sum:?}");
        assert!(sum.longest < Duration::from_secs(4), "a call has 2 s: {sum:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_are_cut_lose_nothing() {
    for binary in servers() {
        let server = Server::start(&binary);
        let wire = Wire::to(server.addr()).await;
        let load = load(&format!("nats://{}", wire.addr())).await;
        let repetitions = times(100);
        for _ in 0..repetitions.max(5) {
            load.more(fastrand::u64(20..60)).await;
            wire.cut();
        }
        load.more(100).await;
        let report = load.end().await;
        report.show("connections cut", &binary, repetitions.max(5));
        assert!(report.is_perfect(), "{report:?}");
        assert!(report.longest < Duration::from_secs(4), "a call has 2 s: {report:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_open_connections_are_given_up() {
    for binary in servers() {
        let server = Server::start(&binary);
        let wire = Wire::to(server.addr()).await;
        let load = load(&format!("nats://{}", wire.addr())).await;
        let repetitions = times(10);
        for _ in 0..repetitions {
            load.more(100).await;
            // Open connections stay open and carry nothing; new connections work.
            wire.hang();
            load.more(50).await;
        }
        let report = load.end().await;
        report.show("half-open connections", &binary, repetitions);
        assert!(report.is_perfect(), "{report:?}");
        assert!(report.longest < Duration::from_secs(4), "a call has 2 s: {report:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_network_loses_nothing() {
    for binary in servers() {
        let server = Server::start(&binary);
        let wire = Wire::to(server.addr()).await;
        let load = load(&format!("nats://{}", wire.addr())).await;
        let repetitions = times(5);
        for _ in 0..repetitions {
            wire.slow(Slow { delay: Duration::from_millis(30), bandwidth: None });
            load.more(30).await;
            wire.slow(Slow { delay: Duration::from_millis(5), bandwidth: Some(64 << 10) });
            load.more(30).await;
            wire.slow(Slow::default());
            load.more(200).await;
        }
        let report = load.end().await;
        report.show("30 ms more each way, then 64 KiB/s", &binary, repetitions);
        assert!(report.is_perfect(), "{report:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_is_deleted_and_recreated_is_another_place() {
    for binary in servers() {
        let (mut server, mut sum, mut failures) = (Server::start(&binary), Report::default(), 0);
        let repetitions = times(20);
        for _ in 0..repetitions {
            let load = load(&server.url()).await;
            load.more(200).await;
            let admin = async_nats::connect(server.url()).await.expect("a client");
            let (report, has_failed) = looked_after(&mut server, async {
                // The server may crash before it answers.
                _ = admin.request("$JS.API.STREAM.DELETE.tower-events", "".into()).await;
                load.more(200).await;
                load.end().await
            })
            .await;
            failures += usize::from(has_failed);
            assert_eq!(report.duplicated, 0, "{report:?}");
            if has_failed {
                // With what it had stored, whatever that is.
                assert!(report.is_perfect() || !report.resets.is_empty(), "{report:?}");
            } else {
                assert_eq!(report.resets, [Reason::EpochChanged], "{report:?}");
            }
            sum.add(report);
        }
        assert!(failures < repetitions.max(2), "the server failed {failures} times");
        sum.show("stream deleted", &binary, repetitions);
    }
}

/// Restarts the server if it crashes meanwhile or stops accepting messages; returns whether it did. Version 2.9.10
/// sometimes does so when a stream is deleted that others write to and read: its log showed panics in `PurgeEx` and
/// `jsMsgGetRequest`, and the new stream's files gone with the old one's.
async fn looked_after<T>(server: &mut Server, meanwhile: impl Future<Output = T>) -> (T, bool) {
    let (mut meanwhile, mut has_failed, mut since) = (std::pin::pin!(meanwhile), false, Instant::now());
    loop {
        if let Ok(done) = tokio::time::timeout(Duration::from_millis(50), &mut meanwhile).await {
            return (done, has_failed);
        }
        if !server.is_alive() || since.elapsed() > Duration::from_secs(15) {
            server.kill();
            server.run();
            (has_failed, since) = (true, Instant::now());
        }
    }
}

/// A server reports that a stream is gone before its files are, and 2.9 exits when another stream is created meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_survives_repeated_deletions_of_its_stream() {
    for binary in servers() {
        let server = Server::start(&binary);
        let admin = async_nats::connect(server.url()).await.expect("a client");
        let nodes = [store(&server.url()).await, store(&server.url()).await, store(&server.url()).await];
        for round in 0..times(200).max(12) {
            let (stop, calls) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
            let running = nodes.each_ref().map(|node| {
                let (node, stop, calls) = (node.clone(), Arc::clone(&stop), Arc::clone(&calls));
                tokio::spawn(async move {
                    while !stop.load(SeqCst) {
                        _ = node.append(&channel(), Append::new([Event::text("x")])).await;
                        // A separate call, which may come at the wrong moment.
                        _ = node.heads(&[channel()]).await;
                        calls.fetch_add(1, SeqCst);
                    }
                })
            });
            let more = async |count: usize| {
                let until = calls.load(SeqCst) + count;
                while calls.load(SeqCst) < until {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            };
            more(20).await;
            api(&admin, "STREAM.DELETE.tower-events", "").await;
            more(20).await;
            stop.store(true, SeqCst);
            for node in running {
                node.await.expect("a node");
            }
            let done = nodes[0].append(&channel(), Append::new([Event::text("x")])).await;
            assert!(done.is_ok(), "round {round}: {done:?}");
        }
    }
}

pub async fn api(admin: &async_nats::Client, what: &str, body: &str) -> serde_json::Value {
    let answer = admin.request(format!("$JS.API.{what}"), body.to_owned().into()).await.expect("an answer");
    let answer: serde_json::Value = serde_json::from_slice(&answer.payload).expect("JSON");
    assert!(answer.get("error").is_none(), "{what}: {answer}");
    answer
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_recreated_with_the_same_subjects_is_another_place() {
    for binary in servers() {
        let server = Server::start(&binary);
        let (store, admin) = (store(&server.url()).await, async_nats::connect(server.url()).await.expect("a client"));
        let before = texts(&store, &["1", "2"]).await;
        let config = api(&admin, "STREAM.INFO.tower-events", "").await["config"].clone();
        api(&admin, "STREAM.DELETE.tower-events", "").await;
        api(&admin, "STREAM.CREATE.tower-events", &config.to_string()).await;
        let page = store.read(&channel(), Start::After(before), Limit::default()).await.expect("a page");
        assert_eq!(page.outcome, Outcome::Reset(Reason::EpochChanged));
        let after = texts(&store, &["a", "b"]).await;
        assert_eq!(after.seq, 2);
        let page = store.read(&channel(), Start::After(before), Limit::default()).await.expect("a page");
        assert_eq!((page.outcome, page.entries.len()), (Outcome::Reset(Reason::EpochChanged), 2));
    }
}

/// Appends each text in a message of its own; returns the last position.
async fn texts(store: &NatsStore, texts: &[&str]) -> tower_events::Cursor {
    let mut at = None;
    for text in texts {
        let done = store.append(&channel(), Append::new([Event::text(*text)])).await.expect("an append");
        at = Some(done.head.cursor);
    }
    at.expect("one text")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_purge_by_others_is_a_reset() {
    for binary in servers() {
        let server = Server::start(&binary);
        let (store, admin) = (store(&server.url()).await, async_nats::connect(server.url()).await.expect("a client"));
        let before = texts(&store, &["1", "2", "3"]).await;
        api(&admin, "STREAM.PURGE.tower-events", "").await;
        let page = store.read(&channel(), Start::After(before), Limit::default()).await.expect("a page");
        assert!(matches!(page.outcome, Outcome::Reset(_)), "{page:?}");
        for _ in 0..5 {
            texts(&store, &["again"]).await;
            let page = store.read(&channel(), Start::After(before), Limit::default()).await.expect("a page");
            assert!(matches!(page.outcome, Outcome::Reset(_)), "{page:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_deleted_from_the_middle_is_a_reset_behind_it() {
    for binary in servers() {
        let server = Server::start(&binary);
        let (store, admin) = (store(&server.url()).await, async_nats::connect(server.url()).await.expect("a client"));
        texts(&store, &["1", "2", "3", "4", "5"]).await;
        let last = api(&admin, "STREAM.INFO.tower-events", "").await["state"]["last_seq"].as_u64().expect("a number");
        api(&admin, "STREAM.MSG.DELETE.tower-events", &format!(r#"{{"seq": {}}}"#, last - 2)).await;
        let page = store.read(&channel(), Start::Earliest, Limit::default()).await.expect("a page");
        assert_eq!(shown(&page.entries), ["1", "2"]);
        let page = store.read(&channel(), Start::After(page.next), Limit::default()).await.expect("a page");
        assert_eq!(page.outcome, Outcome::Reset(Reason::Trimmed));
        assert_eq!((shown(&page.entries), page.next), (vec!["4", "5"], page.head.cursor));
    }
}

fn shown(entries: &[tower_events::store::Entry]) -> Vec<&str> {
    entries.iter().map(|entry| entry.data.as_shown()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_copy_that_is_restored_and_continued_is_another_history() {
    for binary in servers() {
        let mut server = Server::start(&binary);
        let copy = server.store().with_extension("copy");
        let store = store(&server.url()).await;
        let kept = texts(&store, &["1", "2", "3"]).await;
        server.stop();
        copy_folder(&server.store(), &copy);
        server.run();
        let lost = texts(&store, &["4", "5", "6"]).await;
        server.stop();
        std::fs::remove_dir_all(server.store()).expect("the storage is removed");
        std::fs::rename(&copy, server.store()).expect("the copy is restored");
        server.run();
        let outcome = |cursor| {
            let store = store.clone();
            async move { store.read(&channel(), Start::After(cursor), Limit::default()).await.expect("a page").outcome }
        };
        assert_eq!(outcome(lost).await, Outcome::Reset(Reason::Ahead));
        assert_eq!(outcome(kept).await, Outcome::Continued);
        for text in ["a", "b"] {
            texts(&store, &[text]).await;
            assert_eq!(outcome(lost).await, Outcome::Reset(Reason::Ahead));
        }
        for text in ["c", "d", "e"] {
            texts(&store, &[text]).await;
            assert_eq!(outcome(lost).await, Outcome::Reset(Reason::EpochChanged), "past the old head");
        }
        let page = store.read(&channel(), Start::After(kept), Limit::default()).await.expect("a page");
        assert_eq!((page.outcome, shown(&page.entries)), (Outcome::Continued, vec!["a", "b", "c", "d", "e"]));
    }
}

fn copy_folder(from: &Path, to: &Path) {
    let done = std::process::Command::new("cp").arg("-a").arg(from).arg(to).status().expect("cp");
    assert!(done.success());
}

#[tokio::test]
async fn a_server_that_is_away_for_long_keeps_nobody_busy() {
    let Some(binary) = servers().pop() else { return };
    let server = Server::start(&binary);
    let store = store(&server.url()).await;
    away::check(store, server, Server::kill, async |server| server.run()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_server_calls_fail_in_time_and_hints_come_back_with_it() {
    for binary in servers() {
        let mut server = Server::start(&binary);
        let store = Arc::new(store(&server.url()).await);
        let mut hints = crate::hints::Hints::of(&*store);
        hints.resync().await;
        let head = texts(&store, &["1"]).await;
        hints.until(&channel(), head.seq).await;
        server.kill();
        let (begun, channel) = (Instant::now(), channel());
        let (append, read, heads) = tokio::join!(
            store.append(&channel, Append::new([Event::text("x")])),
            store.read(&channel, Start::Earliest, Limit::default()),
            store.heads(std::slice::from_ref(&channel)),
        );
        assert!(matches!(append, Err(StoreError::Unavailable(_) | StoreError::Unknown(_))), "{append:?}");
        assert!(matches!(read, Err(StoreError::Unavailable(_))), "{read:?}");
        assert!(matches!(heads, Err(StoreError::Unavailable(_))), "{heads:?}");
        assert!(begun.elapsed() < Duration::from_secs(3));
        assert_eq!(store.health(), Health::Unavailable);
        server.run();
        hints.resync().await;
        let head = texts(&store, &["2"]).await;
        hints.until(&channel, head.seq).await;
        assert_eq!(store.health(), Health::Ready);
    }
}
