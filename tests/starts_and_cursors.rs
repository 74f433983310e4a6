//! Where a reader starts, and how every kind of cursor that a client can send is handled, on both transports.
#![allow(clippy::indexing_slicing, clippy::unwrap_used, reason = "a helper that panics is a failed test")]

mod support;

use serde_json::{Value, json};
use support::{App, BOTH, Http, channel};
use tower_events::{Cursor, Cursors, Event, MemoryStore, Retention, cursor::epoch_of};

/// Reads by long poll and by SSE, which must agree: the data received, and the reset announced.
async fn both_transports(app: &App, http: Http, query: &str, header: Option<&[u8]>) -> (Vec<String>, Option<String>) {
    let with = |path: &str| {
        let request = app.get(&format!("{path}?{query}")).over(http);
        if let Some(header) = header { request.last_event_id(header) } else { request }
    };
    let separator = if query.is_empty() { "" } else { "&" };
    let polled = {
        let request = app.get(&format!("/poll?{query}{separator}wait=0")).over(http);
        let request = if let Some(header) = header { request.last_event_id(header) } else { request };
        request.send().await.expect(200)
    };
    let reset = polled.try_header("events-reset").map(ToOwned::to_owned);
    let data: Vec<String> = polled.data().into_iter().map(|data| data.as_str().unwrap().to_owned()).collect();

    let mut stream = with("/sse").sse().await;
    let mut streamed_reset = None;
    let mut streamed = Vec::new();
    while streamed.len() < data.len() || (reset.is_some() && streamed_reset.is_none()) {
        let message = stream.next().await;
        match message.name.as_str() {
            "stream-reset" => {
                let object: Value = serde_json::from_str(&message.data).unwrap();
                streamed_reset = Some(object["reason"].as_str().unwrap().to_owned());
            }
            _ => streamed.push(message.data),
        }
    }
    assert_eq!((&streamed, &streamed_reset), (&data, &reset), "{query} {header:?} {http:?}");
    (data, reset)
}

async fn app_with_five() -> (App, Vec<String>) {
    let app = App::start().await;
    let cursors = app.publish_many("a", 5).await;
    (app, cursors)
}

fn names(from: usize) -> Vec<String> {
    (from..=5).map(|n| format!("a{n}")).collect()
}

#[tokio::test]
async fn every_start_in_the_query_is_honoured() {
    let app = App::start().await;
    let mut cursors = Vec::new();
    for n in 1..=5 {
        cursors.push(app.publish("a", Event::text(format!("a{n}")).at(n * 10).unwrap()).await);
    }
    let table = [
        (String::new(), 6),
        ("&after=latest".into(), 6),
        ("&after=earliest".into(), 1),
        (format!("&after={}", cursors[1]), 3),
        ("&after=beginning".into(), 1),
        (format!("&last_event_id={}", cursors[2]), 4),
        (format!("&lastEventId={}", cursors[2]), 4),
        (format!("&lastEventID={}", cursors[2]), 4),
        (format!("&Last-Event-ID={}", cursors[2]), 4),
        ("&time=0".into(), 1),
        ("&time=20".into(), 3),
        ("&time=8640000000000000".into(), 6),
        ("&last=2".into(), 4),
        ("&last=0".into(), 6),
        ("&last=99999".into(), 1),
        ("&after=".into(), 6),
        ("&after=&last=2".into(), 4),
        (format!("&last_event_id=&after={}", cursors[1]), 3),
        (format!("&after={0}&after={0}", cursors[1]), 3),
    ];
    for http in BOTH {
        for (query, from) in &table {
            let got = both_transports(&app, http, &format!("channel=a{query}"), None).await;
            assert_eq!(got, (names(*from), None), "{query}");
        }
    }
}

