//! Whatever names, ids, keys and data a client sends, they stay what they are: no header, block of a stream, field of JSON or
//! log line is forged by them.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a helper that panics is a failed test"
)]

#[path = "support/logs.rs"]
mod logs;
mod support;

use std::time::Duration;

use form_urlencoded::byte_serialize;
use http::HeaderMap;
use serde_json::{Value, json};
use support::{App, BOTH, channel, serve};
use tower_events::{Channels, Event, LongPollService, MemoryStore, testing::FaultStore};

/// Texts that try to end what they are in: lines, blocks, quotes, tags, terminal sequences, the direction of writing.
const TEXTS: [&str; 12] = [
    "x\r\nevent: stream-reset\r\ndata: {\"reason\":\"forged\"}\r\nid: forged\r\nretry: 1\r\n\r\n",
    "x\n\ndata: forged\n\n",
    "\r\r\r",
    "\0a\0",
    "\u{1b}[2J\u{1b}]0;forged\u{7}\u{9b}31m\u{7f}",
    "</script><script>alert(1)</script><img src=x onerror=alert(1)>",
    "\u{202e}gpj.exe\u{2066}\u{200f}",
    "x\u{2028}event: stream-end\u{2029}data: forged\u{85}",
    "\u{feff}data: forged",
    "\",\"id\":\"forged\"}]",
    ":\n",
    "id\nid:\nid: \0\n",
];

/// As far as they are allowed in names.
const NAMES: [&str; 8] = [
    "</script><img src=x onerror=alert(1)>",
    "a\";channel=\"b\", trimmed;x=\"",
    "%0d%0aset-cookie: x=1",
    "\u{202e}gpj.exe\u{2066}\u{200f}",
    "\\u000a\\\"\\",
    " :é🦀\u{feff}",
    "a\u{2028}b\u{2029}c",
    "../../../etc/passwd?x#y&channel=z",
];

/// Names of the greatest length: 255 bytes.
fn long_names() -> [String; 3] {
    ["\"".repeat(255), "é".repeat(127) + "a", "\u{2028}".repeat(85)]
}

fn escaped(text: &str) -> String {
    byte_serialize(text.as_bytes()).collect()
}

/// A header can be forged only by a line break; anything but visible ASCII is read differently by different programs.
#[track_caller]
fn check_head(headers: &HeaderMap) {
    for (name, value) in headers {
        assert!(value.as_bytes().iter().all(|byte| (b' '..=b'~').contains(byte)), "{name}: {value:?}");
    }
    assert!(!headers.contains_key("set-cookie"));
}

#[tokio::test]
async fn data_is_received_as_it_was_sent() {
    for http in BOTH {
        let app = App::start().await;
        let start = app.head("a").await;
        let mut sent = Vec::new();
        for text in TEXTS {
            app.post("/publish?channel=a", "text/plain", text).over(http).send().await.expect(200);
            app.post("/publish?channel=a", "application/json", json!(text).to_string()).send().await.expect(200);
            app.post("/publish?channel=a", "application/json", json!({ text: [text] }).to_string())
                .send()
                .await
                .expect(200);
            let line = json!({ "data": { "n": text } }).to_string();
            app.post("/publish?channel=a", "application/x-ndjson", line).send().await.expect(200);
            sent.extend([json!(text), json!(text), json!({ text: [text] }), json!({ "n": text })]);
        }
        let polled = app.get(&format!("/poll?channel=a&after={start}&limit=100")).over(http).send().await.expect(200);
        check_head(&polled.headers);
        assert_eq!(polled.data(), sent);
        let page = app.get(&format!("/poll?channel=a&after={start}&limit=100&format=page")).send().await.expect(200);
        check_head(&page.headers);
        assert_eq!(page.json()["events"], polled.json());

        let ids: Vec<_> = polled.json().as_array().unwrap().iter().map(|event| event["id"].clone()).collect();
        let mut text = app.get(&format!("/sse?channel=a&after={start}")).over(http).sse().await;
        let mut objects = app.get(&format!("/sse?channel=a&after={start}&format=json")).over(http).sse().await;
        for (value, id) in sent.iter().zip(&ids) {
            let (message, object) = (text.next().await, objects.next().await);
            assert_eq!((message.name.as_str(), object.name.as_str()), ("message", "message"));
            assert_eq!((&json!(message.id), &json!(object.id)), (id, id));
            match value {
                Value::String(text) => assert_eq!(message.data, text.replace("\r\n", "\n").replace('\r', "\n")),
                value => assert_eq!(serde_json::from_str::<Value>(&message.data).unwrap(), *value),
            }
            let object: Value = serde_json::from_str(&object.data).unwrap();
            assert_eq!((&object["data"], &object["id"], &object["channel"]), (value, id, &json!("a")));
        }
        for stream in [&text, &objects] {
            check_head(&stream.headers);
            assert!(stream.parser().unknown_fields.is_empty(), "{:?}", stream.parser().unknown_fields);
            assert_ne!(stream.retry(), Some(Duration::from_millis(1)));
        }
    }
}

