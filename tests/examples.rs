//! The examples as users run them: started as programs, used over sockets, stopped by signals while streams are open.
//! `cargo test` builds them.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a helper's panic is a failed test")]

#[allow(dead_code, reason = "other tests use more of it")]
#[path = "support/program.rs"]
mod program;

#[path = "support/deadline.rs"]
mod deadline;

use std::process::Command;

use serde_json::{Value, json};

use self::program::{Directory, Example, FORM, binary};

#[test]
fn chat_stores_and_announces_messages_and_keeps_its_history_over_a_restart() {
    let directory = Directory::new("chat");
    let database = directory.0.join("messages.db");
    let arguments = ["--listen", "127.0.0.1:0", "--database", database.to_str().unwrap()];

    let chat = Example::start("chat", &arguments);
    let page = chat.get("/");
    assert_eq!(page.status, 200);
    assert!(page.body.starts_with("<!doctype html>"), "{page:?}");
    assert!(page.head.contains("default-src 'self'"), "{page:?}");
    let mut stream = chat.stream("/events?after=earliest", "text/event-stream");
    let first = chat.post("/chat", FORM, "action=message&user=Ada&content=%3Cb%3E%F0%9F%A6%80&key=k1");
    assert_eq!((first.status, first.json()), (200, json!({ "id": 1 })));
    assert_eq!(chat.post("/chat", FORM, "action=message&user=Ada&content=again&key=k1").json(), json!({ "id": 1 }));
    let second = chat.post("/chat", FORM, "action=message&user=Bob&content=two%0D%0Alines");
    let seen = stream.until(&format!(r#""id":{}"#, second.json()["id"]));
    assert!(seen.contains("event: message\ndata: {"), "{seen}");
    assert_eq!(chat.contents(), ["<b>🦀", "two\r\nlines"]);

    chat.stop("TERM");
    let rest = stream.rest();
    assert!(rest.is_empty() || rest.ends_with("\n\n"), "not at the boundary of an event: {rest:?}");

    let chat = Example::start("chat", &arguments);
    assert_eq!(chat.contents(), ["<b>🦀", "two\r\nlines"]);
    assert_eq!(chat.post("/chat", FORM, "action=message&user=Ada&content=again&key=k1").json(), json!({ "id": 1 }));
    assert_eq!(chat.contents(), ["<b>🦀", "two\r\nlines"]);
    chat.stop("INT");
}

#[test]
fn processes_with_the_same_database_are_one_chat() {
    let directory = Directory::new("chats");
    let database = directory.0.join("messages.db");
    let arguments = ["--listen", "127.0.0.1:0", "--database", database.to_str().unwrap()];
    let start = || Example::start("chat", &arguments);
    let say = |chat: &Example, content: &str| {
        let answer = chat.post("/chat", FORM, &format!("action=message&user=Ada&content={content}"));
        assert_eq!(answer.status, 200, "{answer:?}");
    };
    let (here, there) = (start(), start());
    let mut streams = [&here, &there].map(|chat| chat.stream("/events?after=earliest", "text/event-stream"));
    say(&here, "one");
    say(&there, "two");
    for stream in &mut streams {
        let seen = stream.until(r#""content":"two""#);
        assert!(seen.contains(r#""content":"one""#), "{seen}");
    }
    let read = there.get("/events?after=earliest&wait=0").json();
    let last = read[1]["id"].as_str().unwrap();

    // One process stops; a page that was connected to it resumes at any other.
    there.stop("TERM");
    say(&here, "three");
    let again = start();
    say(&again, "four");
    for chat in [&here, &again] {
        let mut resumed = chat.stream(&format!("/events?after={last}"), "text/event-stream");
        let seen = resumed.until(r#""content":"four""#);
        assert!(seen.contains(r#""content":"three""#) && !seen.contains(r#""content":"two""#), "{seen}");
        assert!(!seen.contains("stream-reset"), "{seen}");
        assert_eq!(chat.contents(), ["one", "two", "three", "four"]);
    }
    here.stop("TERM");
    again.stop("INT");
}

#[test]
fn chat_says_what_is_wrong_with_a_request() {
    let directory = Directory::new("chat-errors");
    let database = directory.0.join("messages.db");
    let chat = Example::start("chat", &["--listen", "127.0.0.1:0", "--database", database.to_str().unwrap()]);
    let long = format!("action=message&user=a&content={}", "x".repeat(4001));
    let huge = format!("action=message&user=a&content={}", "x".repeat(70_000));
    for (body, status, named) in [
        ("action=delete&user=a&content=b", 400, "`action` is unknown"),
        ("user=a&content=b", 400, "`action` is missing"),
        ("", 400, "`action` is missing"),
        ("action=message&content=b", 400, "`user` is missing"),
        ("action=message&user=%20&content=b", 400, "`user` is missing or empty"),
        ("action=message&user=a%0Ab&content=b", 400, "`user` contains a control character"),
        ("action=message&user=a", 400, "`content` is missing"),
        ("action=message&user=a&content=b&key=", 400, "`key` is missing or empty"),
        ("action=message&action=message&user=a&content=b", 422, "duplicate field"),
        (&long, 400, "`content` has 4001 characters"),
        (&huge, 413, "length limit"),
    ] {
        let answer = chat.post("/chat", FORM, body);
        assert_eq!(answer.status, status, "{body:.80}: {answer:?}");
        assert!(answer.head.contains("application/problem+json"), "{answer:?}");
        assert!(answer.json()["detail"].as_str().is_some_and(|detail| detail.contains(named)), "{answer:?}");
    }
    assert_eq!(chat.post("/chat", "application/json", "{}").status, 415);
    assert_eq!(chat.get("/chat").status, 405);
    assert_eq!(chat.contents(), [""; 0]);
    chat.stop("TERM");
}

#[test]
fn clock_sends_one_event_on_once_and_an_endless_stream_on_clock() {
    let clock = Example::start("clock", &["--listen", "127.0.0.1:0"]);
    assert!(clock.get("/").body.contains("EventSource"));
    let once = clock.get("/once");
    assert!(once.head.contains("text/event-stream"), "{once:?}");
    assert!(once.body.starts_with("retry: 100\ndata: server time: "), "{once:?}");
    assert!(once.body.ends_with("\n\n"), "{once:?}");

    let mut stream = clock.stream("/clock", "text/event-stream");
    let seen = stream.until("\nevent: chime\n");
    assert!(seen.contains("\nretry: ") || seen.starts_with("retry: "), "{seen}");
    let event = seen.split("\n\n").find(|block| block.starts_with("data: server time: ")).expect("an event");
    let lines: Vec<_> = event.lines().collect();
    assert!(lines[1].starts_with("data: up for "), "{event}");
    assert!(lines.last().unwrap().starts_with("id: "), "{event}");
    clock.stop("TERM");
    stream.rest();
}

#[test]
fn dashboard_sends_all_values_and_then_their_changes() {
    let dashboard = Example::start("dashboard", &["127.0.0.1:0"]);
    assert!(dashboard.get("/").body.contains("EventSource"));
    let mut stream = dashboard.stream("/gauges", "text/event-stream");
    let seen = stream.until("\nevent: 499\n");
    let all = seen.split("\n\n").find_map(|block| block.split_once("event: all\ndata: ")).expect("the state").1;
    let all: Vec<f64> = serde_json::from_str(all.lines().next().unwrap()).unwrap();
    assert_eq!(all.len(), 500);
    assert!(seen.find("event: all\n") < seen.find("\nevent: 0\n"), "{seen}");
    dashboard.stop("TERM");
    stream.rest();
}

#[test]
fn server_publishes_reads_and_drains() {
    for (signal, workers, frontend) in
        [("TERM", "1", "axum"), ("INT", "2", "axum"), ("TERM", "1", "hyper"), ("INT", "2", "hyper")]
    {
        let server = Example::start(
            "server",
            &[
                "--listen=127.0.0.1:0",
                "--store",
                "memory:",
                "--workers",
                workers,
                "--frontend",
                frontend,
                "--heartbeat",
                "0.05",
                "--drain",
                "1",
            ],
        );
        let health = server.get("/healthz");
        assert!(health.head.contains("application/json"), "{health:?}");
        assert_eq!((health.status, health.json()["status"].as_str()), (200, Some("ok")));
        assert_eq!((server.post("/healthz", FORM, "").status, server.get("/nowhere").status), (405, 404));
        let mut stream = server.stream("/events?channel=a&heartbeat=event", "text/event-stream");
        stream.until("event: stream-ping\n");
        let published = server.post("/publish?channel=a", "application/json", r#"{"n": 1}"#);
        assert_eq!(published.status, 200, "{published:?}");
        stream.until("data: {\"n\":1}\n");
        let read = server.get("/events?channel=a&after=earliest&wait=0").json();
        assert_eq!((&read[0]["data"], &read[0]["id"]), (&json!({ "n": 1 }), &published.json()["id"]));
        let mut poll = server.stream("/events?channel=b&wait=50", "application/json");
        server.until_it_has_readers(2);
        server.stop(signal);
        stream.rest();
        assert!(poll.rest().ends_with("[]"));
    }
}

#[cfg(target_os = "linux")]
#[test]
fn server_disconnects_a_client_that_reads_nothing() {
    for frontend in ["axum", "hyper"] {
        let arguments = ["--listen=127.0.0.1:0", "--frontend", frontend, "--stall-timeout", "1"];
        let server = Example::start("server", &arguments);
        // More than fits into the buffers of both ends.
        let text = "x".repeat(200 << 10);
        for _ in 0..35 {
            assert_eq!(server.post("/publish?channel=a", "text/plain", &text).status, 200);
        }
        let stalled = server.stream("/events?channel=a&after=earliest", "text/event-stream");
        let mut idle = server.stream("/events?channel=a&heartbeat=event", "text/event-stream");
        idle.until("event: stream-ping\n");
        server.until_it_has_readers(2);
        server.until_it_has_readers(1);
        let published = server.post("/publish?channel=a", "text/plain", "still there");
        assert_eq!(published.status, 200);
        idle.until("data: still there\n");
        drop(stalled);
        server.stop("TERM");
        idle.rest();
    }
}

#[test]
fn server_resumes_from_its_file() {
    let directory = Directory::new("server-file");
    let store = format!("file:{}", directory.0.join("made/events.db").display());
    let start = || Example::start("server", &["--listen", "127.0.0.1:0", "--store", &store]);
    let publish = |server: &Example, n: u32| {
        let published = server.post("/publish?channel=a", "text/plain", &n.to_string());
        assert_eq!(published.status, 200, "{published:?}");
        published.json()["id"].as_str().unwrap().to_owned()
    };
    let data = |events: Value| events.as_array().unwrap().iter().map(|event| event["data"].clone()).collect::<Vec<_>>();

    let server = start();
    let first = publish(&server, 1);
    publish(&server, 2);
    server.stop("TERM");
    let server = start();
    publish(&server, 3);
    let resumed = server.get_as(("Last-Event-ID", &first), "/events?channel=a&wait=0");
    assert!(!resumed.head.to_lowercase().contains("events-reset"), "{resumed:?}");
    assert_eq!(data(resumed.json()), ["2", "3"]);
    server.kill();
    let server = start();
    publish(&server, 4);
    assert_eq!(data(server.get(&format!("/events?channel=a&after={first}&wait=0")).json()), ["2", "3", "4"]);
    server.stop("INT");
}

#[test]
fn server_keeps_as_many_events_as_it_was_told_to() {
    let server = Example::start("server", &["--listen", "127.0.0.1:0", "--retention-events", "2"]);
    for n in 0..20 {
        assert_eq!(server.post("/publish?channel=a", "text/plain", &n.to_string()).status, 200);
    }
    let kept = server.get("/events?channel=a&after=earliest&wait=0").json();
    let kept: Vec<_> =
        kept.as_array().unwrap().iter().map(|event| event["data"].as_str().unwrap().to_owned()).collect();
    assert!((2..=4).contains(&kept.len()) && kept.ends_with(&["18".into(), "19".into()]), "{kept:?}");
    server.stop("TERM");
}

#[test]
fn server_allows_pages_from_any_origin_only_when_told_to() {
    for frontend in ["axum", "hyper"] {
        let allows = |arguments: &[&str]| {
            let server =
                Example::start("server", &[&["--listen=127.0.0.1:0", "--frontend", frontend], arguments].concat());
            let answer = server.get_as(("Origin", "http://elsewhere"), "/events?channel=a&wait=0");
            assert_eq!(answer.status, 200, "{answer:?}");
            let preflight = server.send(
                "OPTIONS /publish?channel=a HTTP/1.0\r\nOrigin: http://elsewhere\r\n\
                 Access-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: authorization\r\n\r\n",
            );
            server.stop("TERM");
            // The preflight may be cached, so that not every publish is two requests.
            let cacheable = preflight.head.contains("access-control-max-age: 7200");
            let allowed = answer.head.contains("access-control-allow-origin: *");
            assert_eq!(cacheable, allowed, "{preflight:?}");
            allowed
        };
        assert_eq!((allows(&["--cors"]), allows(&[])), (true, false));
    }
}

#[test]
fn options_are_checked() {
    // A program that accepts what it should refuse would serve for ever.
    deadline::arm();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    for (name, arguments, status, text) in [
        ("server", vec!["--help"], 0, "--retention-age S"),
        ("server", vec!["--workers", "0"], 2, "cannot parse argument \"0\""),
        ("server", vec!["--retention-age", "-1"], 2, "-1 is not a valid number of seconds"),
        ("server", vec!["--max-age", "NaN"], 2, "NaN is not a valid number of seconds"),
        ("server", vec!["--store", "tape:"], 2, "unknown store \"tape:\""),
        ("server", vec!["--frontend", "apache"], 2, "unknown frontend \"apache\""),
        ("server", vec!["--listen", "here"], 2, "cannot parse argument \"here\""),
        ("server", vec!["--nonsense"], 2, "invalid option '--nonsense'"),
        ("server", vec!["--listen"], 2, "missing argument"),
        ("server", vec!["--listen", &taken], 1, "cannot listen on"),
        ("chat", vec!["--help"], 0, "--database PATH"),
        ("chat", vec!["extra"], 2, "unexpected argument \"extra\""),
        ("chat", vec!["--database", "/dev/null/chat.db"], 1, "cannot open /dev/null/chat.db"),
        ("clock", vec!["--help"], 0, "--listen ADDRESS"),
        ("clock", vec!["--listen=0"], 2, "cannot parse argument \"0\""),
        ("axum", vec!["here"], 1, "here"),
        ("hyper", vec!["here"], 1, "here"),
        ("dashboard", vec!["here"], 1, "AddrParseError"),
        ("answers", vec!["here"], 1, "invalid socket address"),
        ("answers", vec!["127.0.0.1:0", "/dev/null/answers.db"], 1, "/dev/null"),
        ("notifications", vec!["127.0.0.1:0", "/dev/null/n.db", "soon"], 1, "InvalidDigit"),
        ("notifications", vec!["127.0.0.1:0", "/dev/null/n.db"], 1, "/dev/null"),
    ] {
        let output = Command::new(binary(name)).args(&arguments).output().unwrap();
        let printed = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert_eq!(output.status.code(), Some(status), "{name} {arguments:?}: {printed}");
        assert!(printed.contains(text), "{name} {arguments:?}: {printed}");
    }
}

#[test]
fn axum_lets_users_read_what_they_may() {
    let axum = Example::start("axum", &["127.0.0.1:0"]);
    let root = ("X-User", "root");
    assert_eq!(axum.get_as(root, "/events?channel=secret&wait=0").status, 200);
    let refused = axum.get("/events?channel=secret&wait=0");
    assert_eq!(refused.status, 403, "{refused:?}");
    assert_eq!(axum.get("/events").status, 400);
    assert_eq!(axum.post("/rooms/lobby", "application/json", r#""hello""#).status, 204);
    let mut stream = axum.stream("/events?channel=lobby&after=earliest", "text/event-stream");
    stream.until("event: message\ndata: hello\n");
    axum.stop("INT");
    stream.rest();
}

#[test]
fn hyper_keeps_its_service_behind_the_layer() {
    let hyper = Example::start("hyper", &["127.0.0.1:0"]);
    let mut stream = hyper.stream("/events?after=earliest", "text/event-stream");
    assert_eq!(hyper.get("/some/where").body, "hello\n");
    stream.until("data: /some/where\n");
    hyper.stop("INT");
    stream.rest();
}
