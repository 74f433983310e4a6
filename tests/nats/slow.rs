//! A node so distant that its new logs look lost.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use tower_events::{
    Channel, Event, NatsStore, Store,
    store::{Append, Limit, Outcome, Start},
};

use crate::{
    faults::api,
    server::{Server, servers},
    wire::{Slow, Wire},
};

/// The latency in each direction: longer than other nodes wait for an announced log.
const DELAY: Duration = Duration::from_millis(500);

fn channel() -> Channel {
    Channel::new("a").expect("a channel")
}

async fn store(url: &str) -> NatsStore {
    NatsStore::options().timeout(Duration::from_secs(30)).connect(url).await.expect("a store")
}

/// Other nodes read continually, and raise the floor whenever an announced log does not appear.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_distant_node_starts_a_channel_while_others_read_it() {
    for binary in servers() {
        let server = Server::start(&binary);
        let wire = Wire::to(server.addr()).await;
        let (far, near) = (store(&format!("nats://{}", wire.addr())).await, store(&server.url()).await);
        let stop = Arc::new(AtomicBool::new(false));
        let reading = tokio::spawn({
            let (near, stop) = (near.clone(), Arc::clone(&stop));
            async move {
                while !stop.load(Ordering::SeqCst) {
                    near.read(&channel(), Start::Earliest, Limit::default()).await.expect("a page");
                }
            }
        });
        wire.slow(Slow { delay: DELAY, bandwidth: None });
        let begun = Instant::now();
        let done = far.append(&channel(), Append::new([Event::text("x")])).await;
        println!("begun in {:?}", begun.elapsed());
        stop.store(true, Ordering::SeqCst);
        reading.await.expect("a reader");
        let done = done.expect("an append");
        // Its loss is detected, although other nodes mistook its announcement for that of a lost log.
        let admin = async_nats::connect(server.url()).await.expect("a client");
        let info = api(&admin, "STREAM.INFO.tower-events", "").await;
        let root = info["config"]["subjects"][0].as_str().expect("a subject").trim_end_matches(".>").to_owned();
        api(&admin, "STREAM.PURGE.tower-events", &format!(r#"{{"filter": "{root}.c.YQ"}}"#)).await;
        for cursor in [done.entries[0].prev(), done.head.cursor] {
            let page = near.read(&channel(), Start::After(cursor), Limit::default()).await.expect("a page");
            assert!(matches!(page.outcome, Outcome::Reset(_)), "{page:?}");
        }
    }
}

/// Two nodes that start the same channel do not prevent each other from doing so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_distant_nodes_start_a_channel() {
    for binary in servers() {
        let server = Server::start(&binary);
        let wire = Wire::to(server.addr()).await;
        let url = format!("nats://{}", wire.addr());
        let (one, other) = (store(&url).await, store(&url).await);
        wire.slow(Slow { delay: DELAY, bandwidth: None });
        let begun = Instant::now();
        let (of, append) = (channel(), || Append::new([Event::text("x")]));
        let (first, second) = tokio::join!(one.append(&of, append()), other.append(&of, append()));
        println!("both in {:?}", begun.elapsed());
        let mut seqs = [first, second].map(|done| done.expect("an append").head.cursor.seq);
        seqs.sort_unstable();
        assert_eq!(seqs[1], seqs[0] + 1);
    }
}