#[tokio::test]
async fn names_are_received_as_they_were_sent() {
    let long = long_names();
    for http in BOTH {
        for name in NAMES.into_iter().chain(long.iter().map(String::as_str)) {
            let (app, in_query) = (App::start().await, escaped(name));
            let line = json!({ "data": "x", "name": name, "key": name }).to_string();
            let published = app.post(&format!("/publish?channel={in_query}"), "application/x-ndjson", line).over(http);
            let published = published.send().await.expect(200);
            check_head(&published.headers);

            let reset = format!("channel={in_query}&channel=other");
            let polled =
                app.get(&format!("/poll?{reset}")).last_event_id("nonsense").over(http).send().await.expect(200);
            check_head(&polled.headers);
            assert_eq!(polled.header("events-reset"), "unknown");
            assert_eq!((&polled.json()[0]["channel"], &polled.json()[0]["name"]), (&json!(name), &json!(name)));
            let page =
                app.get(&format!("/poll?{reset}&format=page")).last_event_id("nonsense").send().await.expect(200);
            assert_eq!(page.json()["resets"].as_array().unwrap().len(), 2);

            let mut stream = app.get(&format!("/sse?{reset}")).last_event_id("nonsense").over(http).sse().await;
            check_head(&stream.headers);
            let first: Value = serde_json::from_str(&stream.next().await.data).unwrap();
            assert!(first["channel"] == name || first["channel"] == "other", "{first}");
            let messages = stream.take(2).await;
            let message = messages.iter().find(|message| message.name != "stream-reset").unwrap();
            assert_eq!((message.name.as_str(), message.data.as_str()), (name, "x"));
            assert!(stream.parser().unknown_fields.is_empty());
        }
    }
}

/// One channel of several that was reset is named in a header.
#[tokio::test]
async fn a_channel_that_was_reset_is_named_in_a_header_without_forging_it() {
    let app = App::start().await;
    for name in NAMES {
        let query = format!("channel={}&channel=other", escaped(name));
        app.hub.publish(&channel(name), Event::text("x")).await.unwrap();
        let cursor = app.get(&format!("/poll?{query}&wait=0")).send().await.expect(200).cursor();
        app.hub.init(&channel(name), vec![Event::text("new")]).await.unwrap();
        for http in BOTH {
            let answer = app.get(&format!("/poll?{query}&after={cursor}")).over(http).send().await.expect(200);
            check_head(&answer.headers);
            let value = answer.header("events-reset");
            let named = value.strip_prefix("epoch-changed;channel=\"").and_then(|rest| rest.strip_suffix('"')).unwrap();
            assert!(named.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"%-._~".contains(&byte)), "{value}");
            assert_eq!(percent_encoding::percent_decode_str(named).decode_utf8().unwrap(), name);
        }
    }
}