#[tokio::test]
async fn the_header_wins_over_the_query() {
    let (app, cursors) = app_with_five().await;
    for http in BOTH {
        for query in ["after=earliest", "after=latest", "last=1", "time=0", &format!("after={}", cursors[0])] {
            let got = both_transports(&app, http, &format!("channel=a&{query}"), Some(cursors[2].as_bytes())).await;
            assert_eq!(got, (names(4), None), "{query}");
            // Empty counts as absent: some clients send it when they have no cursor yet.
            let header = both_transports(&app, http, &format!("channel=a&{query}"), Some(b"")).await;
            assert_eq!(header, both_transports(&app, http, &format!("channel=a&{query}"), None).await, "{query}");
        }
    }
}

#[tokio::test]
async fn a_position_in_the_query_wins_over_the_start_in_the_url() {
    let (app, cursors) = app_with_five().await;
    for http in BOTH {
        // A polyfill that cannot set headers appends its position to the URL that it was given.
        for query in ["after=earliest", "after=latest", "last=1", "time=0", &format!("after={}", cursors[0])] {
            for name in ["last_event_id", "lastEventId", "lastEventID", "Last-Event-ID"] {
                let query = format!("channel=a&{query}&{name}={}", cursors[2]);
                assert_eq!(both_transports(&app, http, &query, None).await, (names(4), None), "{query}");
            }
        }
        for position in ["nonsense", "earliest", "%FF", &format!("{}&last_event_id={}", cursors[0], cursors[1])] {
            let query = format!("channel=a&after=latest&lastEventId={position}");
            let got = both_transports(&app, http, &query, None).await;
            assert_eq!(got, (names(1), Some("unknown".into())), "{query}");
        }
    }
}

#[tokio::test]
async fn equal_positions_joined_by_a_proxy_count_as_one() {
    let (app, cursors) = app_with_five().await;
    let (two, three) = (&cursors[1], &cursors[2]);
    for http in BOTH {
        for joined in [format!("{two}, {two}"), format!("{two},{two},{two}"), format!(" ,{two},, ")] {
            let header = both_transports(&app, http, "channel=a", Some(joined.trim().as_bytes())).await;
            assert_eq!(header, (names(3), None), "{joined}");
            let query = format!("channel=a&lastEventId={}", joined.replace(' ', "%20"));
            assert_eq!(both_transports(&app, http, &query, None).await, (names(3), None), "{joined}");
        }
        let differ = both_transports(&app, http, "channel=a", Some(format!("{two}, {three}").as_bytes())).await;
        assert_eq!(differ, (names(1), Some("unknown".into())));
    }
}

#[tokio::test]
async fn the_transport_in_the_query_wins_over_accept() {
    let (app, _) = app_with_five().await;
    let (json, stream) = ("application/json", "text/event-stream");
    let table = [
        ("/events", "sse", json, Some(stream)),
        ("/events", "sse", "*/*", Some(stream)),
        ("/events", "longpoll", stream, Some(json)),
        ("/sse", "sse", json, Some(stream)),
        ("/sse", "longpoll", "*/*", None),
        ("/poll", "longpoll", stream, Some(json)),
        ("/poll", "sse", "*/*", None),
    ];
    for http in BOTH {
        for (path, transport, accept, expected) in table {
            let url = format!("{path}?channel=a&after=earliest&wait=0&transport={transport}");
            let opened = app.get(&url).over(http).header("accept", accept).open().await;
            let content_type = opened.headers["content-type"].to_str().unwrap();
            match expected {
                Some(expected) => assert!(opened.status == 200 && content_type.starts_with(expected), "{url} {accept}"),
                None => assert_eq!((opened.status, content_type), (406, "application/problem+json"), "{url} {accept}"),
            }
        }
        // A poll's next page is a poll too, whatever the client that follows the link accepts.
        let poll = app.get("/events?channel=a&after=earliest&transport=longpoll").over(http).send().await;
        assert!(poll.header("link").starts_with("<?channel=a&transport=longpoll&after="), "{poll}");
    }
}

