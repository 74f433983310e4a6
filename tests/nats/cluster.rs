//! Three servers that share one stream, on the loopback interface.

use std::{path::Path, time::Duration};

use tower_events::{
    Channel, Cursor, Event, NatsStore, Retention, Store, StoreError,
    store::{Append, Limit, Outcome, Page, Start},
};

use crate::{
    faults::{api, times},
    load::{Load, Report},
    server::{Server, free_port, servers},
    wire::{Slow, Wire},
};

/// The servers, and the proxy through which the others reach the last one.
struct Cluster {
    servers: Vec<Server>,
    way: Wire,
}

impl Cluster {
    async fn start(binary: &Path) -> Self {
        let ports: Vec<_> = (0..3).map(|_| free_port()).collect();
        let way = Wire::to(([127, 0, 0, 1], ports[2]).into()).await;
        let routes = format!("nats-route://127.0.0.1:{}, nats-route://{}", ports[0], way.addr());
        let servers = ports.iter().enumerate().map(|(nth, port)| {
            // A server must have some route; the last one routes to itself only, so all traffic goes through the proxy.
            let (routes, advertised) = match nth {
                2 => (format!("nats-route://{}", way.addr()), format!(", advertise: \"{}\"", way.addr())),
                _ => (routes.clone(), String::new()),
            };
            let listen = format!("listen: \"127.0.0.1:{port}\", no_advertise: true{advertised}");
            let config = format!("server_name: s{nth}\ncluster {{ name: c, {listen}, routes: [{routes}] }}\n");
            Server::with_config(binary, Some(config))
        });
        let servers = servers.collect();
        Self { servers, way }
    }

    fn url(&self, which: &[usize]) -> String {
        which.iter().map(|nth| self.servers[*nth].url()).collect::<Vec<_>>().join(",")
    }

    /// A store on some of the servers, once the cluster has formed.
    async fn store(&self, which: &[usize]) -> NatsStore {
        let retention = Retention::default().events(1_000_000).bytes(1 << 30);
        let options = NatsStore::options().replicas(3).retention(retention).timeout(Duration::from_secs(3));
        let deadline = std::time::Instant::now() + Duration::from_secs(60);
        loop {
            match options.clone().connect(&self.url(which)).await {
                Ok(store) => return store,
                Err(error) => assert!(std::time::Instant::now() < deadline, "{error:?}"),
            }
        }
    }

