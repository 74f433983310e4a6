//! Every invalid request is answered with what is wrong, changes nothing, and leaves the server working; no answer is a 500.

mod support;

use std::time::Duration;

use http::Method;
use serde_json::json;
use support::{App, BOTH, serve};
use tower_events::{
    Channels, Event, EventService, Hub, MemoryStore, PublishService, request::Rejection, testing::FaultStore,
};

#[tokio::test]
async fn a_malformed_parameter_is_named() {
    let app = App::start().await;
    let (a, b) = (app.publish("a", Event::text("1")).await, app.publish("a", Event::text("2")).await);
    let long = "x".repeat(256);
    // The query, and the parameter that the answer names.
    let table = [
        (String::new(), "channel"),
        ("channel=".into(), "channel"),
        ("channels=a".into(), "channel"),
        ("channel=a%0Ab".into(), "channel"),
        ("channel=a%00b".into(), "channel"),
        ("channel=%7F".into(), "channel"),
        ("channel=%FF".into(), "channel"),
        (format!("channel={long}"), "channel"),
        ((0..33).map(|n| format!("channel={n}&")).collect(), "channel"),
        ("channel=a&after=nonsense".into(), "after"),
        ("channel=a&after=%FF%FE".into(), "after"),
        (format!("channel=a&after={}", "A".repeat(4096)), "after"),
        (format!("channel=a&after={a}&after={b}"), "after"),
        (format!("channel=a&cursor={a}"), "cursor"),
        ("channel=a&since=17".into(), "since"),
        ("channel=a&timeout=30".into(), "timeout"),
        ("channel=a&transport=websocket".into(), "transport"),
        ("channel=a&time=now".into(), "time"),
        ("channel=a&time=-1".into(), "time"),
        ("channel=a&time=1.5".into(), "time"),
        ("channel=a&time=8640000000000001".into(), "time"),
        ("channel=a&time=99999999999999999999999999".into(), "time"),
        ("channel=a&last=-1".into(), "last"),
        ("channel=a&last=few".into(), "last"),
        ("channel=a&last=1&last=2".into(), "last"),
        ("channel=a&time=1&last=2".into(), "last"),
        (format!("channel=a&after={a}&time=1"), "time"),
        ("channel=a&limit=0".into(), "limit"),
        ("channel=a&limit=-5".into(), "limit"),
        ("channel=a&limit=ten".into(), "limit"),
        ("channel=a&limit=1e3".into(), "limit"),
        ("channel=a&wait=-1".into(), "wait"),
        ("channel=a&wait=soon".into(), "wait"),
        ("channel=a&wait=1.5".into(), "wait"),
        ("channel=a&format=xml".into(), "format"),
        ("channel=a&heartbeat=loud".into(), "heartbeat"),
    ];
    for http in BOTH {
        for (query, parameter) in &table {
            for path in ["/events", "/sse", "/poll"] {
                let answer = app.get(&format!("{path}?{query}")).over(http).send().await;
                let detail = answer.problem(400);
                assert_eq!(answer.json()["parameter"], *parameter, "{path}?{query}: {answer}");
                assert!(detail.len() > parameter.len() + 4, "no reason: {detail}");
            }
        }
    }
    assert_eq!(app.hub.stats().readers, 0);
    still_serves(&app).await;
}

#[tokio::test]
async fn unknown_parameters_are_ignored() {
    let app = App::start().await;
    for query in ["channel=a&token=x&%FF=%FE&&=&x", "channel=a&Channel=b&WAIT=x", "%63hannel=a"] {
        app.get(&format!("/poll?{query}&wait=0")).send().await.expect(200);
    }
}

