//! The limits that are the HTTP server's own, on both frontends.

use std::time::{Duration, Instant};

use crate::{
    program::{Example, Stream},
    support,
};

fn server(arguments: &[&str]) -> Example {
    support::arm_deadline();
    Example::start("server", &[&["--listen=127.0.0.1:0"], arguments].concat())
}

#[test]
fn a_head_that_is_too_long_is_refused() {
    for frontend in ["axum", "hyper"] {
        for (options, most) in
            [(&["--frontend", frontend][..], 16 << 10), (&["--frontend", frontend, "--max-head=40000"], 40_000)]
        {
            let server = server(options);
            let get = |bytes: usize| {
                let id = "x".repeat(bytes);
                server.send(&format!("GET /events?channel=a&wait=0 HTTP/1.0\r\nlast-event-id: {id}\r\n\r\n")).status
            };
            // The server reads as much as its buffer holds, which it grows in steps.
            assert_eq!((get(most - 200), get(2 * most)), (200, 431), "{frontend}");
            // Many short lines are as bad.
            let lines = "a: b\r\n".repeat(101);
            assert_eq!(server.send(&format!("GET /healthz HTTP/1.0\r\n{lines}\r\n")).status, 431);
        }
    }
}

#[test]
fn a_connection_is_closed_when_no_request_comes_but_not_while_one_is_served() {
    for frontend in ["axum", "hyper"] {
        let server = server(&["--frontend", frontend, "--head-timeout=0.3"]);
        let began = Instant::now();
        let mut poll = Stream::open(server.address(), "GET /events?channel=a&wait=1 HTTP/1.1\r\nhost: a\r\n\r\n");
        for half in ["", "PRI * HT", "GET /healthz HTTP/1.1\r\nhost:"] {
            let mut client = Stream::open(server.address(), half);
            assert_eq!(client.rest(), "", "{frontend} {half:?}");
        }
        assert!((900..9_000).contains(&began.elapsed().as_millis()), "{frontend}: {:?}", began.elapsed());
        // It is answered, and then the connection waits for its next request no longer than others.
        let answer = poll.rest();
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("[]"), "{answer}");
        assert!(began.elapsed() < Duration::from_secs(10), "{frontend}: {:?}", began.elapsed());
    }
}

#[test]
fn half_a_body_is_answered_when_its_time_is_over() {
    for frontend in ["axum", "hyper"] {
        let server = server(&["--frontend", frontend, "--body-timeout=0.2"]);
        let half =
            "POST /publish?channel=a HTTP/1.1\r\nhost: a\r\ncontent-type: text/plain\r\ncontent-length: 9\r\n\r\nhalf";
        let answer = Stream::open(server.address(), half).rest();
        assert!(answer.starts_with("HTTP/1.1 408") && answer.contains("connection: close"), "{answer}");
    }
}

#[test]
fn a_connection_beyond_the_limit_waits_until_another_ends() {
    for frontend in ["axum", "hyper"] {
        let server = server(&["--frontend", frontend, "--max-connections=2"]);
        let mut streams: Vec<_> = (0..2).map(|_| server.stream("/events?channel=a", "text/event-stream")).collect();
        streams.iter_mut().for_each(|stream| _ = stream.until("event: stream-live"));
        let mut third = Stream::open(server.address(), "GET /healthz HTTP/1.0\r\n\r\n");
        assert_eq!(third.within(Duration::from_millis(200)), None, "{frontend}");
        streams.pop();
        assert!(third.rest().contains("\"readers\":"), "{frontend}");
    }
}

#[test]
fn the_requests_of_an_address_are_bounded_in_the_way_of_each_transport() {
    for frontend in ["axum", "hyper"] {
        let server = server(&["--frontend", frontend, "--max-address-rate=5"]);
        let statuses: Vec<_> = (0..30).map(|_| server.get("/events?channel=a&wait=0").status).collect();
        let served = statuses.iter().filter(|status| **status == 200).count();
        assert!((5..20).contains(&served) && statuses.iter().all(|status| matches!(status, 200 | 429)), "{statuses:?}");
        let refused = server.get("/events?channel=a&wait=0");
        assert!(refused.status == 200 || refused.head.contains("retry-after: 1"), "{refused:?}");
        // An `EventSource` would never come back after a 429.
        let streams: Vec<_> =
            (0..10).map(|_| server.stream("/events?channel=a", "text/event-stream").until("\n\n")).collect();
        assert!(streams.iter().all(|stream| stream.starts_with("HTTP/1.0 200")), "{streams:?}");
        // Publishing counts as well; what is no event does not.
        let posts: Vec<_> = (0..10).map(|_| server.post("/publish?channel=a", "text/plain", "x").status).collect();
        assert!(posts.contains(&429), "{posts:?}");
        assert_eq!(server.get("/healthz").status, 200);
    }
}

#[test]
fn every_option_reaches_its_limit() {
    let server = server(&[
        "--max-readers=1",
        "--max-followed-channels=2",
        "--max-channels=3",
        "--max-poll-events=2",
        "--max-catch-up-rate=65536",
        "--max-body=100",
        "--max-body-memory=0",
        "--max-batch=2",
        "--max-event=10",
        "--max-depth=1",
        "--max-publish-rate=1000000",
        "--max-publishes=7",
    ]);
    let post = |kind: &str, body: &str| server.post("/publish?channel=a", kind, body);
    assert_eq!(post("text/plain", &"x".repeat(101)).status, 413);
    assert_eq!(post("text/plain", &"x".repeat(11)).status, 422);
    assert_eq!(post("application/json", "[[]]").status, 422);
    assert_eq!(post("application/x-ndjson", &"{\"data\":1}\n".repeat(3)).status, 413);
    for _ in 0..3 {
        assert_eq!(post("text/plain", "x").status, 200);
    }
    assert_eq!(server.get("/events?channel=a&after=earliest").json().as_array().unwrap().len(), 2);
    assert_eq!(server.get("/events?channel=1&channel=2&channel=3&channel=4").status, 400);
    let refused = server.get("/events?channel=1&channel=2&channel=3");
    assert!(refused.status == 503 && refused.body.contains("too-many-channels"), "{refused:?}");
    let mut stream = server.stream("/events?channel=a", "text/event-stream");
    stream.until("event: stream-live");
    let refused = server.get("/events?channel=a");
    assert!(refused.status == 503 && refused.body.contains("too-many-readers"), "{refused:?}");
}