    /// Which server leads the stream, once all replicas are up to date.
    async fn leader(&self) -> usize {
        let deadline = std::time::Instant::now() + Duration::from_secs(60);
        loop {
            let admin =
                async_nats::connect(self.url(&[0, 1, 2]).split(',').collect::<Vec<_>>()).await.expect("a client");
            let asked = admin.request("$JS.API.STREAM.INFO.tower-events", "".into());
            if let Ok(Ok(answer)) = tokio::time::timeout(Duration::from_secs(2), asked).await {
                let info: serde_json::Value = serde_json::from_slice(&answer.payload).expect("JSON");
                let replicas = info["cluster"]["replicas"].as_array().map_or(0, |all| {
                    let is_there = |replica: &&serde_json::Value| {
                        replica["current"].as_bool() == Some(true) && replica["offline"].as_bool() != Some(true)
                    };
                    all.iter().filter(is_there).count()
                });
                let leader = info["cluster"]["leader"].as_str().and_then(|name| name.strip_prefix('s')?.parse().ok());
                if let (Some(leader), 2) = (leader, replicas) {
                    return leader;
                }
            }
            assert!(std::time::Instant::now() < deadline, "the replicas do not get up to date");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

async fn is_at_least_2_11(binary: &Path) -> bool {
    let server = Server::start(binary);
    async_nats::connect(server.url()).await.expect("a client").is_server_compatible(2, 11, 0)
}

fn channel(name: &str) -> Channel {
    Channel::new(name).expect("a channel")
}

/// With server 2.11 or newer: after a leader of 2.9.10 was killed, replicas hold different messages at the same
/// sequences, so that each read may see another log.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_leader_loses_nothing_acknowledged() {
    for binary in servers() {
        if !is_at_least_2_11(&binary).await {
            eprintln!("=== NOT SHOWN: {} is too old to lose a leader ===", binary.display());
            continue;
        }
        let (mut cluster, mut sum) = (Cluster::start(&binary).await, Report::default());
        let repetitions = times(10);
        for _ in 0..repetitions {
            let nodes = vec![cluster.store(&[0, 1, 2]).await, cluster.store(&[2, 1, 0]).await];
            let load = Load::start(nodes, cluster.store(&[1, 2, 0]).await, &channel("a")).await;
            load.more(100).await;
            let leader = cluster.leader().await;
            cluster.servers[leader].kill();
            // The other two elect a leader, and continue.
            load.more(100).await;
            cluster.servers[leader].run();
            load.more(100).await;
            sum.add(load.end().await);
            cluster.leader().await;
        }
        sum.show("leader of three servers killed -9 while two nodes write", &binary, repetitions);
        assert!(sum.is_perfect(), "{sum:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_is_behind_never_decides_a_reset() {
    for binary in servers() {
        let cluster = Cluster::start(&binary).await;
        let (near, far) = (cluster.store(&[0, 1]).await, cluster.store(&[2]).await);
        let of = channel("a");
        let first = append(&near, &of, "first").await;
        read(&far, &of, Start::After(first), Limit::default()).await;
        step_down(&cluster, 2).await;
        cluster.way.slow(Slow { delay: Duration::from_millis(150), bandwidth: None });
        let (mut before, mut early) = (first, 0);
        for n in 0.. {
            // Acknowledged once it is on two of three servers; the third one answers its own clients, and is behind.
            append(&near, &of, &n.to_string()).await;
            let page = read(&far, &of, Start::After(before), Limit::default()).await;
            assert_eq!(page.outcome, Outcome::Continued, "{n}: from an older position");
            early += u32::from(page.entries.is_empty());
            let again = append(&near, &of, &format!("again {n}")).await;
            let page = read(&far, &of, Start::After(again), Limit::default()).await;
            assert_eq!(page.outcome, Outcome::Continued, "{n}: from a position that the replica does not have");
            let born = channel(&format!("new {n}"));
            let at = append(&near, &born, "x").await;
            let page = read(&far, &born, Start::After(at), Limit::default()).await;
            assert_eq!(page.outcome, Outcome::Continued, "{n}: of a channel that the replica does not have");
            let own = append(&far, &of, &format!("own {n}")).await;
            let page = read(&far, &of, Start::Latest, Limit::POSITION).await;
            assert_eq!(page.next, own, "{n}: of what was written here");
            before = own;
            // On a busy machine an append may take longer than the replica is behind.
            if n >= 7 && early > 0 {
                break;
            }
            assert!(n < 50, "the replica was never behind, so the test shows nothing");
        }
        cluster.way.slow(Slow::default());
        let deadline = std::time::Instant::now() + Duration::from_secs(30);
        while read(&far, &of, Start::Latest, Limit::POSITION).await.next != before {
            assert!(std::time::Instant::now() < deadline, "the replica does not catch up");
        }
    }
}

/// Reads again when a busy machine was too slow: what counts is what the page says.
async fn read(store: &NatsStore, of: &Channel, start: Start, limit: Limit) -> Page {
    let deadline = std::time::Instant::now() + Duration::from_secs(30);
    loop {
        match store.read(of, start, limit).await {
            Ok(page) => return page,
            Err(error) => assert!(error.is_retryable() && std::time::Instant::now() < deadline, "{error:?}"),
        }
    }
}

async fn append(store: &NatsStore, to: &Channel, text: &str) -> Cursor {
    let deadline = std::time::Instant::now() + Duration::from_secs(30);
    loop {
        match store.append(to, Append::new([Event::text(text).keyed(text).expect("a key")])).await {
            Ok(done) => return done.receipts[0].cursor,
            Err(error @ (StoreError::Unavailable(_) | StoreError::Unknown(_))) => {
                assert!(std::time::Instant::now() < deadline, "{error:?}");
            }
            Err(error) => panic!("{error:?}"),
        }
    }
}

/// Makes another server lead the stream.
async fn step_down(cluster: &Cluster, from: usize) {
    while cluster.leader().await == from {
        let admin = async_nats::connect(cluster.servers[from].url()).await.expect("a client");
        api(&admin, "STREAM.LEADER.STEPDOWN.tower-events", "").await;
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}
