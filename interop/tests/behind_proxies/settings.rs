//! What the settings of a proxy do to streams and polls: its time-outs, and compression.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use crate::{
    behind_each_proxy,
    nodes::Nodes,
    program::Stream,
    proxies::{Change, Kind},
};

behind_each_proxy! {
    heartbeats_and_polls_outlast_the_time_outs
    compressed_answers_delay_no_event
}

/// The files' time-outs of 75 s, a wait of 55 s and heartbeats of 15 s, divided by 15.
const TIME_OUT: &str = "5s";
const WAIT: u64 = 4;
/// Longer than the time-outs: nothing but heartbeats comes meanwhile.
const SILENCE: Duration = Duration::from_secs(7);

fn heartbeats_and_polls_outlast_the_time_outs(kind: Kind) {
    let nodes = Nodes::start_with(&format!("time-outs-{kind:?}"), &["--heartbeat=1"]);
    let Some(proxy) = kind.start_with("time-outs", nodes.addresses, &[("75s", TIME_OUT.into())]) else { return };
    let mut stream = Stream::open(proxy.address, &get(proxy.address, "/events?channel=a", "text/event-stream"));
    stream.until("event: stream-live");
    let began = Instant::now();
    let poll =
        Stream::open(proxy.address, &get(proxy.address, &format!("/events?channel=b&wait={WAIT}"), "*/*")).rest();
    assert!(poll.starts_with("HTTP/1.1 200 ") && poll.contains("[]"), "{poll}");
    assert!(began.elapsed() >= Duration::from_secs(WAIT), "{:?}", began.elapsed());
    let mut heartbeats = 0;
    while began.elapsed() < SILENCE {
        let seen = stream.within(SILENCE).expect("a heartbeat");
        assert!(!seen.is_empty(), "the stream ended after {heartbeats} heartbeats");
        heartbeats += 1;
    }
    publish(proxy.address, "still-here");
    let seen = stream.until("still-here");
    assert!(!seen.contains("stream-retry"), "{seen}");
}

fn compressed_answers_delay_no_event(kind: Kind) {
    let nodes = Nodes::start(&format!("compression-{kind:?}"));
    let Some(proxy) = kind.start_with("compression", nodes.addresses, &[compression(kind)]) else { return };
    (0..50).for_each(|n| publish(proxy.address, &format!("text-{n}-{}", "x".repeat(100))));
    let accepts = |accept: &str| format!("{accept}\r\nAccept-Encoding: gzip");
    let poll = get(proxy.address, "/events?channel=a&after=earliest", &accepts("application/json"));
    let poll = Stream::open(proxy.address, &poll).bytes();
    let head = String::from_utf8_lossy(&poll).to_ascii_lowercase();
    assert!(head.contains("content-encoding: gzip"), "answers are compressed: {head}");
    assert!(poll.len() < 3_000, "{} bytes", poll.len());

    let mut stream =
        Stream::open(proxy.address, &get(proxy.address, "/events?channel=a", &accepts("text/event-stream")));
    let head = stream.until("event: stream-live").to_ascii_lowercase();
    assert!(!head.contains("content-encoding"), "streams are not: {head}");
    for n in 0..10 {
        publish(proxy.address, &format!("event-{n}"));
        // Nothing that follows pushes it out.
        stream.until(&format!("event-{n}"));
    }
}

/// Compresses what the answers of polls are.
fn compression(kind: Kind) -> Change {
    match kind {
        Kind::Nginx => ("http {", "http { gzip on; gzip_proxied any; gzip_types application/json;".into()),
        Kind::Haproxy => {
            ("mode http", "mode http\n    compression algo gzip\n    compression type application/json".into())
        }
        Kind::Caddy => {
            let encode = "encode {\n\t\tgzip\n\t\tmatch {\n\t\t\theader Content-Type application/json*\n\t\t}\n\t}";
            ("http://127.0.0.1:8080 {", format!("http://127.0.0.1:8080 {{\n\t{encode}"))
        }
    }
}

fn get(proxy: SocketAddr, target: &str, accept: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: {proxy}\r\nConnection: close\r\nAccept: {accept}\r\n\r\n")
}

fn publish(proxy: SocketAddr, text: &str) {
    let length = text.len();
    let fields = format!("Host: {proxy}\r\nConnection: close\r\nContent-Type: text/plain\r\nContent-Length: {length}");
    let request = format!("POST /publish?channel=a HTTP/1.1\r\n{fields}\r\n\r\n{text}");
    let answer = Stream::open(proxy, &request).rest();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}