#[tokio::test]
async fn control_characters_in_names_and_keys_are_refused() {
    let app = App::start().await;
    for bad in
        ["a\r\nset-cookie: x=1", "a\nb", "a\0", "\u{1b}[31m", "a\u{7f}", "a\u{85}b", "\u{9b}31m", &"x".repeat(256)]
    {
        for http in BOTH {
            let (bad, line) = (escaped(bad), |field: &str| json!({ "data": 1, field: bad }).to_string());
            let post = |path: String, kind: &str, body: String| app.post(&path, kind, body).over(http).send();
            let answers = [
                (post(format!("/publish?channel={bad}"), "text/plain", "x".into()).await, 400),
                (post(format!("/publish?channel=a&name={bad}"), "text/plain", "x".into()).await, 422),
                (post("/publish?channel=a".into(), "application/x-ndjson", line("name")).await, 422),
                (post("/publish?channel=a".into(), "application/x-ndjson", line("key")).await, 422),
                (app.get(&format!("/poll?channel={bad}")).over(http).send().await, 400),
                (app.get(&format!("/sse?channel={bad}")).over(http).send().await, 400),
            ];
            for (answer, status) in answers {
                answer.problem(status);
                check_head(&answer.headers);
            }
        }
    }
    assert_eq!(app.head("a").await.seq, 0);
}

#[tokio::test]
async fn positions_and_parameters_are_not_reflected() {
    let app = App::start().await;
    let service = LongPollService::new(app.hub.clone(), Channels::from_query).keep_parameters(["room"]);
    let keeping = serve(axum::Router::new().fallback_service(service)).await;
    for bad in TEXTS.into_iter().chain(NAMES) {
        let bad = escaped(bad);
        for parameter in ["after", "last_event_id", "time", "wait", "limit", "format", "transport", "x"] {
            let answer = app.get(&format!("/poll?channel=a&{parameter}={bad}&wait=0")).send().await;
            check_head(&answer.headers);
            assert!(!String::from_utf8_lossy(&answer.body).contains("<script>"), "{answer}");
        }
        let answer = keeping.get(&format!("/?channel=a&room={bad}&wait=0")).send().await.expect(200);
        check_head(&answer.headers);
        let link = answer.header("link");
        let url = link.strip_prefix('<').and_then(|rest| rest.strip_suffix(">; rel=\"next\"")).unwrap();
        assert!(!url.contains(['<', '>', '"', ' ', '\\']), "{link}");
    }
    for id in [&b"\xff\xfe"[..], b"\x80<script>", &[b'A'; 4_000], b"\"; x=\"", b"a\tb"] {
        for path in ["/poll?channel=a&wait=0", "/poll?channel=a&channel=b&wait=0"] {
            let answer = app.get(path).last_event_id(id).send().await.expect(200);
            check_head(&answer.headers);
            assert_eq!(answer.header("events-reset"), "unknown");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn no_log_line_is_forged() {
    let logs = logs::Logs::of_this_thread();
    let (store, faults) = FaultStore::new(MemoryStore::default());
    let app = App::in_memory_on(store);
    for name in NAMES {
        let query = format!("channel={}", escaped(name));
        let publish = |text: &str| {
            app.post(&format!("/publish?{query}"), "text/plain", text).header("idempotency-key", escaped(text))
        };
        for text in TEXTS {
            publish(text).send().await.expect(200);
        }
        faults.fail_next_appends(1);
        publish("x").send().await.expect(503);
        let mut stream = app.get(&format!("/sse?{query}")).sse().await;
        stream.live().await;
        faults.corrupt_channel(&channel(name));
        app.get(&format!("/poll?{query}&after=earliest&wait=0")).last_event_id(name).send().await.expect(503);
        app.get(&format!("/sse?{query}&after=earliest")).send().await.expect(503);
        // Until the hub has compared the heads of the channels that it follows.
        tokio::time::sleep(Duration::from_secs(30)).await;
    }
    let text = logs.text();
    assert!(text.matches("cannot be followed").count() >= NAMES.len(), "{text}");
    for line in text.lines() {
        assert!(!line.contains(|c: char| c.is_control() || ('\u{202a}'..='\u{202e}').contains(&c)), "{line:?}");
        assert!(!line.contains("forged") && !line.contains("<script>"), "{line:?}");
    }
}