#[tokio::test]
async fn a_header_that_is_not_a_cursor_is_a_reset_and_never_refused() {
    let (app, cursors) = app_with_five().await;
    let long = [b'A'; 4096];
    let cut = &cursors[1][..27];
    let longer = format!("{}A", cursors[1]);
    let headers: [&[u8]; 12] = [
        b"0",
        b"42",
        b"nonsense",
        b"earliest",
        b"\xc3\xa91",
        b"\xff\xfe\x80",
        b"null",
        b"undefined",
        &long,
        cut.as_bytes(),
        longer.as_bytes(),
        b"AAAAAAAAAAAAAAAAAAAAAAAAAAAA",
    ];
    for http in BOTH {
        for header in headers {
            let got = both_transports(&app, http, "channel=a", Some(header)).await;
            assert_eq!(got, (names(1), Some("unknown".into())), "{:?}", String::from_utf8_lossy(header));
        }
    }
}

#[tokio::test]
async fn several_headers_must_agree() {
    let (app, cursors) = app_with_five().await;
    for http in BOTH {
        let request =
            |ids: [&str; 2]| app.get("/poll?channel=a&wait=0").over(http).last_event_id(ids[0]).last_event_id(ids[1]);
        let same = request([&cursors[1], &cursors[1]]).send().await.expect(200);
        assert_eq!((same.data().len(), same.try_header("events-reset")), (3, None));
        let one_empty = request(["", &cursors[1]]).send().await.expect(200);
        assert_eq!((one_empty.data().len(), one_empty.try_header("events-reset")), (3, None));
        let differ = request([&cursors[1], &cursors[2]]).send().await.expect(200);
        assert_eq!((differ.data().len(), differ.header("events-reset")), (5, "unknown"));
    }
}

#[tokio::test]
async fn a_cursor_of_another_log_position_or_channel_is_a_reset_with_its_reason() {
    let (app, cursors) = app_with_five().await;
    let here: Cursor = cursors[2].parse().unwrap();
    let table = [
        (Cursor { epoch: here.epoch ^ 1, ..here }, "epoch-changed"),
        (Cursor { seq: here.seq + 100, ..here }, "ahead"),
        (Cursor { seq: u64::MAX, ..here }, "ahead"),
        (Cursor { tag: here.tag ^ 1, ..here }, "epoch-changed"),
        (Cursor { epoch: epoch_of(here.epoch, &channel("b")), ..here }, "epoch-changed"),
        (app.head("b").await, "epoch-changed"),
    ];
    for http in BOTH {
        for (cursor, reason) in table {
            let cursor = cursor.to_string();
            let expected = (names(1), Some(reason.to_owned()));
            assert_eq!(both_transports(&app, http, "channel=a", Some(cursor.as_bytes())).await, expected, "{reason}");
            assert_eq!(
                both_transports(&app, http, &format!("channel=a&after={cursor}"), None).await,
                expected,
                "{reason}"
            );
        }
    }
}

#[tokio::test]
async fn a_trimmed_cursor_is_reset_to_the_oldest_retained_entry() {
    let app = App::on(MemoryStore::new(Retention::default().events(4))).await;
    let first = app.publish_many("a", 1).await.remove(0);
    for n in 0..40 {
        app.hub.publish(&channel("a"), Event::text(n.to_string())).await.unwrap();
    }
    for http in BOTH {
        let (data, reset) = both_transports(&app, http, "channel=a", Some(first.as_bytes())).await;
        assert_eq!(reset.as_deref(), Some("trimmed"));
        assert!((4..=8).contains(&data.len()) && data.last().unwrap() == "39", "{data:?}");
        // The oldest retained cursor continues.
        let oldest = app.get("/poll?channel=a&after=earliest&limit=1&wait=0").over(http).send().await.expect(200);
        let (rest, reset) = both_transports(&app, http, "channel=a", Some(oldest.cursor().as_bytes())).await;
        assert_eq!((rest, reset), (data[1..].to_vec(), None));
    }
}

