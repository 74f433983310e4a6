//! Tests of `tests/support`: the stream parser agrees with the examples of the WHATWG HTML standard, and the clients see what is
//! on the wire.

mod support;

use std::time::Duration;

use axum::{Router, body::Body, routing::get};
use bytes::Bytes;
use http_body_util::channel::Channel;
use support::{BOTH, Message, Parser, Proxy, serve, serve_in_memory};
use tokio::sync::mpsc;

fn message(name: &str, data: &str, id: &str) -> Message {
    Message { name: name.into(), data: data.into(), id: id.into() }
}

fn parse(stream: &str) -> Vec<Message> {
    Parser::default().push(stream.as_bytes())
}

#[test]
fn the_parser_agrees_with_the_standards_examples() {
    assert_eq!(parse("data: YHOO\ndata: +2\ndata: 10\n\n"), [message("message", "YHOO\n+2\n10", "")]);
    let four = ": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n\n";
    let expected = [
        message("message", "first event", "1"),
        message("message", "second event", ""),
        message("message", " third event", ""),
    ];
    assert_eq!(parse(four), expected);
    assert_eq!(parse("data\n\ndata\ndata\n\ndata:"), [message("message", "", ""), message("message", "\n", "")]);
    assert_eq!(parse("data:test\n\ndata: test\n\n"), [message("message", "test", ""), message("message", "test", "")]);
    assert_eq!(parse("event: add\ndata: 73857293\n\n"), [message("add", "73857293", "")]);
}

#[test]
fn the_parser_handles_every_line_end_wherever_the_input_is_split() {
    let stream = "\u{feff}event: a\r\ndata: é\rdata: 😀\nid: 7\r\n\r\ndata: b\r\rdata: cut off\n";
    let expected = [message("a", "é\n😀", "7"), message("message", "b", "7")];
    for cut in 0..=stream.len() {
        let mut parser = Parser::default();
        let (left, right) = stream.as_bytes().split_at(cut);
        let mut messages = parser.push(left);
        messages.extend(parser.push(right));
        assert_eq!(messages, expected, "cut at {cut}");
    }
}

#[test]
fn the_parser_commits_ids_at_the_end_of_a_block_and_ignores_malformed_fields() {
    let mut parser = Parser::default();
    assert_eq!(parser.push(b"id: 1\nretry: 40\n\nid: 2\n"), []);
    assert_eq!((parser.last_event_id.as_str(), parser.retry, parser.silent_blocks), ("1", Some(40), 1));
    let mut parser = Parser::default();
    let messages = parser.push(b"id: 1\ndata: a\n\nid: 2\0\nretry: 4x\nretry:\nfoo: bar\n:c\ndata: b\n\n");
    assert_eq!(messages, [message("message", "a", "1"), message("message", "b", "1")]);
    assert_eq!((parser.retry, parser.comments, parser.unknown_fields), (None, vec!["c".into()], vec!["foo".into()]));
}

#[tokio::test]
async fn both_clients_read_a_body_as_it_arrives_and_cut_it_where_they_are_told() {
    let (opened, mut streams) = mpsc::unbounded_channel();
    let stream = move || {
        let (sender, body) = Channel::<Bytes>::new(1);
        opened.send(sender).unwrap();
        async { ([("content-type", "text/event-stream; charset=utf-8")], Body::new(body)) }
    };
    let server = serve(Router::new().route("/", get(stream))).await;
    for http in BOTH {
        let mut sse = server.get("/").over(http).sse().await;
        let mut sender = streams.recv().await.unwrap();
        for n in ["0", "1", "2"] {
            sender.send_data(format!("id: {n}\ndata: {n}\n\n").into()).await.unwrap();
            assert_eq!(sse.next().await, message("message", n, n), "{http:?}");
        }
        let (messages, id) = sse.cut_after("id: 0\ndata: 0\n\nid: 1".len()).await;
        assert_eq!((messages.len(), id.as_str()), (1, "0"), "{http:?}");
        while sender.send_data(Bytes::from_static(b": until the server sees the cut\n")).await.is_ok() {}
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_in_memory_lets_a_paused_clock_run() {
    let slow = || async {
        tokio::time::sleep(Duration::from_secs(3600)).await;
        "done"
    };
    let server = serve_in_memory(Router::new().route("/", get(slow)));
    for http in BOTH {
        let before = tokio::time::Instant::now();
        assert_eq!(server.get("/").over(http).send().await.expect(200).text(), "done");
        assert_eq!(before.elapsed().as_secs(), 3600);
    }
    server.stop().await;
}

#[tokio::test]
async fn the_raw_client_reads_several_answers_and_can_send_malformed_requests() {
    let server = serve(Router::new().route("/", get(|| async { "yes" }))).await;
    let mut raw = server.http1().await;
    raw.send("GET / HTTP/1.1\r\nhost: a\r\n\r\nHEAD / HTTP/1.1\r\nhost: a\r\n\r\nnonsense\r\n\r\n").await;
    assert_eq!(raw.answer_to("GET").await.unwrap().expect(200).text(), "yes");
    assert_eq!(raw.answer_to("HEAD").await.unwrap().expect(200).header("content-length"), "3");
    raw.answer_to("GET").await.unwrap().expect(400);
    server.stop().await;
}

#[tokio::test]
async fn the_proxy_cuts_after_its_budget() {
    let server = serve(Router::new().route("/", get(|| async { "a".repeat(10_000) }))).await;
    let proxy = Proxy::start(server.addr(), [500]).await;
    let addr = proxy.url("").strip_prefix("http://").unwrap().to_owned();
    let ask = async || {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut io = tokio::net::TcpStream::connect(&addr).await.unwrap();
        io.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await.unwrap();
        let mut all = Vec::new();
        _ = io.read_to_end(&mut all).await;
        all.len()
    };
    assert_eq!(ask().await, 500);
    assert!(ask().await > 10_000);
    assert_eq!(proxy.accepted(), 2);
}
