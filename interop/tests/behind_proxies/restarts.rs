//! Nodes that are stopped and restarted while clients read.

use std::{
    net::SocketAddr,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use reqwest::Client;
use tokio::{runtime::Runtime, task::JoinSet};

use crate::{
    behind_each_proxy,
    event_source::{self, Counters, Observed},
    nodes::Nodes,
    poll,
    program::{PATIENCE, Stream},
    proxies::Kind,
    publisher::Publisher,
};

behind_each_proxy! {
    nodes_restart_in_turn_and_every_client_gets_every_event_once
    without_a_node_streams_are_told_to_reconnect_and_polls_keep_their_status
}

/// Clients that read streams.
const CLIENTS: usize = 100;
/// Clients that poll.
const POLLERS: usize = 20;
/// Events published before the first restart, of which latencies are measured.
const QUIET: u64 = 50;
const ROUNDS: usize = 3;

fn nodes_restart_in_turn_and_every_client_gets_every_event_once(proxy: Kind) {
    let nodes = Nodes::start(&format!("restarts-{proxy:?}"));
    let Some(proxy) = proxy.start("restarts", nodes.addresses) else { return };
    let Outcome { streams, polls, published } =
        Runtime::new().unwrap().block_on(restart_under_clients(nodes, proxy.address));

    let closed: Vec<_> = streams.iter().chain(&polls).filter_map(|observed| observed.closed.as_ref()).collect();
    assert!(closed.is_empty(), "{} clients were closed for good, the first by {}", closed.len(), closed[0]);
    let all: Vec<_> = (0..published).collect();
    for observed in streams.iter().chain(&polls) {
        assert_eq!(observed.numbers, all, "an event was lost, duplicated or out of order");
        assert_eq!(observed.resets, 0);
    }
    let mut latencies: Vec<_> = streams.iter().flat_map(|observed| &observed.latencies[..QUIET as usize]).collect();
    latencies.sort_unstable();
    let (p50, p99) = (latencies[latencies.len() / 2], latencies[latencies.len() * 99 / 100]);
    let connections = streams.iter().map(|observed| observed.connections).sum::<usize>();
    println!("{published} events, {connections} streams, p50 {p50:?}, p99 {p99:?} before restarts");
    assert!(connections >= CLIENTS * ROUNDS * 2, "not every client had to reconnect each time");
    // An event held back by Nagle's algorithm until a delayed ACK takes more than 100 ms.
    assert!(*p50 < Duration::from_millis(80), "an event takes {p50:?}");
}

struct Outcome {
    streams: Vec<Observed>,
    polls: Vec<Observed>,
    published: u64,
}

async fn restart_under_clients(nodes: Nodes, proxy: SocketAddr) -> Outcome {
    let (client, counters) = (Client::builder().no_proxy().build().unwrap(), Arc::new(Counters::default()));
    let url = format!("http://{proxy}/events?channel=a");
    let stream = |_| event_source::follow(client.clone(), format!("{url}&after=earliest"), counters.clone());
    let streams: JoinSet<_> = (0..CLIENTS).map(stream).collect();
    let polls: JoinSet<_> = (0..POLLERS).map(|_| poll::follow(client.clone(), url.clone())).collect();
    let mut publisher = Publisher::new(client.clone(), proxy);
    publisher.publish_while(|published| published < QUIET).await;
    let counted = counters.clone();
    let restarts = tokio::task::spawn_blocking(move || restart(nodes, &counted));
    publisher.publish_while(|_| !restarts.is_finished()).await;
    let _nodes = restarts.await.unwrap();
    publisher.publish_last().await;

    let observed = async { tokio::join!(streams.join_all(), polls.join_all()) };
    let observed = tokio::time::timeout(Duration::from_secs(60), observed).await;
    let (repeated, away) = (publisher.repeated, counters.sent_away.load(Ordering::Relaxed));
    println!("{repeated} publishes had to be repeated; {away} streams were only told to reconnect");
    let (streams, polls) = observed.expect("every client gets the last event or is closed");
    Outcome { streams, polls, published: publisher.published }
}

/// Restarts the nodes in turn, each when all clients have moved to the other; then both at once, when many clients have been
/// told to reconnect.
fn restart(mut nodes: Nodes, counters: &Counters) -> Nodes {
    let closed = || counters.closed.load(Ordering::Relaxed);
    for n in 0..ROUNDS * 2 {
        let (here, there) = (n % 2, 1 - n % 2);
        nodes.stop(here);
        wait_until("all clients read at the other node", || nodes.readers(there) as usize + closed() >= CLIENTS);
        nodes.start_again(here);
    }
    (0..2).for_each(|which| nodes.stop(which));
    let sent_away = || counters.sent_away.load(Ordering::Relaxed);
    let before = sent_away();
    wait_until("many clients are told to reconnect", || sent_away() - before + closed() >= CLIENTS / 2);
    (0..2).for_each(|which| nodes.start_again(which));
    nodes
}

fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < PATIENCE, "never: {what}");
        std::thread::sleep(Duration::from_millis(20)); // nothing announces it
    }
}

fn without_a_node_streams_are_told_to_reconnect_and_polls_keep_their_status(proxy: Kind) {
    let mut nodes = Nodes::start(&format!("away-{proxy:?}"));
    let Some(proxy) = proxy.start("away", nodes.addresses) else { return };
    (0..2).for_each(|which| nodes.stop(which));

    let stream = ask(proxy.address, "text/event-stream");
    let (head, body) = stream.split_once("\r\n\r\n").unwrap();
    let head = head.to_ascii_lowercase();
    assert!(head.starts_with("http/1.1 200 ") || head.starts_with("http/1.0 200 "), "{stream}");
    assert!(head.contains("\ncontent-type: text/event-stream; charset=utf-8\r"), "{stream}");
    assert!(head.contains("\ncache-control: no-store"), "{stream}");
    assert!(body.contains("event: stream-retry\ndata: {}\nretry: 2000\nid: where-it-was\n\n"), "{stream}");

    let poll = ask(proxy.address, "application/json");
    let status = poll.split(' ').nth(1).unwrap();
    assert!(["502", "503", "504"].contains(&status), "{poll}");
}

fn ask(proxy: SocketAddr, accept: &str) -> String {
    let fields = format!("Host: {proxy}\r\nAccept: {accept}\r\nLast-Event-ID: where-it-was\r\nConnection: close");
    Stream::open(proxy, &format!("GET /events?channel=a HTTP/1.1\r\n{fields}\r\n\r\n")).rest()
}
