//! Reloads of a proxy's configuration under clients, and clients that speak HTTP/2 to it.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    sync::Arc,
    time::{Duration, Instant},
};

use reqwest::Client;
use tokio::{runtime::Runtime, task::JoinSet};

use crate::{
    behind_each_proxy,
    event_source::{self, Counters},
    free_address,
    nodes::Nodes,
    poll,
    program::PATIENCE,
    proxies::{Change, Kind},
    publisher::Publisher,
};

behind_each_proxy! {
    a_reload_of_the_proxy_costs_no_event
    clients_that_speak_http2_get_every_event_over_one_connection
}

const CLIENTS: usize = 20;
const POLLERS: usize = 5;
const RELOADS: usize = 3;

fn a_reload_of_the_proxy_costs_no_event(kind: Kind) {
    let nodes = Nodes::start(&format!("reload-{kind:?}"));
    let (addresses, administration) = (nodes.addresses, free_address());
    let Some(proxy) = kind.start_with("reload", addresses, &generation(kind, 0, administration)) else { return };
    let address = proxy.address;
    let client = Client::builder().no_proxy().build().unwrap();
    Runtime::new().unwrap().block_on(every_client_gets_every_event(client, address, move || {
        for number in 1..=RELOADS {
            let reload = || kind.reload(&proxy, addresses, &generation(kind, number, administration));
            reload();
            let (began, mut again) = (Instant::now(), Duration::from_secs(3));
            while !answers(address, "/healthz")
                .is_some_and(|answer| answer.contains(&format!("x-generation: {number}\r")))
            {
                assert!(began.elapsed() < PATIENCE, "reload {number} has no effect");
                // HAProxy ignores a signal that comes while it executes itself again.
                if began.elapsed() > again {
                    reload();
                    again += Duration::from_secs(3);
                }
                std::thread::sleep(Duration::from_millis(10)); // nothing announces it
            }
        }
        proxy
    }));
}

/// Marks answers, so that a test sees which configuration they come from.
fn generation(kind: Kind, number: usize, administration: SocketAddr) -> Vec<Change> {
    match kind {
        Kind::Nginx => {
            vec![("listen 127.0.0.1:8080;", format!("listen 127.0.0.1:8080; add_header X-Generation {number} always;"))]
        }
        Kind::Haproxy => {
            let bind = "bind 127.0.0.1:8080";
            vec![(bind, format!("{bind}\n    http-after-response set-header X-Generation {number}"))]
        }
        Kind::Caddy => vec![
            ("admin off", format!("admin {administration}")),
            ("http://127.0.0.1:8080 {", format!("http://127.0.0.1:8080 {{\n\theader X-Generation {number}")),
        ],
    }
}

/// The answer in lower case; `None` if the connection was refused or cut.
fn answers(proxy: SocketAddr, target: &str) -> Option<String> {
    let mut connection = TcpStream::connect(proxy).ok()?;
    let request = format!("GET {target} HTTP/1.1\r\nHost: {proxy}\r\nConnection: close\r\n\r\n");
    connection.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer).ok()?;
    Some(answer.to_ascii_lowercase())
}

fn clients_that_speak_http2_get_every_event_over_one_connection(kind: Kind) {
    let nodes = Nodes::start(&format!("http2-{kind:?}"));
    let Some(proxy) = kind.start_with("http2", nodes.addresses, &[http2(kind)]) else { return };
    let client = Client::builder().no_proxy().http2_prior_knowledge().build().unwrap();
    Runtime::new().unwrap().block_on(every_client_gets_every_event(client, proxy.address, || ()));
}

/// Without TLS, so that a client needs no certificate: with it, only the line that listens differs.
fn http2(kind: Kind) -> Change {
    match kind {
        Kind::Nginx => ("listen 127.0.0.1:8080;", "listen 127.0.0.1:8080 http2;".into()),
        Kind::Haproxy => ("bind 127.0.0.1:8080", "bind 127.0.0.1:8080 proto h2".into()),
        Kind::Caddy => ("admin off", "admin off\n\tservers {\n\t\tprotocols h1 h2c\n\t}".into()),
    }
}

/// Publishes until `meanwhile` has ended, and checks that streams and polls get each event once and in order.
async fn every_client_gets_every_event<T: Send + 'static>(
    client: Client,
    proxy: SocketAddr,
    meanwhile: impl FnOnce() -> T + Send + 'static,
) {
    let counters = Arc::new(Counters::default());
    let url = format!("http://{proxy}/events?channel=a");
    let stream = |_| event_source::follow(client.clone(), format!("{url}&after=earliest"), counters.clone());
    let streams: JoinSet<_> = (0..CLIENTS).map(stream).collect();
    let polls: JoinSet<_> = (0..POLLERS).map(|_| poll::follow(client.clone(), url.clone())).collect();
    let mut publisher = Publisher::new(client.clone(), proxy);
    publisher.publish_while(|published| published < 20).await;
    let doing = tokio::task::spawn_blocking(meanwhile);
    publisher.publish_while(|published| published < 60 || !doing.is_finished()).await;
    let _kept_running = doing.await.unwrap();
    publisher.publish_last().await;
    let observed = async { tokio::join!(streams.join_all(), polls.join_all()) };
    let (streams, polls) = tokio::time::timeout(Duration::from_secs(60), observed).await.expect("every client ends");
    let all: Vec<_> = (0..publisher.published).collect();
    for observed in streams.iter().chain(&polls) {
        assert_eq!(observed.closed, None);
        assert_eq!((&observed.numbers, observed.resets), (&all, 0), "an event was lost, doubled or out of order");
    }
    let connections = streams.iter().map(|observed| observed.connections).sum::<usize>();
    println!("{} events, {connections} streams of {CLIENTS} clients", publisher.published);
}
