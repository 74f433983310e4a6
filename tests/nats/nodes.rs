//! Nodes with a hub each: the cost of subscribers and followed channels for the server and the node.

use std::time::{Duration, Instant};

use tower_events::{
    Channel, Delivery, Event, Hub, HubOptions, NatsStore, Store, Subscriber, Subscription, store::Append,
};

use crate::{
    faults::api,
    server::{Server, servers},
};

async fn store(server: &Server) -> NatsStore {
    NatsStore::options().timeout(Duration::from_secs(20)).connect(&server.url()).await.expect("a store")
}

fn channel(name: &str) -> Channel {
    Channel::new(name).expect("a channel")
}

/// Waits for this text.
async fn until(subscriber: &mut Subscriber, last: &str) {
    loop {
        let next = tokio::time::timeout(Duration::from_secs(30), subscriber.next()).await.expect("a delivery in time");
        match next.expect("no end").expect("a delivery") {
            Delivery::Events(events) => {
                if events.entries().any(|entry| entry.data.as_text() == Some(last)) {
                    return;
                }
            }
            other => panic!("{other:?}"),
        }
    }
}

/// The consumer delivers each event to a node once, and nothing is read, however many subscribers there are.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_subscribers_cost_the_server_as_much_as_one() {
    for binary in servers() {
        let mut asked = Vec::new();
        for subscribers in [1, 300] {
            let server = Server::start(&binary);
            let publisher = store(&server).await;
            // Heads are compared by time, not by event.
            let options = HubOptions::default().check_every(Duration::from_secs(3600));
            let hub = Hub::with_options(store(&server).await, options);
            let mut all = Vec::new();
            for _ in 0..subscribers {
                all.push(hub.subscribe(Subscription::new(channel("a"))).await.expect("a subscription"));
            }
            publish(&publisher, "first").await;
            for subscriber in &mut all {
                until(subscriber, "first").await;
            }
            // The subjects of all requests to the server begin like this, whichever server responds.
            let admin = async_nats::connect(server.url()).await.expect("a client");
            let mut questions = admin.subscribe("$JS.API.>").await.expect("a subscription");
            admin.flush().await.expect("a server");
            for n in 0..100 {
                publish(&publisher, &n.to_string()).await;
            }
            for subscriber in &mut all {
                until(subscriber, "99").await;
            }
            admin.publish("$JS.API.end-of-test", "".into()).await.expect("a message");
            let mut reads = 0;
            loop {
                let next =
                    std::future::poll_fn(|cx| futures_core::Stream::poll_next(std::pin::Pin::new(&mut questions), cx));
                match next.await.expect("a question").subject.as_str() {
                    "$JS.API.end-of-test" => break,
                    _ => reads += 1,
                }
            }
            asked.push(reads);
        }
        println!("requests for 100 events with 1 and with 300 subscribers: {asked:?}");
        assert!(asked[1] <= asked[0] + 5 && asked[1] < 50, "{asked:?}");
    }
}

async fn publish(store: &NatsStore, text: &str) {
    store.append(&channel("a"), Append::new([Event::text(text)])).await.expect("an append");
}

/// The cost of following 10 000 channels for a node; prints figures.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_channels_are_followed() {
    const COUNT: usize = 10_000;
    for binary in servers() {
        let server = Server::start(&binary);
        let (followed, publisher) = (store(&server).await, store(&server).await);
        let hub = Hub::new(followed.clone());
        let names: Vec<_> = (0..COUNT).map(|n| channel(&format!("room:{n}"))).collect();
        let (memory, began) = (resident(), Instant::now());
        let mut subscribers = Vec::new();
        for name in &names {
            subscribers.push(hub.subscribe(Subscription::new(name)).await.expect("a subscription"));
        }
        let grown = resident().saturating_sub(memory);
        println!("subscribed to {COUNT} channels in {:?}; {grown} KiB", began.elapsed());
        let began = Instant::now();
        for part in names.chunks(128) {
            let appends = part.iter().map(|name| {
                let (publisher, name) = (publisher.clone(), name.clone());
                tokio::spawn(async move { publisher.append(&name, Append::new([Event::text("x")])).await.map(drop) })
            });
            for append in appends.collect::<Vec<_>>() {
                append.await.expect("a task").expect("an append");
            }
        }
        for subscriber in &mut subscribers {
            until(subscriber, "x").await;
        }
        println!("one event on each through another node, delivered in {:?}", began.elapsed());
        let began = Instant::now();
        assert_eq!(followed.heads(&names).await.expect("heads").len(), COUNT);
        println!("heads of {COUNT} channels in {:?}", began.elapsed());
        let mut took = Vec::new();
        for nth in (0..COUNT).step_by(101) {
            let began = Instant::now();
            publisher.append(&names[nth], Append::new([Event::text("y")])).await.expect("an append");
            until(&mut subscribers[nth], "y").await;
            took.push(began.elapsed());
        }
        took.sort_unstable();
        println!(
            "publish to delivery among {COUNT}: median {:?}, longest {:?}",
            took[took.len() / 2],
            took[took.len() - 1]
        );
        let admin = async_nats::connect(server.url()).await.expect("a client");
        // A scan of all channels uses a consumer for a moment.
        let deadline = Instant::now() + Duration::from_secs(30);
        while api(&admin, "STREAM.INFO.tower-events", "").await["state"]["consumer_count"] != 1 {
            assert!(Instant::now() < deadline, "one consumer per node");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// Memory of this process, in KiB; 0 where it is not available.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}
