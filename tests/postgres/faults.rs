//! Faults under load, each as a row of a table: store, fault, repetitions, events acknowledged, lost, not seen, seen
//! twice, resets seen, and other counts.

use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tower_events::{
    Event, Store,
    store::{Append, Limit, Start},
    stores::postgres::{Durability, PostgresStore},
};

use super::{
    away,
    harness::client,
    is_long,
    load::{Load, Loss, PATIENCE},
    proxy::Proxy,
    server::Server,
    support::a,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_write_and_a_third_resumes_clients() {
    let Some(server) = Server::start() else { return };
    let url = server.url();
    let load = Load::start([&url, &url], Durability::Server).await;
    load.progress(times(1_500, 100_000)).await;
    load.judge("none", 1, Loss::None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_server_is_killed_and_comes_back() {
    kill_and_restart("kill -9 and restart", "", Durability::Server, Loss::None).await;
}

/// What is not synced is lost when the machine loses power, not when the process is killed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_server_that_does_not_sync_loses_nothing() {
    kill_and_restart("kill -9 and restart, fsync off", "-c fsync=off", Durability::Server, Loss::None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_server_that_acknowledged_from_memory_loses_and_reports_it() {
    let fault = "kill -9 and restart, synchronous_commit off";
    kill_and_restart(fault, "", Durability::Relaxed, Loss::Told).await;
}

async fn kill_and_restart(fault: &str, settings: &'static str, durability: Durability, loss: Loss) {
    let Some(server) = Server::start_with(settings) else { return };
    let url = server.url();
    let load = Load::start([&url, &url], durability).await;
    for _ in 0..times(2, 20) {
        load.progress(300).await;
        server.kill();
        server.resume();
        load.progress(1).await;
    }
    load.judge(fault, times(2, 20), loss).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_server_is_suspended() {
    let Some(server) = Server::start() else { return };
    let url = server.url();
    let load = Load::start([&url, &url], Durability::Server).await;
    for _ in 0..times(1, 5) {
        load.progress(200).await;
        server.pause();
        tokio::time::sleep(Duration::from_millis(times(2_500, 10_000) as u64)).await;
        server.unpause();
        load.progress(100).await;
    }
    load.judge("SIGSTOP", times(1, 5), Loss::None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_are_cut() {
    let Some(server) = Server::start() else { return };
    let proxies = [Proxy::start(server.address()).await, Proxy::start(server.address()).await];
    let [writers, reader] = [0, 1].map(|n: usize| server.url_at(proxies[n].address));
    let load = Load::start([&writers, &reader], Durability::Server).await;
    for round in 0..times(20, 300) {
        load.progress(20).await;
        proxies[round % 2].cut();
    }
    load.judge("connections cut", times(20, 300), Loss::None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_are_half_open() {
    let Some(server) = Server::start() else { return };
    let proxy = Proxy::start(server.address()).await;
    let (writers, reader) = (server.url_at(proxy.address), server.url());
    let load = Load::start([&writers, &reader], Durability::Server).await;
    for _ in 0..times(1, 8) {
        load.progress(200).await;
        proxy.freeze();
        tokio::time::sleep(PATIENCE + Duration::from_millis(500)).await;
        // What was in transit is lost; new connections work.
        proxy.cut();
        proxy.thaw();
        load.progress(100).await;
    }
    load.judge("half-open connections", times(1, 8), Loss::None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn backends_are_terminated() {
    let Some(server) = Server::start() else { return };
    let url = server.url();
    let client = client(&server).await;
    let load = Load::start([&url, &url], Durability::Server).await;
    for _ in 0..times(15, 200) {
        load.progress(30).await;
        let others = "select pg_terminate_backend(pid) from pg_stat_activity
            where backend_type = 'client backend' and pid <> pg_backend_pid()";
        client.execute(others, &[]).await.unwrap();
    }
    load.judge("pg_terminate_backend on all", times(15, 200), Loss::None).await;
}

/// The standby that takes over lacks the last appends: its connection was dead, and no append waited for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_that_is_behind_is_promoted() {
    let Some(mut primary) = Server::start() else { return };
    let proxy = Proxy::start(primary.address()).await;
    let url = primary.url_at(proxy.address);
    let load = Load::start([&url, &url], Durability::Server).await;
    for _ in 0..times(1, 10) {
        let line = Proxy::start(primary.address()).await;
        let standby = primary.standby(line.address);
        load.progress(200).await;
        line.freeze();
        load.progress(200).await;
        primary.kill();
        standby.promote();
        proxy.lead_to(standby.address());
        proxy.cut();
        load.progress(100).await;
        primary = standby;
    }
    load.judge("standby promoted that is behind", times(1, 10), Loss::Told).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_database_is_restored_from_an_older_dump() {
    let Some(server) = Server::start() else { return };
    let url = server.url();
    let load = Load::start([&url, &url], Durability::Server).await;
    let schema = &load.schema;
    for _ in 0..times(1, 10) {
        load.progress(200).await;
        let dump = server.program("pg_dump", &["-n", schema]);
        load.progress(200).await;
        // In one step, as `pg_restore --single-transaction` does.
        let tables = ["place", "kept", "asked", "floor", "name", "head", "entry", "key", "garbage"]
            .map(|table| format!("{schema}.{table}"))
            .join(", ");
        let drop = format!("begin; lock table {tables}; drop schema {schema} cascade;\n");
        let script = [drop.as_bytes(), &dump, b"commit;"].concat();
        // It locks the tables one after the other, in an order that can deadlock with a call that holds one: then it or
        // the call fails, and is repeated.
        while let Err(error) = server.try_script(&script) {
            assert!(error.contains("deadlock detected"), "{error}");
        }
        load.progress(100).await;
    }
    load.judge("restored from an older dump", times(1, 10), Loss::Told).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_clock_of_the_server_steps() {
    let Some(server) = Server::start() else { return };
    let url = server.url();
    let client = client(&server).await;
    let load = Load::start([&url, &url], Durability::Server).await;
    let schema = &load.schema;
    for round in 0..times(6, 100) {
        // By less in total than the hour that events are kept: otherwise readers of older events would be reset.
        let offset = [-1_200_000, 1_200_000, 0][round % 3];
        let step = format!(
            "create or replace function {schema}.now_ms() returns bigint language sql volatile as
            $$ select (extract(epoch from clock_timestamp()) * 1000)::bigint + {offset} $$"
        );
        client.batch_execute(&step).await.unwrap();
        load.progress(50).await;
    }
    load.judge("clock stepped by up to 40 minutes", times(6, 100), Loss::None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_network_is_slow() {
    let Some(server) = Server::start() else { return };
    let proxies = [Proxy::start(server.address()).await, Proxy::start(server.address()).await];
    let [writers, reader] = [0, 1].map(|n: usize| server.url_at(proxies[n].address));
    let load = Load::start([&writers, &reader], Durability::Server).await;
    for round in 0..times(2, 20) {
        load.progress(100).await;
        proxies[round % 2].delay(Duration::from_millis(100));
        load.progress(50).await;
        proxies[round % 2].delay(Duration::ZERO);
    }
    load.judge("network slowed by 200 ms", times(2, 20), Loss::None).await;
}

/// A retryable error in time while the server is unreachable, bounded memory, and no state left when it is back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_server_everything_fails_in_time() {
    let Some(server) = Server::start() else { return };
    let options = PostgresStore::options().timeout(PATIENCE).connections(2);
    let store = options.connect(&server.url()).await.unwrap();
    store.migrate().await.unwrap();
    server.kill();
    let began = Instant::now();
    let mut callers = JoinSet::new();
    for n in 0..2000 {
        let store = store.clone();
        callers.spawn(async move {
            let error = store.append(&a(), Append::new([Event::text(n.to_string())])).await.expect_err("no server");
            assert!(error.is_retryable(), "{error:?}");
        });
    }
    callers.join_all().await;
    assert!(store.read(&a(), Start::Earliest, Limit::default()).await.unwrap_err().is_retryable());
    assert!(store.heads(&[a()]).await.unwrap_err().is_retryable());
    assert!(store.delete(&a()).await.unwrap_err().is_retryable());
    assert!(began.elapsed() < PATIENCE * 10, "{:?}", began.elapsed());
    assert_eq!(store.stats().waiting, 0);
    server.resume();
    store.append(&a(), Append::new([Event::text("back")])).await.unwrap();
}

#[tokio::test]
async fn a_server_that_is_away_for_long_keeps_nobody_busy() {
    let Some(server) = Server::start() else { return };
    let store = PostgresStore::options().timeout(PATIENCE).connect(&server.url()).await.unwrap();
    store.migrate().await.unwrap();
    away::check(store, server, |server| server.kill(), async |server| server.resume()).await;
}

fn times(short: usize, long: usize) -> usize {
    if is_long() { long } else { short }
}
