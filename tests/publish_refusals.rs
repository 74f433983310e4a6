//! A publish that is refused before its body was read still reaches the client: one that writes its whole body before it reads gets
//! the refusal, not a broken pipe.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::{sync::Arc, time::Duration};

use http::Method;
use support::{App, BOTH, Http, Server, serve};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpSocket,
    time::Instant,
};
use tower_events::{Channels, Hub, MemoryStore, PublishService, request::Rejection};

const MIB: usize = 1 << 20;

/// Sends the whole request before it reads anything, as many clients do; returns everything that the server sent.
async fn write_then_read(server: &Server, head: &str, body: &[u8]) -> std::io::Result<String> {
    // A small buffer, because a write succeeds as soon as the system has buffered the data.
    let socket = TcpSocket::new_v4()?;
    socket.set_send_buffer_size(256 << 10)?;
    socket.set_nodelay(true)?;
    let mut io = socket.connect(server.addr()).await?;
    io.write_all(head.as_bytes()).await?;
    io.write_all(body).await?;
    let mut answer = String::new();
    io.read_to_string(&mut answer).await?;
    Ok(answer)
}

fn head(path_and_query: &str, content_type: &str, framing: &str) -> String {
    format!(
        "POST {path_and_query} HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-type: {content_type}\r\n{framing}\r\n\r\n"
    )
}

/// Checks that each of twenty clients is answered with this status.
async fn check_twenty_clients(server: &Server, head: &str, body: &[u8], status: u16) {
    let mut answers = Vec::new();
    for _ in 0..20 {
        answers.push(match write_then_read(server, head, body).await {
            Ok(answer) => answer.lines().next().unwrap_or("nothing").to_owned(),
            Err(error) => error.to_string(),
        });
    }
    let good = answers.iter().filter(|line| line.starts_with(&format!("HTTP/1.1 {status} "))).count();
    assert_eq!(good, 20, "{answers:?}");
}

