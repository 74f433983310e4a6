//! Keys and times chosen by clients: a key identifies one event, and a time may not be far in the future.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod support;

use http::Method;
use serde_json::{Value, json};
use support::{App, BOTH, serve};
use tower_events::{Channels, Hub, MemoryStore, PublishService, store::Clock};

const LINES: &str = "application/x-ndjson";

#[tokio::test]
async fn an_answer_says_which_events_were_already_stored() {
    for http in BOTH {
        let app = App::start().await;
        let one = async || {
            let request = app.post("/publish?channel=a", "text/plain", "x").over(http).header("idempotency-key", "one");
            request.send().await.expect(200)
        };
        let first = one().await;
        assert_eq!(first.json(), json!({"id": first.cursor()}));
        let again = one().await;
        assert_eq!(again.json(), json!({"id": first.cursor(), "duplicate": true}));
        assert_eq!(again.cursor(), first.cursor());

        let batch = async |lines: &'static str| {
            let request = app.post("/publish?channel=a", LINES, lines).over(http).header("idempotency-key", "k");
            request.send().await.expect(200).json()
        };
        let first = batch("{\"data\":0}\n\n{\"data\":\"x\",\"key\":\"own\"}").await;
        assert_eq!(first.get("duplicates"), None);
        // Positions in `ids`, not lines.
        let longer = batch("{\"data\":0}\n{\"data\":1}\n{\"data\":\"x\",\"key\":\"own\"}\n{\"data\":2}").await;
        assert_eq!(longer["duplicates"], json!([0, 2]));
        assert_eq!((&longer["ids"][0], &longer["ids"][2]), (&first["ids"][0], &first["ids"][1]));
        let all = batch("{\"data\":0}\n{\"data\":1}").await;
        assert_eq!(all, json!({"ids": [longer["ids"][0], longer["ids"][1]], "duplicates": [0, 1]}));
    }
}

#[tokio::test]
async fn a_batch_that_uses_a_key_for_two_events_is_refused_and_the_line_named() {
    let app = App::start().await;
    let table = [
        ("{\"data\":1,\"key\":\"k\"}\n\n{\"data\":2,\"key\":\"k\"}", 3),
        ("{\"data\":1,\"key\":\"k\"}\n{\"data\":1,\"key\":\"k\",\"name\":\"n\"}", 2),
        ("{\"data\":1,\"key\":\"k\",\"time\":1}\n{\"data\":1,\"key\":\"k\",\"time\":2}", 2),
        // The header gives the first line this key.
        ("{\"data\":1}\n{\"data\":2,\"key\":\"h/1\"}", 2),
        ("{\"data\":1,\"key\":\"h/2\"}\n{\"data\":2}", 2),
    ];
    for http in BOTH {
        for (lines, line) in table {
            let request = app.post("/publish?channel=a", LINES, lines).over(http).header("idempotency-key", "h");
            let answer = request.send().await;
            assert!(answer.problem(422).contains(&format!("line {line}")), "{answer}");
            let problem = answer.json();
            assert_eq!((&problem["line"], &problem["type"]), (&json!(line), &json!("urn:tower-events:key-reused")));
        }
    }
    assert_eq!(app.get("/poll?channel=a&after=earliest&wait=0").send().await.expect(200).json(), json!([]));
    // The same event with the same key is a duplicate.
    let twice = "{\"data\":1,\"key\":\"k\"}\n{\"data\":1,\"key\":\"k\"}";
    let answer = app.post("/publish?channel=a", LINES, twice).send().await.expect(200).json();
    assert_eq!((&answer["ids"][0], &answer["duplicates"]), (&answer["ids"][1], &json!([1])));
}

#[tokio::test]
async fn an_empty_key_is_refused() {
    let app = App::start().await;
    for http in BOTH {
        for key in ["", "\"\"", " "] {
            for content_type in ["text/plain", LINES] {
                let request = app.post("/publish?channel=a", content_type, "{\"data\":1}").over(http);
                let answer = request.header("idempotency-key", key).send().await;
                answer.problem(400);
                assert_eq!(answer.json()["parameter"], "Idempotency-Key", "{key:?}");
            }
            // Even in a close, which needs no key.
            let close = app.request(Method::POST, "/publish?channel=a").over(http).header("events-closed", "true");
            close.header("idempotency-key", key).send().await.problem(400);
        }
        for key in ["", "\\u0000", "a\\u0000b"] {
            let lines = format!("{{\"data\":1}}\n{{\"data\":1,\"key\":\"{key}\"}}");
            let answer = app.post("/publish?channel=a", LINES, lines).over(http).send().await;
            assert!(answer.problem(422).contains("key"), "{answer}");
            assert_eq!(answer.json()["line"], 2, "{key:?}");
        }
        let not_text = app.post("/publish?channel=a", LINES, "{\"data\":1,\"key\":7}").over(http).send().await;
        assert!(not_text.problem(422).contains("`key`"), "{not_text}");
    }
    assert_eq!(app.get("/poll?channel=a&after=earliest&wait=0").send().await.expect(200).json(), json!([]));
}

#[tokio::test]
async fn a_time_more_than_an_hour_ahead_is_refused() {
    let hub = Hub::new(MemoryStore::default());
    let now = 1_732_094_400_000_u64;
    let server = serve(PublishService::new(hub, Channels::from_query).clock(Clock::new(move || now))).await;
    let (last, first_refused) = (now + 3_600_000, now + 3_600_001);
    for http in BOTH {
        let send = async |uri: String, content_type: &str, body: String| {
            server.post(&uri, content_type, body).over(http).send().await
        };
        for time in [0, now, last] {
            send(format!("/?channel=a&time={time}"), "text/plain", "x".into()).await.expect(200);
            send("/?channel=a".into(), LINES, format!("{{\"data\":1,\"time\":{time}}}")).await.expect(200);
        }
        for time in [first_refused, 8_640_000_000_000_000] {
            let query = send(format!("/?channel=a&time={time}"), "text/plain", "x".into()).await;
            let lines = format!("{{\"data\":1}}\n{{\"data\":1,\"time\":{time}}}");
            let line = send("/?channel=a".into(), LINES, lines).await;
            assert_eq!((&query.json()["line"], &line.json()["line"]), (&Value::Null, &json!(2)));
            for answer in [query, line] {
                assert!(answer.problem(422).contains("`time`"), "{answer}");
                assert_eq!(answer.json()["parameter"], "time");
            }
        }
    }
}

#[tokio::test]
async fn a_key_reused_for_another_event_is_refused_and_the_line_named() {
    for http in BOTH {
        let app = App::start().await;
        let send = async |content_type: &str, body: &str| {
            app.post("/publish?channel=a", content_type, body).over(http).header("idempotency-key", "k").send().await
        };
        send("text/plain", "one").await.expect(200);
        let other = send("text/plain", "other").await;
        other.problem(422);
        assert_eq!(other.json()["type"], "urn:tower-events:key-reused");
        assert_eq!(other.json()["parameter"], "Idempotency-Key");
        send(LINES, "{\"data\":1}\n{\"data\":2}").await.expect(200);
        let batch = send(LINES, "{\"data\":1}\n\n{\"data\":3,\"key\":\"k/2\"}\n{\"data\":4}").await;
        batch.problem(422);
        assert_eq!(batch.json()["line"], 3);
        let polled = app.get("/poll?channel=a&after=earliest&wait=0").send().await;
        assert_eq!(polled.data(), [json!("one"), json!(1), json!(2)], "nothing of what was refused");
    }
}
