//! Nodes at different distances that write to one channel: each gets its share.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use tower_events::{Channel, Event, NatsStore, Store, store::Append};

use crate::{
    faults::times,
    server::{Server, servers},
    wire::{Slow, Wire},
};

/// The latency in each direction.
const DELAY: Duration = Duration::from_millis(20);

/// What a node achieved: successes, failures and the longest call.
#[derive(Debug, Default)]
struct Share {
    done: usize,
    failed: usize,
    longest: Duration,
}

impl Share {
    fn note(&mut self, took: Duration, done: Option<()>) {
        self.longest = self.longest.max(took);
        *(if done.is_some() { &mut self.done } else { &mut self.failed }) += 1;
    }
}

async fn append(store: &NatsStore) -> Option<()> {
    let channel = Channel::new("busy").expect("a channel");
    let done = store.append(&channel, Append::new([Event::text("x")])).await;
    done.inspect_err(|error| println!("{error:?}")).ok().map(drop)
}

/// One call after the other, until stopped.
async fn in_turn(store: NatsStore, stop: Arc<AtomicBool>) -> Share {
    let mut share = Share::default();
    while !stop.load(Ordering::SeqCst) {
        let (begun, done) = (Instant::now(), append(&store).await);
        share.note(begun.elapsed(), done);
    }
    share
}

/// This many calls a second, whether or not earlier ones have ended.
async fn at_rate(store: NatsStore, per_second: u32, stop: Arc<AtomicBool>) -> Share {
    let mut calls = tokio::task::JoinSet::new();
    let mut every = tokio::time::interval(Duration::from_secs(1) / per_second);
    while !stop.load(Ordering::SeqCst) {
        every.tick().await;
        let store = store.clone();
        calls.spawn(async move {
            let begun = Instant::now();
            let done = append(&store).await;
            (begun.elapsed(), done)
        });
    }
    let mut share = Share::default();
    while let Some(done) = calls.join_next().await {
        let (took, done) = done.expect("a call");
        share.note(took, done);
    }
    share
}

async fn stores(server: &Server) -> (NatsStore, NatsStore, Wire) {
    let wire = Wire::to(server.addr()).await;
    let near = NatsStore::connect(&server.url()).await.expect("a store");
    let far = NatsStore::connect(&format!("nats://{}", wire.addr())).await.expect("a store");
    wire.slow(Slow { delay: DELAY, bandwidth: None });
    (near, far, wire)
}

/// The appends a second of a distant node that is alone.
async fn alone(binary: &std::path::Path) -> f64 {
    let server = Server::start(binary);
    let (_, far, _wire) = stores(&server).await;
    let stop = Arc::new(AtomicBool::new(false));
    let run = tokio::spawn(in_turn(far, Arc::clone(&stop)));
    tokio::time::sleep(Duration::from_secs(3)).await;
    stop.store(true, Ordering::SeqCst);
    run.await.expect("a node").done as f64 / 3.0
}

fn lasting() -> Duration {
    Duration::from_secs(times(5) as u64 * 6)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_distant_node_gets_its_share_of_a_busy_channel() {
    for binary in servers() {
        // A fair share of a channel with two writers is half of that.
        let alone = alone(&binary).await;
        for per_second in [50, 200, 0] {
            let server = Server::start(&binary);
            let (near, far, _wire) = stores(&server).await;
            let stop = Arc::new(AtomicBool::new(false));
            let near = match per_second {
                0 => tokio::spawn(in_turn(near, Arc::clone(&stop))),
                rate => tokio::spawn(at_rate(near, rate, Arc::clone(&stop))),
            };
            let far = tokio::spawn(in_turn(far, Arc::clone(&stop)));
            tokio::time::sleep(lasting()).await;
            stop.store(true, Ordering::SeqCst);
            let (near, far) = (near.await.expect("a node"), far.await.expect("a node"));
            let seconds = lasting().as_secs_f64();
            println!(
                "near at {per_second}/s (0: one after the other): near {near:?}, far {far:?}; far alone {alone:.1}/s"
            );
            assert_eq!((near.failed, far.failed), (0, 0), "failed calls");
            assert!(far.done as f64 / seconds >= alone / 2.0 / 3.0, "far: {far:?} of {alone:.1}/s alone");
            let least = if per_second == 0 { 8.0 } else { f64::from(per_second) / 2.0 };
            assert!(near.done as f64 / seconds >= least, "near: {near:?}");
        }
    }
}

/// Three distant nodes and a near one, all as fast as they can.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_distant_nodes_share_among_themselves() {
    for binary in servers() {
        let alone = alone(&binary).await;
        let server = Server::start(&binary);
        let (near, first, wire) = stores(&server).await;
        let mut all = vec![near, first];
        for _ in 0..2 {
            all.push(NatsStore::connect(&format!("nats://{}", wire.addr())).await.expect("a store"));
        }
        let stop = Arc::new(AtomicBool::new(false));
        let running: Vec<_> = all.into_iter().map(|store| tokio::spawn(in_turn(store, Arc::clone(&stop)))).collect();
        tokio::time::sleep(lasting()).await;
        stop.store(true, Ordering::SeqCst);
        let mut shares = Vec::new();
        for node in running {
            shares.push(node.await.expect("a node"));
        }
        println!("near, far, far, far: {shares:?}");
        assert!(shares.iter().all(|share| share.failed == 0), "{shares:?}");
        let least = lasting().as_secs_f64() * alone / 4.0 / 3.0;
        assert!(shares.iter().all(|share| share.done as f64 >= least), "{least:.1} each: {shares:?}");
    }
}
