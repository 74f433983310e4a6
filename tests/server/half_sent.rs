//! Clients that send half a request: what they make the server hold, and for how long.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use crate::{
    long_form,
    process::{descriptors, memory},
    program::{Example, PATIENCE},
    support,
};

/// As much of a request as a client sends.
fn half_sent() -> [(&'static str, Vec<u8>); 5] {
    let head = "GET /events?channel=a HTTP/1.1\r\nhost: test\r\nlast-event-id: ";
    let post =
        "POST /publish?channel=a HTTP/1.1\r\nhost: test\r\ncontent-type: text/plain\r\ncontent-length: 200000\r\n\r\n";
    [
        ("nothing", Vec::new()),
        ("half a preface of HTTP/2", b"PRI * HTT".to_vec()),
        ("15 kB of a head", [head.as_bytes(), &[b'x'; 15_000]].concat()),
        ("400 kB of a head", [head.as_bytes(), &[b'x'; 400_000]].concat()),
        ("100 kB of a body", [post.as_bytes(), &[b'x'; 100_000]].concat()),
    ]
}

#[test]
fn half_sent_requests_take_little_memory_and_end() {
    support::arm_deadline();
    std::thread::scope(|scope| {
        for frontend in ["axum", "hyper"] {
            scope.spawn(move || half_sent().iter().for_each(|(what, bytes)| hold(frontend, what, bytes)));
        }
    });
}

/// Sends these bytes on many connections, and waits until the server has closed them all.
fn hold(frontend: &str, what: &str, bytes: &[u8]) {
    let (count, seconds) = if long_form().is_some() { (2_000, "5") } else { (50, "0.3") };
    let timeouts = ["--head-timeout", seconds, "--body-timeout", seconds];
    let server = Example::start("server", &[&["--listen=127.0.0.1:0", "--frontend", frontend][..], &timeouts].concat());
    let before = (memory(&server), descriptors(&server));
    let clients: Vec<_> = (0..count).map(|_| send(server.address(), bytes)).collect();
    let (mut most, began) = (memory(&server), Instant::now());
    // Those that are refused at once may be gone before all have come.
    while descriptors(&server) < before.1 + count && began.elapsed() < Duration::from_millis(200) {}
    while descriptors(&server) > before.1 {
        most = most.max(memory(&server));
        assert!(began.elapsed() < PATIENCE, "{frontend}, {what}: {} are left", descriptors(&server) - before.1);
        std::thread::sleep(Duration::from_millis(10)); // there is nothing to wait for: the clients do nothing
    }
    let (grown, after, took) = (most - before.0, memory(&server) - before.0, began.elapsed());
    println!("{frontend:<6} {count} clients, {what:<25} +{grown:>4.0} MiB for {took:>4.1?}, +{after:.0} MiB after");
    // The bodies are read as they come, and their memory is bounded in total.
    let bound = if what.contains("body") { 0.3 } else { 0.06 };
    assert!(grown < 20.0 + bound * count as f64, "{frontend}, {what}: {grown:.0} MiB");
    for mut client in clients {
        let mut answer = Vec::new();
        _ = client.read_to_end(&mut answer); // a reset is an end, too
    }
}

/// Sends what the server takes.
fn send(server: SocketAddr, bytes: &[u8]) -> TcpStream {
    let mut io = TcpStream::connect(server).unwrap();
    io.set_read_timeout(Some(PATIENCE)).unwrap();
    io.set_write_timeout(Some(Duration::from_millis(100))).unwrap();
    _ = io.write_all(bytes);
    io
}
