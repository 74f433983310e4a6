//! The cost of idle channels.

use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tower_events::{Channel, Event, Hub, Store, Subscription, store::Append, stores::postgres::PostgresStore};

use super::{harness::client, is_long, server::Server, support::until};

/// Processor time of this process.
fn used() -> Duration {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap();
    let after_name = text.rsplit_once(')').unwrap().1;
    let ticks = after_name.split_whitespace().skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap()).sum::<u64>();
    Duration::from_millis(ticks * 10)
}

/// How many transactions the server has run; each statement of the store is one.
async fn asked(admin: &tokio_postgres::Client) -> i64 {
    let sql = "select xact_commit + xact_rollback from pg_stat_database where datname = current_database()";
    admin.query_one(sql, &[]).await.unwrap().get(0)
}

/// Half of the channels have events, the others were never written to.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_followed_channels_cost_a_few_requests_a_second() {
    let (count, lasting) = if is_long() { (10_000, 90) } else { (2_000, 12) };
    // Without the transactions that the server runs by itself.
    let Some(server) = Server::start_with("-c autovacuum=off") else { return };
    let connect = async || PostgresStore::connect(&server.url()).await.unwrap();
    let publisher = connect().await;
    publisher.migrate().await.unwrap();
    let names: Vec<_> = (0..count).map(|n| Channel::new(format!("room:{n}")).unwrap()).collect();
    for part in names[..count / 2].chunks(128) {
        let mut appends = JoinSet::new();
        for name in part {
            let (publisher, name) = (publisher.clone(), name.clone());
            appends.spawn(async move { publisher.append(&name, Append::new([Event::text("x")])).await.map(drop) });
        }
        appends.join_all().await.into_iter().for_each(|done| done.unwrap());
    }
    drop(publisher);
    let hub = Hub::new(connect().await);
    let mut subscribers = Vec::new();
    for name in &names {
        subscribers.push(hub.subscribe(Subscription::new(name)).await.unwrap());
    }
    let admin = client(&server).await;
    // An idle connection reports its statistics within 10 s.
    let told_within = 11;
    until("the initial requests are over", async || {
        let before = asked(&admin).await;
        tokio::time::sleep(Duration::from_secs(told_within)).await;
        asked(&admin).await - before <= 5 * told_within as i64
    })
    .await;
    let (begun, before, asked_before) = (Instant::now(), used(), asked(&admin).await);
    tokio::time::sleep(Duration::from_secs(lasting)).await;
    let (seconds, share) = (begun.elapsed().as_secs_f64(), (used() - before).as_secs_f64());
    let (questions, share) = ((asked(&admin).await - asked_before - 1) as f64 / seconds, share / seconds);
    println!("{count} followed channels: {questions:.2} requests/s, {:.2} % of a core", share * 100.0);
    assert!(questions <= 5.0, "{questions} requests a second");
    // While other tests run, the figure means nothing.
    assert!(!is_long() || share < 0.05, "{share} of a core, without optimisation");
    drop(subscribers);
}
