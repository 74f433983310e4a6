//! Event streams on the wire, over HTTP/1.1 and HTTP/2.

mod support;

use std::time::Duration;

use http::Method;
use serde_json::{Value, json};
use support::{App, BOTH, channel};
use tower_events::{Cursors, Event, store::Append};

fn is_cursor(text: &str) -> bool {
    text.len() == 28 && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
}

#[tokio::test]
async fn the_headers_forbid_caching_buffering_and_transforming() {
    let app = App::start().await;
    for http in BOTH {
        let stream = app.get("/events?channel=a").over(http).sse().await;
        let header = |name: &str| stream.headers.get(name).map(|value| value.to_str().unwrap().to_owned());
        assert_eq!(header("content-type").as_deref(), Some("text/event-stream; charset=utf-8"));
        assert_eq!(header("cache-control").as_deref(), Some("no-cache, no-transform"));
        assert_eq!(header("x-accel-buffering").as_deref(), Some("no"));
        assert_eq!(header("vary").map(|vary| vary.to_ascii_lowercase()).as_deref(), Some("accept"));
        assert_eq!(header("content-length"), None);
    }
}

#[tokio::test]
async fn the_live_mark_has_a_cursor_before_there_is_an_event() {
    let app = App::start().await;
    let head = app.publish("a", Event::text("before")).await;
    for http in BOTH {
        let mut stream = app.get("/events?channel=a").over(http).sse().await;
        let block = stream.first_block().await.to_owned();
        let lines: Vec<&str> = block.lines().collect();
        assert!(lines[0].starts_with("retry: "), "{block:?}");
        assert_eq!(lines[1..], ["event: stream-live", "data: {}", &format!("id: {head}"), ""]);
        assert_eq!((stream.parser().silent_blocks, stream.marks()), (0, 1));
        assert_eq!(stream.last_event_id(), head);
        let retry = stream.retry().unwrap();
        assert!((Duration::from_secs(1)..=Duration::from_secs(3)).contains(&retry), "{retry:?}");
    }
}

#[tokio::test]
async fn retry_differs_from_client_to_client() {
    let app = App::start().await;
    let mut seen = std::collections::HashSet::new();
    for _ in 0..12 {
        let mut stream = app.get("/events?channel=a").sse().await;
        stream.first_block().await;
        seen.insert(stream.retry().unwrap());
    }
    assert!(seen.len() > 1, "{seen:?}");
}

