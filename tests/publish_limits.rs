//! What a publish accepts and refuses, at each boundary: types, depth, size and names.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod support;

use std::time::Duration;

use serde_json::json;
use support::{App, BOTH, serve, serve_in_memory};
use tokio::time::Instant;
use tower_events::{Channels, Hub, MemoryStore, PublishService, hub::RefusedBy};

const LINES: &str = "application/x-ndjson";

#[tokio::test]
async fn common_variants_of_types_and_charsets_are_accepted() {
    let table = [
        ("application/json; charset=utf8", "1"),
        ("application/json; charset=\"UTF8\"", "1"),
        ("text/plain; charset=utf8", "1"),
        ("application/ndjson", "{\"data\":1}"),
        ("application/jsonl; charset=utf-8", "{\"data\":1}"),
    ];
    for http in BOTH {
        let app = App::start().await;
        for (content_type, body) in table {
            app.post("/publish?channel=a", content_type, body).over(http).send().await.expect(200);
        }
        let polled = app.get("/poll?channel=a&after=earliest&wait=0").send().await.expect(200);
        assert_eq!(polled.data(), [json!(1), json!(1), json!("1"), json!(1), json!(1)]);
    }
}

#[tokio::test]
async fn a_byte_order_mark_before_json_is_ignored() {
    let app = App::start().await;
    let send =
        async |content_type: &str, body: &str| app.post("/publish?channel=a", content_type, body).send().await.status;
    assert_eq!(send("application/json", "\u{feff}1").await, 200);
    assert_eq!(send(LINES, "\u{feff}{\"data\":2}\n{\"data\":3}").await, 200);
    // A text is stored exactly as it was sent.
    assert_eq!(send("text/plain", "\u{feff}4").await, 200);
    for (content_type, body) in [
        ("application/json", "\u{feff}\u{feff}1"),
        ("application/json", "1\u{feff}"),
        (LINES, "{\"data\":1}\n\u{feff}{\"data\":1}"),
    ] {
        assert_eq!(send(content_type, body).await, 400, "{body:?}");
    }
    let polled = app.get("/poll?channel=a&after=earliest&wait=0").send().await.expect(200);
    assert_eq!(polled.data(), [json!(1), json!(2), json!(3), json!("\u{feff}4")]);
}

#[tokio::test]
async fn a_content_coding_is_refused_and_the_accepted_one_named() {
    let app = App::start().await;
    for http in BOTH {
        let coded = app.post("/publish?channel=a", "text/plain", "x").over(http).header("content-encoding", "gzip");
        let answer = coded.send().await;
        answer.problem(415);
        assert_eq!(answer.header("accept-encoding"), "identity");
        // For a wrong type the header is absent: it would say that the coding was the reason (RFC 9110, section 12.5.3).
        let typed = app.post("/publish?channel=a", "image/png", "x").over(http).send().await;
        assert_eq!((typed.status, typed.try_header("accept-encoding")), (415, None));
    }
}

#[tokio::test]
async fn json_nested_up_to_128_levels_is_accepted() {
    let app = App::start().await;
    let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    for http in BOTH {
        let send = async |content_type: &str, body: String| {
            app.post("/publish?channel=a", content_type, body).over(http).send().await
        };
        send("application/json", nested(128)).await.expect(200);
        send(LINES, format!("{{\"data\":{}}}", nested(128))).await.expect(200);
        send("text/plain", nested(129)).await.expect(200);
        for body in [nested(129), format!("{{\"a\":{}}}", nested(128)), nested(100_000)] {
            let answer = send("application/json", body.clone()).await;
            assert!(answer.problem(422).contains("128 levels"), "{answer}");
            let line = send(LINES, format!("{{\"data\":0}}\n{{\"data\":{body}}}")).await;
            assert!(line.problem(422).contains("128 levels"), "{line}");
            assert_eq!(line.json()["line"], 2);
        }
    }
}

#[tokio::test]
async fn the_depth_that_is_accepted_can_be_set() {
    let hub = Hub::new(MemoryStore::default());
    let server = serve(PublishService::new(hub, Channels::from_query).max_depth(2)).await;
    for http in BOTH {
        let send = async |body: &str| server.post("/?channel=a", "application/json", body).over(http).send().await;
        send("[[1],{}]").await.expect(200);
        assert!(send("[[[]]]").await.problem(422).contains("more than 2 levels"));
    }
}

