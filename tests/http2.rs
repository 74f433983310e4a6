//! What only HTTP/2 has: many streams and polls on one connection, each of which can be cancelled or stall on its own.
#![allow(clippy::expect_used, reason = "a helper that panics is a failed test")]

mod support;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Empty};
use hyper::{body::Incoming, client::conn::http2::SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use support::{App, channel};
use tower_events::{Event, testing::SseReader};

type Connection = SendRequest<Empty<Bytes>>;

async fn connect(app: &App) -> Connection {
    let io = TokioIo::new(tokio::net::TcpStream::connect(app.addr()).await.expect("connected"));
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.expect("an HTTP/2 connection");
    tokio::spawn(connection);
    sender
}

async fn open(connection: &Connection, path_and_query: &str, accept: &str) -> http::Response<Incoming> {
    let uri = format!("http://test{path_and_query}");
    let request = Request::builder().uri(uri).header("accept", accept).body(Empty::new()).expect("a request");
    connection.clone().send_request(request).await.expect("an answer")
}

async fn stream(connection: &Connection, query: &str) -> SseReader<Incoming> {
    let response = open(connection, &format!("/events?{query}"), "text/event-stream").await;
    assert_eq!(response.status(), 200);
    SseReader::new(response.into_body())
}

/// Reads the data of the next `count` events.
async fn read(stream: &mut SseReader<Incoming>, count: usize) -> Vec<String> {
    let mut data = Vec::new();
    while data.len() < count {
        let event = stream.next().await.expect("no error").expect("not the end");
        if event.name != "stream-live" {
            data.push(event.data);
        }
    }
    data
}

#[tokio::test]
async fn many_streams_and_polls_share_one_connection() {
    let app = App::start().await;
    let connection = connect(&app).await;
    let mut streams = Vec::new();
    for n in 0..50 {
        streams.push(stream(&connection, &format!("channel=c{}", n % 5)).await);
    }
    let mut polls = tokio::task::JoinSet::new();
    for n in 0..50 {
        // From a cursor: `latest` would be resolved at an unknown moment after the poll was sent.
        let (connection, head) = (connection.clone(), app.head(&format!("c{}", n % 5)).await);
        polls.spawn(async move {
            let poll = format!("/events?channel=c{}&after={head}", n % 5);
            let answer = open(&connection, &poll, "application/json").await;
            let body = answer.into_body().collect().await.expect("a body").to_bytes();
            (n % 5, String::from_utf8_lossy(&body).into_owned())
        });
    }
    app.wait_for_readers(100).await;
    for n in 0..5 {
        app.publish(&format!("c{n}"), Event::text(format!("for c{n}"))).await;
    }
    for (n, stream) in streams.iter_mut().enumerate() {
        assert_eq!(read(stream, 1).await, [format!("for c{}", n % 5)]);
    }
    while let Some(polled) = polls.join_next().await {
        let (channel, body) = polled.expect("no panic");
        assert!(body.contains(&format!("\"for c{channel}\"")), "{body}");
    }
    app.wait_for_readers(50).await;
}

#[tokio::test]
async fn a_cancelled_stream_frees_its_reader_and_leaves_the_connection_open() {
    let app = App::start().await;
    let connection = connect(&app).await;
    let mut kept = stream(&connection, "channel=a").await;
    let cancelled: Vec<_> = [stream(&connection, "channel=a").await, stream(&connection, "channel=b").await].into();
    app.wait_for_readers(3).await;
    drop(cancelled);
    app.wait_for_readers(1).await;
    let poll = tokio::spawn({
        let connection = connection.clone();
        async move { open(&connection, "/events?channel=a", "application/json").await }
    });
    app.wait_for_readers(2).await;
    poll.abort();
    app.wait_for_readers(1).await;
    app.publish("a", Event::text("still open")).await;
    assert_eq!(read(&mut kept, 1).await, ["still open"]);
}

#[tokio::test]
async fn a_stream_that_is_not_read_delays_neither_other_streams_nor_the_publisher() {
    let app = App::start().await;
    let connection = connect(&app).await;
    let mut slow = stream(&connection, "channel=a").await;
    let mut fast = stream(&connection, "channel=a").await;
    app.wait_for_readers(2).await;
    // Far more than a stream's window.
    let text = "x".repeat(10_000);
    for n in 0..200 {
        app.hub.publish(&channel("a"), Event::text(format!("{n} {text}"))).await.expect("published");
        assert_eq!(read(&mut fast, 1).await, [format!("{n} {text}")]);
    }
    // The slow stream loses nothing.
    let late = read(&mut slow, 200).await;
    assert!(late.iter().enumerate().all(|(n, data)| data.starts_with(&format!("{n} "))));
}

#[tokio::test]
async fn a_broken_connection_frees_all_its_readers() {
    let app = App::start().await;
    let connection = connect(&app).await;
    let mut open = Vec::new();
    for n in 0..20 {
        open.push(stream(&connection, &format!("channel=c{n}")).await);
    }
    app.wait_for_readers(20).await;
    drop((connection, open));
    app.wait_for_readers(0).await;
}