#[tokio::test]
async fn a_malformed_publish_is_explained_and_publishes_nothing() {
    let app = App::start().await;
    let (json, text, lines) = ("application/json", "text/plain", "application/x-ndjson");
    let deep = "[".repeat(100_000);
    // Query, content type, body, status, and a word that the answer contains.
    let table: Vec<(&str, &str, &[u8], u16, &str)> = vec![
        ("", text, b"x", 400, "channel"),
        ("channel=a&channel=b", text, b"x", 400, "channel"),
        ("channel=a%0Ab", text, b"x", 400, "channel"),
        ("channel=a", json, b"", 400, "JSON"),
        ("channel=a", json, b"{", 400, "JSON"),
        ("channel=a", json, b"1 2", 400, "JSON"),
        ("channel=a", json, b"nonsense", 400, "JSON"),
        ("channel=a", json, b"\"\xff\"", 400, "JSON"),
        ("channel=a", json, b"\"\\ud800\"", 400, "JSON"),
        ("channel=a", json, deep.as_bytes(), 400, "JSON"),
        ("channel=a", text, b"\xff", 400, "UTF-8"),
        ("channel=a", json, b"[1e400]", 422, "range"),
        ("channel=a", lines, b"1", 422, "line 1"),
        ("channel=a", lines, b"{\"data\":1}\n{}", 422, "line 2"),
        ("channel=a", lines, b"{\"data\":1,\"name\":2}", 422, "name"),
        ("channel=a", lines, b"{\"data\":1,\"name\":\"a\\nb\"}", 422, "name"),
        ("channel=a", lines, b"{\"data\":1,\"time\":-1}", 422, "time"),
        ("channel=a", lines, b"{\"data\":1,\"time\":8640000000000001}", 422, "time"),
        ("channel=a", lines, b"{\"data\":1,\"key\":\"\"}", 422, "key"),
        ("channel=a", lines, b"{\"data\":1,\"nmae\":\"x\"}", 422, "nmae"),
        ("channel=a&name=stream-x", text, b"x", 422, "stream-"),
        ("channel=a&name=a%0Ab", text, b"x", 422, "name"),
        ("channel=a&time=x", text, b"x", 400, "time"),
        ("channel=a&time=8640000000000001", text, b"x", 422, "time"),
        ("channel=a", "text/html", b"x", 415, "text/plain"),
        ("channel=a", "nonsense", b"x", 415, "application/json"),
        ("channel=a", "text/plain; charset=latin1", b"x", 415, "UTF-8"),
    ];
    for http in BOTH {
        for (query, content_type, body, status, about) in &table {
            let answer = app.post(&format!("/publish?{query}"), content_type, *body).over(http).send().await;
            let shown = String::from_utf8_lossy(&body[..body.len().min(60)]).into_owned();
            assert_eq!(answer.status, *status, "{query} {content_type} {shown}: {answer}");
            let detail = answer.problem(*status);
            assert!(
                detail.to_lowercase().contains(&about.to_lowercase()),
                "{query} {content_type} {shown}: {detail:?} does not mention {about:?}"
            );
        }
        let none = app.request(Method::POST, "/publish?channel=a").over(http).body("x").send().await;
        none.problem(415);
        for key in [&b"a\tb"[..], b"\xff", &[b'k'; 300], b"\"open"] {
            let request = app.post("/publish?channel=a", text, "x").over(http).header("idempotency-key", key);
            let answer = request.send().await;
            let detail = answer.problem(400);
            assert!(detail.to_lowercase().contains("key"), "{answer}");
        }
        let close = app.post("/publish?channel=a", text, "x").over(http).header("events-closed", "maybe").send().await;
        assert!(
            close.problem(400).contains("Events-Closed") || close.json()["parameter"] == "Events-Closed",
            "{close}"
        );
    }
    let polled = app.get("/poll?channel=a&after=earliest&wait=0").send().await.expect(200);
    assert_eq!(polled.json(), json!([]));
    still_serves(&app).await;
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused_without_being_read() {
    let app = App::start().await;
    for http in BOTH {
        let body = vec![b'x'; (1 << 20) + 1];
        let answer = app.post("/publish?channel=a", "text/plain", body).over(http).send().await;
        assert!(answer.problem(413).contains("1048576"), "{answer}");
        let most = [vec![b' '; (1 << 20) - 1], b"1".to_vec()].concat();
        app.post("/publish?channel=a", "application/json", most).over(http).send().await.expect(200);
    }
    // Announced by its length, but never sent.
    let mut raw = app.http1().await;
    raw.send("POST /publish?channel=a HTTP/1.1\r\nhost: a\r\ncontent-type: text/plain\r\ncontent-length: 99999999999\r\n\r\n").await;
    raw.answer_to("POST").await.unwrap().problem(413);
    still_serves(&app).await;
}

#[tokio::test]
async fn a_truncated_body_publishes_nothing() {
    let app = App::start().await;
    for sent in ["content-length: 10\r\n\r\nhalf", "transfer-encoding: chunked\r\n\r\n5\r\nhal"] {
        let mut raw = app.http1().await;
        raw.send(format!("POST /publish?channel=a HTTP/1.1\r\nhost: a\r\ncontent-type: text/plain\r\n{sent}")).await;
        drop(raw);
    }
    let mut raw = app.http1().await;
    raw.send("POST /publish?channel=a HTTP/1.1\r\nhost: a\r\ncontent-type: text/plain\r\ntransfer-encoding: chunked\r\n\r\nZZ\r\n").await;
    if let Ok(answer) = raw.answer_to("POST").await {
        assert_eq!(answer.status, 400, "{answer}");
    }
    still_serves(&app).await;
    assert_eq!(app.get("/poll?channel=a&after=earliest&wait=0").send().await.expect(200).json(), json!([]));
}

#[tokio::test]
async fn bytes_that_are_not_http_do_not_affect_other_clients() {
    let app = App::start().await;
    let mut stream = app.get("/sse?channel=a").sse().await;
    for nonsense in
        ["\0\0\0\0", "GET", "GET / HTTP/9.9\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\0", "\r\n\r\n\r\n"]
    {
        let mut raw = app.http1().await;
        raw.send(nonsense).await;
    }
    app.publish("a", Event::text("still here")).await;
    assert_eq!(stream.next().await.data, "still here");
}

#[tokio::test]
async fn rejections_have_their_status_on_every_method() {
    let hub = Hub::new(MemoryStore::default());
    let resolver = |request: &http::request::Parts| match request.uri.query() {
        Some("401") => Err(Rejection::unauthorized("Bearer realm=\"events\"")),
        Some("403") => Err(Rejection::forbidden()),
        Some("404") => Err(Rejection::not_found()),
        Some("429") => Err(Rejection::too_many(Duration::from_secs(7))),
        Some("503") => Err(Rejection::unavailable(Duration::from_secs(7))),
        _ => Channels::from_query(request),
    };
    let routes = axum::Router::new()
        .route_service("/events", EventService::new(hub.clone(), resolver))
        .route_service("/publish", PublishService::new(hub, resolver));
    let server = serve(routes).await;
    for http in BOTH {
        for status in [401_u16, 403, 404, 429, 503] {
            let answers = [
                server.get(&format!("/events?{status}")).over(http).send().await,
                server.post(&format!("/publish?{status}"), "text/plain", "x").over(http).send().await,
            ];
            for answer in answers {
                answer.problem(status);
                assert_eq!(answer.try_header("www-authenticate"), (status == 401).then_some("Bearer realm=\"events\""));
                assert_eq!(answer.try_header("retry-after"), (status >= 429).then_some("7"));
            }
            let head = server.request(Method::HEAD, &format!("/events?{status}")).over(http).send().await;
            assert_eq!((head.status, head.body.len()), (status, 0));
        }
        // An `EventSource` gets permanent rejections as errors, temporary ones as `stream-retry`.
        for status in [401_u16, 403, 404] {
            let request = server.get(&format!("/events?{status}")).over(http).header("accept", "text/event-stream");
            request.send().await.problem(status);
        }
        let mut busy = server.get("/events?429").over(http).last_event_id("abc").sse().await;
        assert_eq!(busy.next().await.name, "stream-retry");
        assert!(busy.remaining().await.is_empty());
        assert!(busy.retry().is_some());
    }
}

#[tokio::test]
async fn a_failing_store_is_a_503_for_polls_and_a_stream_retry_for_event_source() {
    let (store, faults) = FaultStore::new(MemoryStore::default());
    let app = App::on(store).await;
    // Each round uses another channel, because the head of a followed one is known without the store.
    for (http, name) in BOTH.into_iter().zip(["a", "c"]) {
        let id = app.publish(name, Event::text("1")).await;
        faults.fail_next_reads(100);
        faults.fail_next_heads(100);
        let answer = app.get(&format!("/events?channel={name}&wait=0&after={id}")).over(http).send().await;
        answer.problem(503);
        assert!(answer.header("retry-after").parse::<u64>().unwrap() >= 1);
        let mut stream = app.get(&format!("/events?channel={name}")).over(http).last_event_id(&id).sse().await;
        assert_eq!(stream.next().await.name, "stream-retry");
        assert!(stream.remaining().await.is_empty());
        assert_eq!(stream.last_event_id(), id);
        assert!(stream.retry().is_some());
        faults.fail_next_reads(0);
        faults.fail_next_heads(0);

        faults.fail_next_appends(1);
        let answer = app.post("/publish?channel=a", "text/plain", "x").over(http).send().await;
        answer.problem(503);
        assert!(answer.header("retry-after").parse::<u64>().unwrap() >= 1);
        faults.lose_next_answers(1);
        let answer =
            app.post("/publish?channel=b", "text/plain", "x").over(http).header("idempotency-key", "k").send().await;
        assert!(answer.problem(504).contains("key"), "{answer}");
        let again =
            app.post("/publish?channel=b", "text/plain", "x").over(http).header("idempotency-key", "k").send().await;
        again.expect(200);
    }
    let b = app.get("/poll?channel=b&after=earliest&wait=0").send().await.expect(200);
    assert_eq!(b.data().len(), 1);
}

async fn still_serves(app: &App) {
    for http in BOTH {
        app.post("/publish?channel=after", "text/plain", "ok").over(http).send().await.expect(200);
        let polled = app.get("/events?channel=after&last=1&wait=0").over(http).send().await.expect(200);
        assert_eq!(polled.data(), [json!("ok")]);
    }
}
