//! Publishing over HTTP: every content type, parameter and header of the contract, over HTTP/1.1 and HTTP/2.

mod support;

use http::Method;
use serde_json::{Value, json};
use support::{App, BOTH};
use tower_events::Event;

/// The channel's events, oldest first.
async fn stored(app: &App, name: &str) -> Value {
    app.get(&format!("/poll?channel={name}&after=earliest&wait=0")).send().await.expect(200).json()
}

#[tokio::test]
async fn json_text_and_batches_are_published() {
    for http in BOTH {
        let app = App::start().await;
        let one = app.post("/publish?channel=a&name=said&time=17", "application/json", r#" {"x": [1, 2]} "#);
        let one = one.over(http).send().await.expect(200);
        assert_eq!(one.json(), json!({"id": one.cursor()}));
        assert_eq!(one.header("content-type"), "application/json");
        assert_eq!(one.header("cache-control"), "no-store");
        let text =
            app.post("/publish?channel=a", "text/plain; charset=UTF-8", "é\r\n").over(http).send().await.expect(200);
        let lines = "{\"data\":1,\"name\":\"n\",\"time\":5}\n\n{\"data\":null}\r\n{\"data\":\"x\",\"key\":\"k\"}";
        let batch = app.post("/publish?channel=a", "application/x-ndjson", lines).over(http).send().await.expect(200);
        let ids = batch.json()["ids"].as_array().unwrap().clone();
        assert_eq!((ids.len(), ids.last().unwrap()), (3, &json!(batch.cursor())));

        let stored = stored(&app, "a").await;
        let seen: Vec<_> = stored.as_array().unwrap().iter().map(|event| (&event["data"], &event["name"])).collect();
        let (said, n, none) = (json!("said"), json!("n"), Value::Null);
        let data = [json!({"x": [1, 2]}), json!("é\r\n"), json!(1), Value::Null, json!("x")];
        assert_eq!(seen, [(&data[0], &said), (&data[1], &none), (&data[2], &n), (&data[3], &none), (&data[4], &none)]);
        assert_eq!((&stored[0]["time"], &stored[2]["time"]), (&json!(17), &json!(5)));
        assert_eq!((&stored[0]["id"], &stored[1]["id"]), (&json!(one.cursor()), &json!(text.cursor())));
    }
}

#[tokio::test]
async fn every_json_value_is_data() {
    let app = App::start().await;
    let values = ["null", "true", "-1.5e-7", "1e300", "\"text\"", "[]", "{}", r#"{"b":1,"a":2}"#];
    for value in values {
        app.post("/publish?channel=a", "application/json", value).send().await.expect(200);
    }
    let polled = app.get("/poll?channel=a&after=earliest&wait=0").send().await.expect(200);
    for value in values {
        assert!(polled.text().contains(&format!("\"data\":{value}}}")), "{value} in {}", polled.text());
    }
}

#[tokio::test]
async fn a_repeated_key_is_published_once() {
    for http in BOTH {
        let app = App::start().await;
        let send = |key: &'static str, body: &'static str| {
            app.post("/publish?channel=a", "text/plain", body).over(http).header("idempotency-key", key).send()
        };
        let first = send("k1", "x").await.expect(200);
        assert_eq!(send("k1", "x").await.expect(200).cursor(), first.cursor());
        // The draft standard quotes the key.
        assert_eq!(send("\"k1\"", "x").await.expect(200).json()["id"], first.json()["id"]);
        assert_ne!(send("k2", "y").await.expect(200).cursor(), first.cursor());
        assert_eq!(stored(&app, "a").await.as_array().unwrap().len(), 2);
    }
}

#[tokio::test]
async fn each_line_of_a_batch_has_its_own_key() {
    let app = App::start().await;
    let send = |key: &'static str, lines: &'static str| {
        app.post("/publish?channel=a", "application/x-ndjson", lines).header("idempotency-key", key).send()
    };
    let first = send("k", "{\"data\":0}\n{\"data\":1}\n{\"data\":2,\"key\":\"own\"}").await.expect(200);
    let again = send("k", "{\"data\":0}\n{\"data\":1}\n{\"data\":2,\"key\":\"own\"}").await.expect(200);
    assert_eq!(again.json()["ids"], first.json()["ids"]);
    // The second line's key is `k/2`; the third line's own key takes precedence over the header.
    let single = app.post("/publish?channel=a", "application/json", "1").header("idempotency-key", "k/2").send().await;
    assert_eq!(single.expect(200).json()["id"], first.json()["ids"][1]);
    let own = app.post("/publish?channel=a", "application/json", "2").header("idempotency-key", "own").send().await;
    assert_eq!(own.expect(200).json()["id"], first.json()["ids"][2]);
    // A batch that was stored in part is completed.
    let longer = send("k", "{\"data\":0}\n{\"data\":1}\n{\"data\":2}").await.expect(200).json();
    assert_eq!(longer["ids"].as_array().unwrap()[..2], first.json()["ids"].as_array().unwrap()[..2]);
    assert_ne!(longer["ids"][2], first.json()["ids"][2]);
    assert_eq!(stored(&app, "a").await.as_array().unwrap().len(), 4);
}

#[tokio::test]
async fn a_batch_is_published_whole_or_not_at_all() {
    for http in BOTH {
        let app = App::start().await;
        for bad in ["{\"data\":1}\nnonsense", "{\"data\":1}\n{\"name\":\"stream-x\",\"data\":2}", "{\"data\":1}\n{}"] {
            let answer = app.post("/publish?channel=a", "application/x-ndjson", bad).over(http).send().await;
            assert!([400, 422].contains(&answer.status), "{answer}");
            answer.problem(answer.status);
            assert_eq!(answer.json()["line"], 2, "{answer}");
        }
        // An empty batch appends nothing and answers with the head.
        let empty = app.post("/publish?channel=a", "application/x-ndjson", "\n").over(http).send().await.expect(200);
        assert_eq!((empty.json(), empty.cursor()), (json!({"ids": []}), app.head("a").await.to_string()));
        assert_eq!(stored(&app, "a").await, json!([]));
    }
}

#[tokio::test]
async fn a_publish_can_close_the_channel() {
    for http in BOTH {
        let app = App::start().await;
        let last = app.post("/publish?channel=a", "text/plain", "last").over(http).header("events-closed", "true");
        let last = last.send().await.expect(200);
        let refused = app.post("/publish?channel=a", "text/plain", "more").over(http).send().await;
        refused.problem(409);
        assert_eq!(refused.header("events-closed"), "true");
        let polled = app.get("/poll?channel=a&after=earliest").over(http).send().await.expect(200);
        assert_eq!((polled.data(), polled.header("events-closed")), (vec![json!("last")], "true"));
        assert_eq!(polled.cursor(), last.cursor());

        // An empty body only closes, and closing again is no error.
        app.publish("b", Event::text("x")).await;
        for _ in 0..2 {
            let request = app.request(Method::POST, "/publish?channel=b").over(http).header("events-closed", "true");
            let closed = request.send().await.expect(200);
            assert_eq!(closed.cursor(), app.head("b").await.to_string());
        }
        assert_eq!(stored(&app, "b").await.as_array().unwrap().len(), 1);
        assert!(app.hub.heads(&support::channel("b").into()).await.unwrap()[0].closed);
    }
}

#[tokio::test]
async fn an_acknowledged_event_can_be_read_at_once() {
    let app = App::start().await;
    for http in BOTH {
        let mut stream = app.get("/sse?channel=a").over(http).sse().await;
        stream.first_block().await;
        for n in 0..20 {
            let id = app
                .post("/publish?channel=a", "text/plain", n.to_string())
                .over(http)
                .send()
                .await
                .expect(200)
                .cursor();
            assert_eq!(app.head("a").await.to_string(), id);
            let message = stream.next().await;
            assert_eq!((message.data, message.id), (n.to_string(), id));
        }
    }
}

#[tokio::test]
async fn options_and_unsupported_methods_name_the_allowed_ones() {
    let app = App::start().await;
    for http in BOTH {
        let answer = app.request(Method::OPTIONS, "/publish?channel=a").over(http).send().await.expect(204);
        assert_eq!(answer.header("allow"), "POST, OPTIONS");
        for method in [Method::GET, Method::PUT, Method::DELETE, Method::PATCH] {
            let answer = app.request(method, "/publish?channel=a").over(http).send().await;
            answer.problem(405);
            assert_eq!(answer.header("allow"), "POST, OPTIONS");
        }
    }
}