#[tokio::test]
async fn a_replaced_log_and_a_regrown_tail_are_different_histories() {
    let store = std::sync::Arc::new(MemoryStore::default());
    let app = App::on(store.clone()).await;
    let cursors = app.publish_many("a", 5).await;
    store.lose_tail(&channel("a"), 2);
    for http in BOTH {
        let ahead = both_transports(&app, http, "channel=a", Some(cursors[4].as_bytes())).await;
        assert_eq!(ahead, (names(1)[..3].to_vec(), Some("ahead".into())));
    }
    for text in ["b4", "b5"] {
        app.publish("a", Event::text(text)).await;
    }
    for http in BOTH {
        let regrown = both_transports(&app, http, "channel=a", Some(cursors[4].as_bytes())).await;
        let expected = ["a1", "a2", "a3", "b4", "b5"].map(String::from).to_vec();
        assert_eq!(regrown, (expected, Some("epoch-changed".into())));
        // What both histories share continues.
        let shared = both_transports(&app, http, "channel=a", Some(cursors[2].as_bytes())).await;
        assert_eq!(shared, (vec!["b4".into(), "b5".into()], None));
    }
    app.hub.init(&channel("a"), vec![Event::text("new")]).await.unwrap();
    for http in BOTH {
        let replaced = both_transports(&app, http, "channel=a", Some(cursors[2].as_bytes())).await;
        assert_eq!(replaced, (vec!["new".into()], Some("epoch-changed".into())));
    }
}

/// The resets of a long poll by channel, and the data by channel.
async fn poll(app: &App, http: Http, query: &str, id: &str) -> (Vec<String>, Vec<Value>) {
    let answer = app.get(&format!("/poll?{query}&wait=0")).over(http).last_event_id(id).send().await.expect(200);
    let resets = answer.headers.get_all("events-reset").iter();
    let mut resets: Vec<_> =
        resets.flat_map(|value| value.to_str().unwrap().split(',')).map(|reset| reset.trim().to_owned()).collect();
    resets.sort();
    let mut data = answer.data();
    data.sort_by_key(ToString::to_string);
    (resets, data)
}

#[tokio::test]
async fn the_cursor_of_one_of_several_channels_continues_that_one_and_resets_the_others() {
    let (app, cursors) = app_with_five().await;
    app.publish("b", Event::text("b1")).await;
    for http in BOTH {
        let (resets, data) = poll(&app, http, "channel=a&channel=b", &cursors[3]).await;
        assert_eq!(resets, [r#"epoch-changed;channel="b""#]);
        assert_eq!(json!(data), json!(["a5", "b1"]));
    }
}

#[tokio::test]
async fn a_token_of_several_channels_continues_each_one_of_them() {
    let (app, cursors) = app_with_five().await;
    let (a, b) = (channel("a"), channel("b"));
    let token = Cursors::of([(&a, cursors[3].parse().unwrap()), (&b, app.head("b").await)]).to_string();
    app.publish("b", Event::text("b1")).await;
    app.publish("c", Event::text("c1")).await;
    for http in BOTH {
        assert_eq!(poll(&app, http, "channel=a", &token).await, (vec![], vec![json!("a5")]));
        assert_eq!(poll(&app, http, "channel=b", &token).await, (vec![], vec![json!("b1")]));
        // A channel that the token does not name has no position.
        let one = poll(&app, http, "channel=c", &token).await;
        assert_eq!(one, (vec!["unknown".into()], vec![json!("c1")]));
        let (resets, data) = poll(&app, http, "channel=a&channel=b&channel=c", &token).await;
        assert_eq!((resets, json!(data)), (vec![r#"unknown;channel="c""#.into()], json!(["a5", "b1", "c1"])));
    }
}

#[tokio::test]
async fn a_client_can_change_transport_with_the_same_cursor() {
    let (app, cursors) = app_with_five().await;
    for http in BOTH {
        let polled = app.get(&format!("/events?channel=a&limit=2&wait=0&after={}", cursors[0])).over(http).send().await;
        assert_eq!(json!(polled.data()), json!(["a2", "a3"]));
        let mut stream = app.get("/events?channel=a").over(http).last_event_id(polled.cursor()).sse().await;
        let fourth = stream.next().await;
        assert_eq!(fourth.data, "a4");
        let polled = app.get(&format!("/events?channel=a&wait=0&last_event_id={}", fourth.id)).over(http).send().await;
        assert_eq!((json!(polled.data()), polled.try_header("events-reset")), (json!(["a5"]), None));
    }
}