fn chunked(body: &[u8]) -> Vec<u8> {
    let chunks = body.chunks(50_000).flat_map(|chunk| {
        let head = format!("{:x}\r\n", chunk.len()).into_bytes();
        [head, chunk.to_vec(), b"\r\n".to_vec()]
    });
    chunks.chain([b"0\r\n\r\n".to_vec()]).flatten().collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_is_too_large_gets_a_413() {
    let app = App::start().await;
    let body = vec![b'x'; 3 * MIB];
    let length = format!("content-length: {}", body.len());
    check_twenty_clients(&app, &head("/publish?channel=a", "text/plain", &length), &body, 413).await;
    let head = head("/publish?channel=a", "text/plain", "transfer-encoding: chunked");
    check_twenty_clients(&app, &head, &chunked(&body), 413).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_of_an_unsupported_type_gets_a_415() {
    let app = App::start().await;
    for size in [60_000, 3 * MIB] {
        let head = head("/publish?channel=a", "image/png", &format!("content-length: {size}"));
        check_twenty_clients(&app, &head, &vec![b'x'; size], 415).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_refusal_before_the_body_reaches_the_client() {
    let hub = Hub::new(MemoryStore::default());
    let resolver = |request: &http::request::Parts| match request.uri.query() {
        Some("401") => Err(Rejection::unauthorized("Bearer")),
        Some("403") => Err(Rejection::forbidden()),
        Some("404") => Err(Rejection::not_found()),
        Some("429") => Err(Rejection::too_many(Duration::from_secs(7))),
        _ => Channels::from_query(request),
    };
    let server = serve(PublishService::new(hub, resolver)).await;
    let body = vec![b'x'; 3 * MIB];
    let length = format!("content-length: {}", body.len());
    for (query, status) in [("401", 401), ("403", 403), ("404", 404), ("429", 429), ("channel=", 400)] {
        check_twenty_clients(&server, &head(&format!("/?{query}"), "text/plain", &length), &body, status).await;
    }
    let put = head("/?channel=a", "text/plain", &length).replace("POST", "PUT");
    check_twenty_clients(&server, &put, &body, 405).await;
}

#[tokio::test]
async fn the_connection_of_a_refused_body_can_be_used_again() {
    let app = App::start().await;
    let mut client = app.http1().await;
    for _ in 0..3 {
        client.send(request("image/png", "content-length: 200000")).await;
        client.send(vec![b'x'; 200_000]).await;
        let answer = client.answer_to("POST").await.unwrap();
        answer.problem(415);
        assert_eq!(answer.try_header("connection"), None);
        client.send(request("text/plain", "content-length: 1")).await;
        client.send("x").await;
        client.answer_to("POST").await.unwrap().expect(200);
    }
}

fn request(content_type: &str, more: &str) -> String {
    format!("POST /publish?channel=a HTTP/1.1\r\nhost: a\r\ncontent-type: {content_type}\r\n{more}\r\n\r\n")
}

#[tokio::test(start_paused = true)]
async fn a_body_over_the_bound_is_refused_at_once_and_the_connection_ends() {
    let app = App::in_memory();
    let started = Instant::now();
    // Announced by its length. The first client sends nothing of it, the second a part.
    for body in ["", "some"] {
        let mut client = app.http1().await;
        client.send(request("image/png", &format!("content-length: {}", 4 * MIB + 1))).await;
        client.send(body).await;
        let answer = client.answer_to("POST").await.unwrap();
        answer.problem(415);
        assert_eq!(answer.header("connection"), "close");
    }
    // Not announced, and so detected while it is read.
    let mut client = app.http1().await;
    client.send(request("image/png", "transfer-encoding: chunked")).await;
    client.send(chunked(&vec![b'x'; 4 * MIB + 100_000])).await;
    let answer = client.answer_to("POST").await.unwrap();
    answer.problem(415);
    assert_eq!((answer.header("connection"), started.elapsed()), ("close", Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_waits_to_be_asked_for_its_body_is_refused_at_once() {
    let app = App::in_memory();
    let started = Instant::now();
    let mut client = app.http1().await;
    client.send(request("image/png", "expect: 100-continue\r\ncontent-length: 100000")).await;
    let answer = client.answer_to("POST").await.unwrap();
    answer.problem(415);
    assert_eq!((answer.header("connection"), started.elapsed()), ("close", Duration::ZERO));
    // Once it has been asked, its body is read like any other.
    let mut client = app.http1().await;
    client.send(request("text/plain", "expect: 100-continue\r\ntransfer-encoding: chunked")).await;
    client.send(chunked(&vec![b'x'; 2 * MIB])).await;
    let answer = client.answer_to("POST").await.unwrap();
    answer.problem(413);
    assert_eq!((answer.try_header("connection"), started.elapsed()), (None, Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn a_refused_body_that_trickles_is_read_for_two_seconds_and_delays_no_other_client() {
    let app = Arc::new(App::in_memory());
    let started = Instant::now();
    let slow = tokio::spawn(trickle(app.clone()));
    tokio::time::sleep(Duration::from_millis(500)).await;
    let before = Instant::now();
    let mut other = app.http1().await;
    other.send(request("image/png", "content-length: 4")).await;
    other.send("body").await;
    let answer = other.answer_to("POST").await.unwrap();
    answer.problem(415);
    assert_eq!((answer.try_header("connection"), before.elapsed()), (None, Duration::ZERO));
    let answer = slow.await.unwrap();
    answer.problem(415);
    assert_eq!((answer.header("connection"), started.elapsed().as_millis()), ("close", 2_000));
}

/// Sends a refused request whose body arrives one byte every 70 ms, until it is answered.
async fn trickle(app: Arc<App>) -> support::Answer {
    let mut client = app.http1().await;
    client.send(request("image/png", "content-length: 100000")).await;
    loop {
        client.send("x").await;
        if let Ok(answer) = tokio::time::timeout(Duration::from_millis(70), client.answer_to("POST")).await {
            return answer.unwrap();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn at_most_64_refused_bodies_are_read_at_once() {
    let app = Arc::new(App::in_memory());
    let started = Instant::now();
    let slow: Vec<_> = (0..64).map(|_| tokio::spawn(trickle(app.clone()))).collect();
    tokio::time::sleep(Duration::from_millis(500)).await;
    let before = Instant::now();
    let mut other = app.http1().await;
    other.send(request("image/png", "content-length: 100000")).await;
    let answer = other.answer_to("POST").await.unwrap();
    answer.problem(415);
    assert_eq!((answer.header("connection"), before.elapsed()), ("close", Duration::ZERO));
    for slow in slow {
        slow.await.unwrap().problem(415);
    }
    assert_eq!(started.elapsed().as_millis(), 2_000);
    // Their places are free again.
    let mut other = app.http1().await;
    other.send(request("image/png", "content-length: 4")).await;
    other.send("body").await;
    assert_eq!(other.answer_to("POST").await.unwrap().try_header("connection"), None);
}

#[tokio::test]
async fn over_http2_a_refusal_does_not_wait_for_the_body() {
    let app = App::start().await;
    for _ in 0..20 {
        let answer = app.post("/publish?channel=a", "text/plain", vec![b'x'; 3 * MIB]).over(Http::Two).send().await;
        answer.problem(413);
        assert_eq!(answer.try_header("connection"), None);
    }
    for http in BOTH {
        app.request(Method::GET, "/publish?channel=a").over(http).send().await.problem(405);
    }
}