#[tokio::test(start_paused = true)]
async fn the_events_per_second_are_bounded_for_all_clients_together() {
    let hub = Hub::new(MemoryStore::default());
    let server = serve_in_memory(PublishService::new(hub.clone(), Channels::from_query).max_events_per_second(10));
    for http in BOTH {
        tokio::time::sleep(Duration::from_secs(60)).await;
        let batch = "{\"data\":1}\n".repeat(25);
        let send = async |channel: &str, body: &str| {
            server.post(&format!("/?channel={channel}"), LINES, body).over(http).send().await
        };
        // It comes after nothing, so it is accepted, whatever its size.
        send("a", &batch).await.expect(200);
        let refused = send("b", "{\"data\":1}").await;
        refused.problem(503);
        assert_eq!(refused.json()["type"], "urn:tower-events:too-many-publishes");
        // 15 more than one second's events.
        assert!((2..=3).contains(&refused.header("retry-after").parse().unwrap()), "{refused}");
        tokio::time::sleep(Duration::from_millis(1_400)).await;
        send("b", "{\"data\":1}").await.problem(503);
        tokio::time::sleep(Duration::from_millis(200)).await;
        send("b", "{\"data\":1}").await.expect(200);
    }
    let refusals = hub.stats().totals.refusals;
    assert_eq!((refusals.of(RefusedBy::PublishRate), refusals.sum()), (4, 4));
}

#[tokio::test(start_paused = true)]
async fn a_body_that_does_not_arrive_in_time_is_given_up() {
    let hub = Hub::new(MemoryStore::default());
    for (service, seconds) in [
        (PublishService::new(hub.clone(), Channels::from_query), 30),
        (PublishService::new(hub.clone(), Channels::from_query).body_timeout(Duration::from_secs(5)), 5),
    ] {
        let server = serve_in_memory(service);
        let mut client = server.http1().await;
        let started = Instant::now();
        client
            .send("POST /?channel=a HTTP/1.1\r\nhost: a\r\ncontent-type: text/plain\r\ncontent-length: 9\r\n\r\nhalf")
            .await;
        let answer = client.answer_to("POST").await.unwrap();
        assert_eq!(
            (answer.problem(408), started.elapsed().as_secs()),
            (format!("the body did not arrive within {seconds}s"), seconds)
        );
        assert_eq!(
            (answer.header("connection"), answer.json()["type"].as_str()),
            ("close", Some("urn:tower-events:body-timeout"))
        );
        assert!(client.answer_to("POST").await.is_err(), "the connection is closed");
    }
    assert_eq!(hub.heads(&support::channel("a").into()).await.unwrap()[0].cursor.seq, 0);
}

#[tokio::test]
async fn the_memory_of_bodies_that_are_arriving_is_bounded() {
    let hub = Hub::new(MemoryStore::default());
    let server = serve(PublishService::new(hub.clone(), Channels::from_query).max_body_memory(100 << 10)).await;
    for http in BOTH {
        let mut half = server.http1().await;
        let head = |bytes: usize| {
            format!(
                "POST /?channel=a HTTP/1.1\r\nhost: a\r\ncontent-type: text/plain\r\ncontent-length: {bytes}\r\n\r\n"
            )
        };
        half.send(head(90 << 10)).await;
        half.send(vec![b'x'; 80 << 10]).await;
        // As soon as it has arrived, no other large body has room, but small ones do.
        let large = || server.post("/?channel=b", "text/plain", vec![b'x'; 70 << 10]).over(http).send();
        let refused = loop {
            let answer = large().await;
            if answer.status != 200 {
                break answer;
            }
        };
        refused.problem(503);
        let refusals = hub.stats().totals.refusals;
        assert!(refusals.of(RefusedBy::BodyMemory) > 0 && refusals.of(RefusedBy::BodyMemory) == refusals.sum());
        assert_eq!(refused.json()["type"], "urn:tower-events:too-many-publishes");
        assert!(refused.header("retry-after").parse::<u64>().is_ok());
        server.post("/?channel=b", "text/plain", vec![b'x'; 10 << 10]).over(http).send().await.expect(200);
        half.send(vec![b'x'; 10 << 10]).await;
        half.answer_to("POST").await.unwrap().expect(200);
        large().await.expect(200);
        // A client that leaves gives its memory back.
        half.send(head(90 << 10)).await;
        half.send(vec![b'x'; 80 << 10]).await;
        while large().await.status == 200 {}
        drop(half);
        while large().await.status != 200 {}
    }
}

