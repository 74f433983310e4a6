//! The cost of idle channels.

use std::time::{Duration, Instant};

use futures_core::Stream;
use tower_events::{Channel, Event, Hub, NatsStore, Store, Subscription, store::Append};

use crate::server::{Server, servers};

/// Processor time of this process.
fn used() -> Duration {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = text.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks =
        after_name.split_whitespace().skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum::<u64>();
    Duration::from_millis(ticks * 10)
}

/// Half of the channels have events, the others were never written to.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_followed_channels_cost_a_few_requests_a_second() {
    let is_long = std::env::var_os("TOWER_EVENTS_LONG").is_some();
    let (count, lasting) = if is_long { (10_000, 60) } else { (2_000, 10) };
    for binary in servers() {
        let server = Server::start(&binary);
        let options = || NatsStore::options().timeout(Duration::from_secs(20));
        let publisher = options().connect(&server.url()).await.expect("a store");
        let names: Vec<_> = (0..count).map(|n| Channel::new(format!("room:{n}")).expect("a channel")).collect();
        for part in names[..count / 2].chunks(128) {
            let mut appends = tokio::task::JoinSet::new();
            for name in part {
                let (publisher, name) = (publisher.clone(), name.clone());
                appends.spawn(async move { publisher.append(&name, Append::new([Event::text("x")])).await.map(drop) });
            }
            while let Some(done) = appends.join_next().await {
                done.expect("a task").expect("an append");
            }
        }
        drop(publisher);
        let hub = Hub::new(options().connect(&server.url()).await.expect("a store"));
        let mut subscribers = Vec::new();
        for name in &names {
            subscribers.push(hub.subscribe(Subscription::new(name)).await.expect("a subscription"));
        }
        let admin = async_nats::connect(server.url()).await.expect("a client");
        // After the initial requests.
        tokio::time::sleep(Duration::from_secs(5)).await;
        let mut questions = admin.subscribe(">").await.expect("a subscription");
        admin.flush().await.expect("a server");
        let (begun, before, mut asked) = (Instant::now(), used(), std::collections::BTreeMap::<String, usize>::new());
        while begun.elapsed() < Duration::from_secs(lasting) {
            let next = std::future::poll_fn(|cx| Stream::poll_next(std::pin::Pin::new(&mut questions), cx));
            if let Ok(Some(message)) = tokio::time::timeout(Duration::from_millis(200), next).await {
                // Responses and heartbeats go to inboxes, stored messages are delivered under their own subject, and
                // the server's own events are copies.
                let subject = message.subject.as_str();
                let is_answer =
                    subject.starts_with("_INBOX") || [".c.", ".b.", ".f."].iter().any(|of| subject.contains(of));
                if !is_answer && !subject.starts_with("$JS.EVENT") {
                    *asked.entry(subject.split('.').take(5).collect::<Vec<_>>().join(".")).or_default() += 1;
                }
            }
        }
        let seconds = begun.elapsed().as_secs_f64();
        let (all, share) = (asked.values().sum::<usize>() as f64 / seconds, (used() - before).as_secs_f64() / seconds);
        println!("{count} followed channels: {all:.2} requests/s, {:.2} % of a core: {asked:?}", share * 100.0);
        assert!(all <= 5.0, "{all} requests a second: {asked:?}");
        // While other tests run, the figure means nothing.
        assert!(!is_long || share < 0.05, "{share} of a core, without optimisation");
        drop(subscribers);
    }
}

/// As a hub requests the heads of many channels, half of which were never written to.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heads_requested_in_parts_cost_one_scan_of_all_channels() {
    for binary in servers() {
        let server = Server::start(&binary);
        let store = NatsStore::connect(&server.url()).await.expect("a store");
        let names: Vec<_> = (0..600).map(|n| Channel::new(format!("room:{n}")).expect("a channel")).collect();
        for name in names.iter().step_by(2) {
            store.append(name, Append::new([Event::text("x")])).await.expect("an append");
        }
        let admin = async_nats::connect(server.url()).await.expect("a client");
        let mut looks = admin.subscribe("$JS.API.CONSUMER.CREATE.>").await.expect("a subscription");
        admin.flush().await.expect("a server");
        let fresh = NatsStore::connect(&server.url()).await.expect("a store");
        for part in names.chunks(100) {
            let heads = fresh.heads(part).await.expect("heads");
            assert!(
                heads.iter().enumerate().all(|(nth, head)| head.cursor.seq == u64::from(nth % 2 == 0)),
                "{heads:?}"
            );
        }
        admin.publish("$JS.API.CONSUMER.CREATE.end", "".into()).await.expect("a message");
        let mut count = 0;
        loop {
            let next = std::future::poll_fn(|cx| Stream::poll_next(std::pin::Pin::new(&mut looks), cx)).await;
            if next.expect("a question").subject.ends_with("end") {
                break;
            }
            count += 1;
        }
        // One for the records, one for the announcements and one for the floors.
        assert!(count <= 3, "{count} looks");
    }
}
