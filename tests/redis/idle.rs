//! The cost of idle channels.

use std::time::{Duration, Instant};

use tower_events::{Channel, Event, Hub, RedisStore, Store, Subscription, store::Append};

use super::{
    load::long,
    server::Server,
    support::{server, until},
};

/// Processor time of this process.
fn used() -> Duration {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = text.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks =
        after_name.split_whitespace().skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum::<u64>();
    Duration::from_millis(ticks * 10)
}

/// The commands that the server executed, and how long they took.
async fn executed(server: &Server) -> (Vec<(String, u64)>, Duration) {
    let info = server.command(&["INFO", "commandstats"]).await;
    let field =
        |line: &str, name: &str| line.split([':', ',']).find_map(|field| field.strip_prefix(name)?.parse().ok());
    let (mut counts, mut micros) = (Vec::new(), 0);
    for line in info.lines().filter(|line| line.starts_with("cmdstat_")) {
        let name = line.trim_start_matches("cmdstat_").split(':').next().unwrap_or_default();
        // Sent by this test itself.
        if !matches!(name, "info" | "quit") {
            counts.push((name.to_owned(), field(line, "calls=").unwrap_or(0)));
            micros += field(line, "usec=").unwrap_or(0);
        }
    }
    (counts, Duration::from_micros(micros))
}

/// The count of the most frequent command.
fn most(counts: &[(String, u64)]) -> u64 {
    counts.iter().map(|(_, count)| *count).max().unwrap_or(0)
}

/// Half of the channels have events, the others were never written to. A request is sent together with those for the
/// time and for the primary check, so the count of the most frequent command is the number of requests.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_followed_channels_cost_a_few_requests_a_second() {
    let (count, lasting) = if long() { (10_000, 60) } else { (5_000, 10) };
    let server = server!();
    let options = || RedisStore::options().timeout(Duration::from_secs(20));
    let publisher = options().connect(&server.url()).await.unwrap();
    let names: Vec<_> = (0..count).map(|n| Channel::new(format!("room:{n}")).unwrap()).collect();
    for part in names[..count / 2].chunks(128) {
        let mut appends = tokio::task::JoinSet::new();
        for name in part {
            let (publisher, name) = (publisher.clone(), name.clone());
            appends.spawn(async move { publisher.append(&name, Append::new([Event::text("x")])).await.map(drop) });
        }
        while let Some(done) = appends.join_next().await {
            done.unwrap().unwrap();
        }
    }
    drop(publisher);
    let hub = Hub::new(options().connect(&server.url()).await.unwrap());
    let mut subscribers = Vec::new();
    for name in &names {
        subscribers.push(hub.subscribe(Subscription::new(name)).await.unwrap());
    }
    until("the initial requests are over", Duration::from_secs(60), async || {
        let before = most(&executed(&server).await.0);
        tokio::time::sleep(Duration::from_secs(1)).await;
        most(&executed(&server).await.0) - before <= 10
    })
    .await;
    let (begun, before, (counts, took)) = (Instant::now(), used(), executed(&server).await);
    tokio::time::sleep(Duration::from_secs(lasting)).await;
    let (seconds, (after, took_after)) = (begun.elapsed().as_secs_f64(), executed(&server).await);
    let share = (used() - before).as_secs_f64() / seconds;
    let of =
        |counts: &[(String, u64)], name: &str| counts.iter().find(|(of, _)| of == name).map_or(0, |(_, count)| *count);
    let asked: Vec<_> = after
        .iter()
        .map(|(name, count)| (name, (count - of(&counts, name)) as f64 / seconds))
        .filter(|asked| asked.1 > 0.0)
        .collect();
    let most = asked.iter().map(|asked| asked.1).fold(0.0, f64::max);
    println!(
        "{count} followed channels: {most:.2} requests/s, {:.2} % of a core, and {:.2} % at the server: {asked:.2?}",
        share * 100.0,
        (took_after - took).as_secs_f64() / seconds * 100.0,
    );
    assert!(most <= 5.0, "{most} requests a second: {asked:?}");
    // While other tests run, the figure means nothing.
    assert!(!long() || share < 0.05, "{share} of a core, without optimisation");
    drop(subscribers);
}