#[tokio::test]
async fn the_size_of_one_event_is_bounded() {
    let hub = Hub::new(MemoryStore::default());
    let routes = axum::Router::new()
        .route_service("/default", PublishService::new(hub.clone(), Channels::from_query))
        .route_service("/ten", PublishService::new(hub, Channels::from_query).max_event(10));
    let server = serve(routes).await;
    for http in BOTH {
        for (path, most) in [("/default", 256 << 10), ("/ten", 10)] {
            let send = async |content_type: &str, body: String| {
                server.post(&format!("{path}?channel=a"), content_type, body).over(http).send().await
            };
            send("text/plain", "x".repeat(most)).await.expect(200);
            // The limit applies to the data as stored.
            send("application/json", format!("{}\"{}\"", " ".repeat(100), "x".repeat(most))).await.expect(200);
            send(LINES, format!("{{\"data\":\"{0}\"}}\n{{\"data\":\"{0}\"}}", "x".repeat(most))).await.expect(200);
            for (content_type, body) in
                [("text/plain", "x".repeat(most + 1)), ("application/json", format!("[{}]", "1".repeat(most - 1)))]
            {
                let answer = send(content_type, body).await;
                assert!(answer.problem(422).contains(&format!("at most {most}")), "{answer}");
            }
            let line = send(LINES, format!("{{\"data\":1}}\n{{\"data\":\"{}\"}}", "x".repeat(most + 1))).await;
            line.problem(422);
            assert_eq!(line.json()["line"], 2);
        }
    }
}

#[tokio::test]
async fn the_names_of_events_that_event_source_fires_itself_are_refused() {
    let app = App::start().await;
    for name in ["error", "open"] {
        let query = app.post(&format!("/publish?channel=a&name={name}"), "text/plain", "x").send().await;
        assert!(query.problem(422).contains("EventSource"), "{query}");
        assert_eq!(query.json()["parameter"], "name");
        let line = app.post("/publish?channel=a", LINES, format!("{{\"data\":1,\"name\":\"{name}\"}}")).send().await;
        assert!(line.problem(422).contains("EventSource"), "{line}");
        assert_eq!(line.json()["line"], 1);
    }
    for name in ["message", "errors", "Open"] {
        app.post(&format!("/publish?channel=a&name={name}"), "text/plain", "x").send().await.expect(200);
    }
}

#[tokio::test]
async fn a_misspelled_channel_parameter_is_refused() {
    let app = App::start().await;
    for http in BOTH {
        for query in
            ["channel[]=a", "channel%5B%5D=a", "channel[0]=a", "channels=a", "channel=a&channels=b", "channels="]
        {
            let published = app.post(&format!("/publish?{query}"), "text/plain", "x").over(http).send().await;
            let read = app.get(&format!("/poll?{query}&wait=0")).over(http).send().await;
            for answer in [published, read] {
                let detail = answer.problem(400);
                assert_eq!(answer.json()["parameter"], "channel", "{query}");
                assert!(detail.contains("channel=a&channel=b"), "{query}: {detail}");
            }
        }
    }
    assert_eq!(app.get("/poll?channel=a&after=earliest&wait=0").send().await.expect(200).data().len(), 0);
}

#[tokio::test]
async fn no_batch_resets_a_reader_that_keeps_up() {
    for http in BOTH {
        let app = App::start().await;
        let mut idle = app.get("/sse?channel=a").over(http).sse().await;
        idle.live().await;
        let lines = |count: usize| (0..count).map(|n| format!("{{\"data\":{n}}}\n")).collect::<String>();
        // A batch of more than half of what is retained could drop events that the reader has not received yet.
        let refused = app.post("/publish?channel=a", LINES, lines(501)).over(http).send().await;
        refused.problem(413);
        assert_eq!(refused.json()["type"], "urn:tower-events:too-large");
        for _ in 0..2 {
            app.post("/publish?channel=a", LINES, lines(500)).over(http).send().await.expect(200);
        }
        let seen = idle.take(1_000).await;
        assert!(seen.iter().all(|event| !event.name.starts_with("stream-")), "no reset");
        assert_eq!(seen.last().unwrap().data, "499");
    }
}
