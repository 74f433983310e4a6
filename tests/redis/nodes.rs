//! Nodes with a hub each on one server: clients that move between them, and the cost of many followed channels.

use std::time::{Duration, Instant};

use tower_events::{
    Channels, Delivery, Event, Hub, HubOptions, RedisStore, Store, Subscriber, Subscription,
    store::{Append, Limit, Outcome, Reason, Start},
};

use super::{
    load::{channel, large, long, node, times},
    server::Server,
    support::server,
};

async fn hub(server: &Server) -> Hub {
    Hub::with_options(node(&server.url()).await, HubOptions::default().check_every(Duration::from_millis(500)))
}

async fn next(subscriber: &mut Subscriber) -> Delivery {
    loop {
        let next = tokio::time::timeout(Duration::from_secs(30), subscriber.next()).await;
        match next.expect("a delivery in time").expect("no end") {
            Ok(delivery) => return delivery,
            // The server is unreachable; the next attempt reads again.
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

/// Collects texts up to this one, and the reasons of the resets before it.
async fn until(subscriber: &mut Subscriber, last: &str) -> (Vec<String>, Vec<Reason>) {
    let (mut texts, mut resets) = (Vec::new(), Vec::new());
    loop {
        match next(subscriber).await {
            Delivery::Events(events) => {
                texts.extend(events.entries().map(|entry| entry.data.as_text().unwrap_or_default().to_owned()));
            }
            Delivery::Reset(reset) => resets.push(reset.reason),
            other => panic!("{other:?}"),
        }
        if texts.last().is_some_and(|text| text == last) {
            return (texts, resets);
        }
    }
}

async fn publish(hub: &Hub, name: &str, text: &str) {
    let event = Event::text(text).keyed(text).expect("an event");
    while let Err(error) = hub.publish(&channel(name), event.clone()).await {
        assert!(error.is_retryable(), "{error:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_moves_between_nodes_with_the_same_cursor() {
    let server = server!();
    let hubs = [hub(&server).await, hub(&server).await];
    let both = Channels::new([channel("a"), channel("b")]).unwrap();
    let mut subscriber = hubs[0].subscribe(Subscription::new(both.clone())).await.unwrap();
    let mut seen = Vec::new();
    for round in 0..20 {
        for n in 0..5 {
            publish(&hubs[(round + n) % 2], "a", &format!("{round}/{n}")).await;
        }
        let (texts, resets) = until(&mut subscriber, &format!("{round}/4")).await;
        assert!(resets.is_empty());
        seen.extend(texts);
        // Disconnect, append meanwhile, and continue on the other node.
        let cursors = subscriber.cursors();
        drop(subscriber);
        publish(&hubs[round % 2], "a", &format!("{round}/5")).await;
        let resumed = Subscription::new(both.clone()).resume(&cursors);
        subscriber = hubs[(round + 1) % 2].subscribe(resumed).await.unwrap();
    }
    let (texts, _) = until(&mut subscriber, "19/5").await;
    seen.extend(texts);
    let expected: Vec<_> = (0..20).flat_map(|round| (0..6).map(move |n| format!("{round}/{n}"))).collect();
    assert_eq!(seen, expected);
}

async fn subscribers_through_a_restart(settings: &[&str]) -> Option<Vec<Vec<Reason>>> {
    let mut server = Server::start(settings).await?;
    let hubs = [hub(&server).await, hub(&server).await];
    let mut subscribers = Vec::new();
    for n in 0..40 {
        subscribers.push(hubs[n % 2].subscribe(Subscription::new(channel("a"))).await.expect("a subscription"));
    }
    for n in 0..10 {
        publish(&hubs[n % 2], "a", &n.to_string()).await;
    }
    for subscriber in &mut subscribers {
        until(subscriber, "9").await;
    }
    server.kill();
    server.run().await;
    for n in 10..20 {
        publish(&hubs[n % 2], "a", &n.to_string()).await;
    }
    let mut all = Vec::new();
    for subscriber in &mut subscribers {
        let (texts, resets) = until(subscriber, "19").await;
        assert_eq!(texts, (10..20).map(|n| n.to_string()).collect::<Vec<_>>());
        all.push(resets);
    }
    Some(all)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_stay_connected_through_a_restart() {
    let Some(resets) = subscribers_through_a_restart(&["--appendonly", "yes"]).await else { return };
    assert!(resets.iter().all(Vec::is_empty), "{resets:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_reader_is_reset_once_when_everything_was_lost() {
    let Some(resets) = subscribers_through_a_restart(&[]).await else { return };
    assert!(resets.iter().all(|resets| *resets == [Reason::EpochChanged]), "{resets:?}");
}

/// Clients that reconnect after the lost tail was replaced by a longer one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tail_that_was_regrown_by_others_continues_no_cursor() {
    for promoted in [true, false] {
        let (mut first, second) = (server!(), server!("--repl-diskless-sync-delay", "0"));
        let old = node(&first.url()).await;
        let texts = |from: usize, to| Append::new((from..to).map(|n| Event::text(n.to_string())));
        let kept = old.append(&channel("a"), texts(0, 10)).await.unwrap().entries;
        if promoted {
            second.follow(&first).await;
            second.command(&["REPLICAOF", "NO", "ONE"]).await;
        } else {
            first.command(&["SAVE"]).await;
        }
        let lost = old.append(&channel("a"), texts(10, 20)).await.unwrap().entries;
        first.kill();
        if !promoted {
            first.run().await;
        }
        let new = node(&if promoted { second.url() } else { first.url() }).await;
        for grown in 0..15_u64 {
            for entry in &lost {
                let page = new.read(&channel("a"), Start::After(entry.cursor), Limit::default()).await.unwrap();
                let ahead = entry.cursor.seq > 10 + grown;
                let reason = if ahead { Reason::Ahead } else { Reason::EpochChanged };
                assert_eq!(page.outcome, Outcome::Reset(reason));
                assert_eq!(page.entries.len() as u64, 10 + grown);
            }
            for entry in &kept {
                let page = new.read(&channel("a"), Start::After(entry.cursor), Limit::default()).await.unwrap();
                assert_eq!(page.outcome, Outcome::Continued);
            }
            new.append(&channel("a"), Append::new([Event::text("new")])).await.unwrap();
        }
    }
}

/// The cursor of an absent channel, given before a failover lost the rise of the floor.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_floor_that_was_lost_and_raised_again_continues_no_cursor() {
    let mut server = server!();
    let store = node(&server.url()).await;
    let text = || Append::new([Event::text("x")]);
    store.append(&channel("other"), text()).await.unwrap();
    server.command(&["SAVE"]).await;
    store.delete(&channel("other")).await.unwrap();
    let absent = store.read(&channel("a"), Start::Latest, Limit::POSITION).await.unwrap().next;
    server.kill();
    server.run().await;
    let store = node(&server.url()).await;
    store.append(&channel("a"), text()).await.unwrap();
    store.delete(&channel("a")).await.unwrap();
    store.delete(&channel("other")).await.unwrap();
    let page = store.read(&channel("a"), Start::After(absent), Limit::default()).await.unwrap();
    assert!(matches!(page.outcome, Outcome::Reset(_)), "{page:?}");
}

/// At most one read per event and node, however many subscribers; here hints carry the events and none is needed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_subscribers_cost_the_server_nothing() {
    let server = server!();
    let (publisher, hub) = (hub(&server).await, Hub::new(node(&server.url()).await));
    let mut subscribers = Vec::new();
    for _ in 0..300 {
        subscribers.push(hub.subscribe(Subscription::new(channel("a"))).await.unwrap());
    }
    publish(&publisher, "a", "first").await;
    for subscriber in &mut subscribers {
        until(subscriber, "first").await;
    }
    let scripts = async || -> u64 {
        let stats = server.info("cmdstat_evalsha").await;
        stats.split(['=', ',']).nth(1).and_then(|calls| calls.parse().ok()).expect("calls")
    };
    let before = scripts().await;
    for n in 0..100 {
        publish(&publisher, "a", &n.to_string()).await;
    }
    for subscriber in &mut subscribers {
        until(subscriber, "99").await;
    }
    let calls = scripts().await - before;
    assert!(calls < 150, "{calls} scripts for 100 appends");
}

/// The cost of following 10 000 channels for a node; prints figures.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_channels_are_followed() {
    let server = server!();
    let count = times(10_000, 10_000);
    let options = RedisStore::options().retention(large()).timeout(Duration::from_secs(20));
    let (store, publisher) =
        (options.clone().connect(&server.url()).await.unwrap(), options.connect(&server.url()).await.unwrap());
    let hub = Hub::new(store.clone());
    let (memory, began) = (resident(), Instant::now());
    let names: Vec<_> = (0..count).map(|n| channel(&format!("room:{n}"))).collect();
    let mut subscribers = Vec::new();
    for name in &names {
        subscribers.push(hub.subscribe(Subscription::new(name)).await.unwrap());
    }
    println!("subscribed to {count} channels in {:?}; {} KiB", began.elapsed(), resident().saturating_sub(memory));
    let began = Instant::now();
    assert_eq!(store.heads(&names).await.unwrap().len(), count);
    println!("heads of {count} absent channels in {:?}", began.elapsed());
    let began = Instant::now();
    for some in names.chunks(128) {
        let appends = some.iter().map(|name| {
            let (publisher, name) = (publisher.clone(), name.clone());
            tokio::spawn(async move { publisher.append(&name, Append::new([Event::text("x")])).await.map(drop) })
        });
        for append in appends.collect::<Vec<_>>() {
            append.await.unwrap().unwrap();
        }
    }
    for subscriber in &mut subscribers {
        until(subscriber, "x").await;
    }
    println!("one event on each through another node, delivered in {:?}", began.elapsed());
    let began = Instant::now();
    store.heads(&names).await.unwrap();
    println!("heads of {count} channels in {:?}", began.elapsed());
    let mut took = Vec::new();
    for n in (0..count).step_by(if long() { 7 } else { 101 }) {
        let began = Instant::now();
        publisher.append(&names[n], Append::new([Event::text("y")])).await.unwrap();
        until(&mut subscribers[n], "y").await;
        took.push(began.elapsed());
    }
    took.sort_unstable();
    println!(
        "publish to delivery among {count}: median {:?}, p99 {:?}",
        took[took.len() / 2],
        took[took.len() * 99 / 100]
    );
    let listening = server.command(&["CLIENT", "LIST", "TYPE", "pubsub"]).await;
    assert_eq!(listening.matches("id=").count(), 1, "{listening}");
    let clients = server.info("connected_clients").await;
    println!("connections of two nodes: {clients}");
}

/// Memory of this process, in KiB; 0 where it is not available.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}
