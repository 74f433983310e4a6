//! Answers with large heads, through nginx with its default buffer of 4 kB for a head.

use std::net::SocketAddr;

use crate::{
    nodes::Nodes,
    program::{Example, Stream},
    proxies::Kind,
};

/// A request for many channels; if `reset`, with a cursor of another log.
struct Case {
    name: &'static str,
    method: &'static str,
    channels: Vec<String>,
    reset: bool,
}

/// The most bytes of a head; nginx's buffer has 4 kB.
const MOST: usize = 3584;

#[test]
fn the_head_of_every_answer_fits_into_the_default_buffer_of_nginx() {
    let (nodes, other) = (Nodes::start("heads"), Example::start("server", &["--listen", "127.0.0.1:0"]));
    let Some(proxy) = Kind::Nginx.start("heads", nodes.addresses) else { return };
    let mut failed = Vec::new();
    for case in cases() {
        let query: Vec<_> = case.channels.iter().map(|channel| format!("channel={channel}")).collect();
        let (query, mut after) = (query.join("&"), "latest".to_owned());
        for channel in &case.channels {
            assert!(ask(proxy.address, "POST", &format!("/publish?channel={channel}")).starts_with("HTTP/1.1 200 "));
            assert_eq!(other.post(&format!("/publish?channel={channel}"), "application/json", "1").status, 200);
        }
        if case.reset {
            after = header(&other.get(&format!("/events?{query}&wait=0")).head, "last-event-id").unwrap();
        }
        // Resets may be spread over several answers.
        let (mut largest, mut resets) = (0, 0);
        loop {
            let target = format!("/events?{query}&wait=0&after={after}");
            let (status, length, head) = head(&ask(proxy.address, case.method, &target));
            largest = largest.max(length);
            if status != 200 {
                failed.push(format!("{}: {status}", case.name));
                break;
            }
            let Some(cursor) = header(&head, "events-reset").and_then(|_| header(&head, "last-event-id")) else {
                break;
            };
            (after, resets) = (cursor, resets + 1);
        }
        println!("{}: a head of at most {largest} bytes, {resets} answers with resets", case.name);
        if largest > MOST {
            failed.push(format!("{}: a head of {largest} bytes", case.name));
        }
        assert!(resets > 0 || !case.reset || failed.iter().any(|failed| failed.starts_with(case.name)));
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

fn cases() -> Vec<Case> {
    let uuid = |n: usize| format!("{:08x}-5d1c-4f0e-9b1e-0123456789ab", 0x9e37_79b9_u32.wrapping_mul(n as u32 + 1));
    let uuids = |count: usize| (0..count).map(uuid).collect();
    let long = |count: usize| (0..count).map(|n| format!("{n:-<66}")).collect();
    let case = |name, method, channels, reset| Case { name, method, channels, reset };
    vec![
        case("24 UUIDs", "GET", uuids(24), false),
        case("24 UUIDs, all reset", "GET", uuids(24), true),
        case("HEAD of 24 UUIDs", "HEAD", uuids(24), false),
        case("32 UUIDs, all reset", "GET", uuids(32), true),
        case("32 names of 66 bytes", "GET", long(32), false),
        case("32 names of 66 bytes, all reset", "GET", long(32), true),
        case("HEAD of 32 names of 66 bytes", "HEAD", long(32), false),
        case("one name of 255 bytes, reset", "GET", vec!["n".repeat(255)], true),
    ]
}

fn ask(proxy: SocketAddr, method: &str, target: &str) -> String {
    let body = if method == "POST" { "Content-Type: application/json\r\nContent-Length: 1\r\n\r\n1" } else { "\r\n" };
    let fields = format!("Host: {proxy}\r\nAccept: application/json\r\nConnection: close");
    Stream::open(proxy, &format!("{method} {target} HTTP/1.1\r\n{fields}\r\n{body}")).rest()
}

/// Status, length and text of an answer's head.
fn head(answer: &str) -> (u16, usize, String) {
    let (head, _) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), head.len(), head.to_owned())
}

fn header(head: &str, name: &str) -> Option<String> {
    head.lines().find_map(|line| {
        let (field, value) = line.split_once(": ")?;
        field.eq_ignore_ascii_case(name).then(|| value.to_owned())
    })
}