#[tokio::test]
async fn an_event_is_encoded_as_name_then_data_then_id() {
    let app = App::start().await;
    for http in BOTH {
        let mut stream = app.get("/events?channel=a").over(http).sse().await;
        stream.first_block().await;
        let opening = stream.raw().len();
        let first = app.publish("a", Event::text("one\ntwo").named("said").unwrap()).await;
        let message = stream.next().await;
        assert_eq!((message.name.as_str(), message.data.as_str(), message.id.as_str()), ("said", "one\ntwo", &*first));
        let second = app.publish("a", Event::json(&json!({"b": [1, null]})).unwrap()).await;
        let message = stream.next().await;
        assert_eq!((message.name.as_str(), message.data.as_str()), ("message", r#"{"b":[1,null]}"#));

        let expected =
            format!("event: said\ndata: one\ndata: two\nid: {first}\n\ndata: {{\"b\":[1,null]}}\nid: {second}\n\n");
        assert_eq!(&stream.text()[opening..], expected, "{http:?}");
        assert!(is_cursor(&first) && is_cursor(&second) && first != second);
    }
}

#[tokio::test]
async fn every_event_has_an_id_as_its_last_line_and_no_unknown_field() {
    let app = App::start().await;
    let cursors = app.publish_many("a", 30).await;
    let mut stream = app.get("/events?channel=a&after=earliest").sse().await;
    let messages = stream.take(30).await;
    assert_eq!(messages.iter().map(|message| message.id.as_str()).collect::<Vec<_>>(), cursors);
    assert!(stream.parser().unknown_fields.is_empty());
    assert!(!stream.text().contains('\r'));
    // `id:` is the last line of its block, because some clients commit an id as soon as they see the line.
    for block in stream.text().split_terminator("\n\n") {
        assert!(block.lines().last().unwrap().starts_with("id: "), "{block:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn silence_is_broken_by_a_comment_that_ends_no_block() {
    let app = App::in_memory();
    for http in BOTH {
        let mut stream = app.get("/events?channel=a").over(http).sse().await;
        stream.first_block().await;
        let (opening, started) = (stream.raw().len(), tokio::time::Instant::now());
        stream.read_more().await.unwrap();
        assert!(SILENCE.contains(&started.elapsed().as_millis()), "{http:?}: {:?}", started.elapsed());
        let heartbeat = stream.text()[opening..].to_owned();
        assert!(heartbeat.starts_with(':') && heartbeat.ends_with('\n'), "{heartbeat:?}");
        assert_eq!(heartbeat.matches('\n').count(), 1, "an empty line would make some clients emit an event");
        assert_eq!(stream.parser().silent_blocks, 0);

        // An event restarts the interval.
        tokio::time::advance(Duration::from_secs(10)).await;
        app.publish("a", Event::text("x")).await;
        assert_eq!(stream.next().await.data, "x");
        let after = tokio::time::Instant::now();
        stream.read_more().await.unwrap();
        assert!(SILENCE.contains(&after.elapsed().as_millis()), "{http:?}: {:?}", after.elapsed());
    }
}

/// The interval of heartbeats in milliseconds: three quarters to all of the setting.
const SILENCE: std::ops::RangeInclusive<u128> = 11_250..=15_001;

#[tokio::test(start_paused = true)]
async fn heartbeats_are_events_when_a_script_asks_for_them() {
    let app = App::in_memory();
    let head = app.publish("a", Event::text("before")).await;
    for http in BOTH {
        let mut stream = app.get("/events?channel=a&heartbeat=event").over(http).sse().await;
        let started = tokio::time::Instant::now();
        for pings in 0..3 {
            let ping = stream.next().await;
            assert_eq!((ping.name.as_str(), ping.id.as_str()), ("stream-ping", &*head), "{http:?}");
            let millis = SILENCE.start() * pings..=SILENCE.end() * pings;
            assert!(millis.contains(&started.elapsed().as_millis()), "{http:?}: {:?}", started.elapsed());
        }
        assert!(stream.parser().comments.is_empty());
    }
}

#[tokio::test]
async fn json_events_are_the_same_objects_as_in_long_polls() {
    let app = App::start().await;
    let event = Event::json(&json!([1, "é"])).unwrap().named("said").unwrap().at(1_732_094_400_123).unwrap();
    app.publish("a b", event).await;
    let polled = app.get("/events?channel=a%20b&after=earliest&wait=0").send().await.expect(200).json();
    for http in BOTH {
        let mut stream = app.get("/events?channel=a%20b&after=earliest&format=json").over(http).sse().await;
        let message = stream.next().await;
        assert_eq!(message.name, "message");
        let object: Value = serde_json::from_str(&message.data).unwrap();
        assert_eq!(object, polled[0]);
        assert_eq!((&object["channel"], &object["data"]), (&json!("a b"), &json!([1, "é"])));
    }
}

#[tokio::test]
async fn several_channels_have_one_token_with_the_position_of_each() {
    let app = App::start().await;
    for http in BOTH {
        let mut stream = app.get("/events?channel=a&channel=b&format=json").over(http).sse().await;
        let mut tokens = vec![stream.live().await.id];
        let mut heads = Vec::new();
        for (name, text) in [("a", "1"), ("b", "2"), ("a", "3")] {
            app.publish(name, Event::text(text)).await;
            heads.push((app.head("a").await, app.head("b").await));
            let message = stream.next().await;
            let object: Value = serde_json::from_str(&message.data).unwrap();
            assert_eq!((&object["channel"], &object["data"]), (&json!(name), &json!(text)));
            tokens.push(message.id);
        }
        for (token, (a, b)) in tokens[1..].iter().zip(heads) {
            let read: Cursors = token.parse().unwrap();
            assert_eq!((read.position(&channel("a")), read.position(&channel("b"))), (Some(a), Some(b)));
        }
        // A resume from each token returns exactly what followed it.
        for (n, token) in tokens.iter().enumerate().take(3) {
            let mut resumed = app.get("/events?channel=a&channel=b").over(http).last_event_id(token).sse().await;
            let mut data = resumed.data(3 - n).await;
            data.sort();
            assert_eq!(data, ["1", "2", "3"][n..], "{http:?}");
        }
    }
}

#[tokio::test]
async fn a_reset_gives_its_reason_and_continues_with_what_is_retained() {
    let app = App::start().await;
    app.publish_many("a", 3).await;
    for http in BOTH {
        let mut stream = app.get("/events?channel=a").over(http).last_event_id("nonsense").sse().await;
        let reset = stream.next().await;
        assert_eq!(reset.name, "stream-reset");
        let object: Value = serde_json::from_str(&reset.data).unwrap();
        let head = app.head("a").await.to_string();
        assert_eq!(object["channel"], "a");
        assert_eq!(object["reason"], "unknown");
        assert_eq!(object["earliest"], json!(reset.id));
        assert_eq!(object["latest"], json!(head));
        assert_eq!(stream.data(3).await, ["a1", "a2", "a3"]);
        // Its id is the position just before the first event that follows: a client cut off here misses nothing, and is not
        // reset again.
        let mut resumed = app.get("/events?channel=a").over(http).last_event_id(&reset.id).sse().await;
        assert_eq!(resumed.data(3).await, ["a1", "a2", "a3"]);
    }
}

#[tokio::test]
async fn a_reset_of_one_channel_does_not_affect_the_others() {
    let app = App::start().await;
    let mut stream = app.get("/events?channel=a&channel=b&format=json").sse().await;
    app.publish("a", Event::text("a1")).await;
    app.publish("b", Event::text("b1")).await;
    let token = stream.take(2).await.pop().unwrap().id;
    drop(stream);
    app.hub.init(&channel("a"), vec![Event::text("anew")]).await.unwrap();
    app.publish("b", Event::text("b2")).await;
    for http in BOTH {
        let mut stream = app.get("/events?channel=a&channel=b").over(http).last_event_id(&token).sse().await;
        let messages = stream.take(3).await;
        let reset = messages.iter().position(|message| message.name == "stream-reset").unwrap();
        let object: Value = serde_json::from_str(&messages[reset].data).unwrap();
        assert_eq!((&object["channel"], &object["reason"]), (&json!("a"), &json!("epoch-changed")));
        let data: Vec<_> = messages.iter().map(|message| message.data.as_str()).collect();
        assert!(data.contains(&"anew") && data.contains(&"b2") && !data.contains(&"b1"), "{data:?}");
        assert!(data.iter().position(|data| *data == "anew").unwrap() > reset, "{data:?}");
    }
}

#[tokio::test]
async fn a_closed_channel_ends_its_stream_and_stops_event_source() {
    let app = App::start().await;
    for (http, name) in BOTH.into_iter().zip(["a", "b"]) {
        let url = format!("/events?channel={name}");
        let mut stream = app.get(&url).over(http).sse().await;
        stream.first_block().await;
        app.hub.append(&channel(name), Append::new([Event::text("last words")]).closing()).await.unwrap();
        let messages = stream.remaining().await;
        let names: Vec<_> = messages.iter().map(|message| (message.name.as_str(), message.data.as_str())).collect();
        assert_eq!(names[0], ("message", "last words"));
        assert_eq!((names.len(), names[1].0), (2, "stream-end"));
        assert_eq!(messages[1].id, app.head(name).await.to_string());

        let again = app.get(&url).over(http).header("accept", "text/event-stream").last_event_id(&messages[1].id);
        let again = again.send().await.expect(204);
        assert_eq!(again.body, b"");
        assert_eq!((again.header("events-closed"), again.header("cache-control")), ("true", "no-store"));
        assert_eq!(again.cursor(), messages[1].id);
        // A later client gets what is retained, then the end.
        let mut late = app.get(&format!("{url}&after=earliest")).over(http).sse().await;
        let late: Vec<_> = late.remaining().await.into_iter().map(|message| message.name).collect();
        assert_eq!(late, ["message", "stream-end"]);
    }
}

#[tokio::test]
async fn the_end_of_one_of_several_channels_names_it_and_those_left() {
    let app = App::start().await;
    for (http, closing) in BOTH.into_iter().zip(["x", "y"]) {
        let url = format!("/events?channel=open&channel={closing}");
        let mut stream = app.get(&url).over(http).sse().await;
        stream.first_block().await;
        app.close(closing).await;
        let end = stream.next().await;
        assert_eq!(end.name, "stream-end");
        let data: Value = serde_json::from_str(&end.data).unwrap();
        assert_eq!(data, json!({"channel": closing, "left": ["open"]}));
        app.publish("open", Event::text("still here")).await;
        assert_eq!(stream.next().await.data, "still here");
        // After a resume from here the end may be announced again, but nothing else comes before the next event.
        let mut resumed = app.get(&url).over(http).last_event_id(stream.last_event_id()).sse().await;
        app.publish("open", Event::text("and here")).await;
        let rest = resumed.next().await;
        assert!(rest.data == "and here" || rest.name == "stream-end", "{rest:?}");
    }
}

#[tokio::test]
async fn a_drained_stream_ends_between_events_and_says_when_to_reconnect() {
    for http in BOTH {
        let app = App::start().await;
        let mut stream = app.get("/events?channel=a").over(http).sse().await;
        let id = app.publish("a", Event::text("x")).await;
        assert_eq!(stream.next().await.data, "x");
        let drained = app.hub.drain(Duration::from_secs(60));
        let retry = support::Message { name: "stream-retry".into(), data: "{}".into(), id: id.clone() };
        assert_eq!(stream.remaining().await, std::slice::from_ref(&retry));
        drained.await;
        assert!(stream.text().ends_with("\n\n"));
        assert_eq!(stream.last_event_id(), id);
        assert!(stream.retry().unwrap() <= Duration::from_secs(60 + 3), "{:?}", stream.retry());

        // An `EventSource` would give up after any status but 200, so a stream opened during the drain gets the same.
        let mut late = app.get("/events?channel=a").over(http).last_event_id(&id).sse().await;
        assert_eq!(late.remaining().await, [retry]);
        assert_eq!(late.last_event_id(), id);
        assert!(late.retry().is_some());
        app.into_server().stop().await;
    }
}

#[tokio::test]
async fn a_head_request_is_answered_at_once_with_the_head_cursor() {
    let app = App::start().await;
    let head = app.publish("a", Event::text("x")).await;
    for http in BOTH {
        for path in ["/events", "/sse"] {
            let request = app.request(Method::HEAD, &format!("{path}?channel=a")).over(http);
            let answer = request.header("accept", "text/event-stream").send().await.expect(200);
            assert_eq!(answer.cursor(), head);
            assert_eq!(answer.body, b"");
        }
    }
}

#[tokio::test]
async fn options_and_unsupported_methods_name_the_allowed_ones() {
    let app = App::start().await;
    for http in BOTH {
        for path in ["/events?channel=a", "/sse?channel=a", "/poll?channel=a"] {
            let answer = app.request(Method::OPTIONS, path).over(http).send().await.expect(204);
            assert_eq!(answer.header("allow"), "GET, HEAD, OPTIONS");
            for method in [Method::POST, Method::PUT, Method::DELETE, Method::PATCH] {
                let answer = app.request(method, path).over(http).send().await;
                assert!(!answer.problem(405).is_empty());
                assert_eq!(answer.header("allow"), "GET, HEAD, OPTIONS");
            }
        }
    }
}

#[tokio::test]
async fn accept_chooses_the_transport() {
    let app = App::start().await;
    let sse = Some("text/event-stream; charset=utf-8");
    let json = Some("application/json");
    // What the client accepts, and the content types of /events, /sse and /poll (`None`: 406).
    let table = [
        (None, [json, sse, json]),
        (Some("*/*"), [json, sse, json]),
        (Some("text/event-stream"), [sse, sse, None]),
        (Some("application/json"), [json, None, json]),
        (Some("text/event-stream, application/json"), [json, sse, json]),
        (Some("text/event-stream;q=0.9, application/json;q=0.8"), [sse, sse, json]),
        (Some("text/*;q=0.5, */*;q=0.1"), [sse, sse, json]),
        (Some("text/event-stream;q=0, */*"), [json, None, json]),
        (Some("TEXT/Event-Stream"), [sse, sse, None]),
        (Some("text/html"), [None, None, None]),
        (Some("nonsense"), [None, None, None]),
    ];
    for http in BOTH {
        for (accept, expected) in table {
            for (path, expected) in ["/events", "/sse", "/poll"].into_iter().zip(expected) {
                let request = app.get(&format!("{path}?channel=a&wait=0")).over(http);
                let request = if let Some(accept) = accept { request.header("accept", accept) } else { request };
                let opened = request.open().await;
                let content_type = opened.headers.get("content-type").map(|value| value.to_str().unwrap());
                match expected {
                    Some(expected) => {
                        assert_eq!((opened.status, content_type), (200, Some(expected)), "{path} {accept:?}");
                    }
                    None => assert_eq!(opened.status, 406, "{path} {accept:?}"),
                }
                assert_eq!(
                    opened.headers["vary"].to_str().unwrap().to_ascii_lowercase(),
                    "accept",
                    "{path} {accept:?}"
                );
            }
        }
    }
}
