//! Long polls of many channels: response headers that fit into every proxy's buffer, and answers that need no headers.
#![allow(clippy::indexing_slicing, clippy::unwrap_used, reason = "a helper that panics is a failed test")]

mod support;

use std::time::Duration;

use http::Method;
use serde_json::{Value, json};
use support::{Answer, App, BOTH, Http, Server, channel, serve};
use tower_events::{
    Channels, Cursors, Event, EventService, Hub, LongPollService, MemoryStore, longpoll::LongPollOptions,
    testing::FaultStore,
};

/// The most bytes of a head; nginx accepts 4 kB by default.
const MOST: usize = 3_500;

/// The size of the head in bytes as sent over HTTP/1.1.
fn head_bytes(answer: &Answer) -> usize {
    let lines = answer.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum::<usize>();
    "HTTP/1.1 200 OK\r\n".len() + lines + 2
}

/// A query of `count` channels whose names have `length` bytes.
fn query(count: usize, length: usize) -> String {
    (0..count).map(|n| format!("channel={n:0length$}&")).collect()
}

async fn serve_many(hub: &Hub) -> Server {
    let many = |events: EventService| events.max_channels(255);
    let refusing = LongPollOptions::default().refuse_resets();
    let router = axum::Router::new()
        .route_service("/events", many(EventService::new(hub.clone(), Channels::from_query)))
        .route_service("/refuse", many(EventService::new(hub.clone(), Channels::from_query).long_poll(refusing)));
    serve(router).await
}

#[tokio::test]
async fn no_head_is_longer_than_proxies_accept() {
    let hub = Hub::new(MemoryStore::default());
    let server = serve_many(&hub).await;
    for http in BOTH {
        // Names of 36 bytes are as long as UUIDs. Every channel is reset.
        for (count, length) in [(24, 36), (32, 66), (64, 66), (64, 255), (2, 255), (1, 255)] {
            let query = query(count, length);
            // hyper's HTTP/2 server does not accept longer ones.
            if http == Http::Two && query.len() > 12_000 {
                continue;
            }
            let url = |path: &str| format!("{path}?{query}wait=0");
            let get =
                |path: &str| server.get(&url(path)).over(http).header("prefer", "wait=0").last_event_id("nonsense");
            let head = |accept| server.request(Method::HEAD, &url("/events")).over(http).header("accept", accept);
            for (answer, status) in [
                (get("/events").send().await, 200),
                (get("/refuse").send().await, 410),
                (head("application/json").send().await, 200),
                (head("text/event-stream").send().await, 200),
            ] {
                assert_eq!(answer.status, status, "{answer}");
                assert!(head_bytes(&answer) <= MOST, "{count} x {length}: {} bytes: {answer}", head_bytes(&answer));
                assert_eq!(answer.try_header("events-reset").is_some(), status == 410 || !answer.body.is_empty());
                // The position is always present, and nothing is missed when resuming from it.
                if status == 200 {
                    let next = server.get(&url("/events")).over(http).last_event_id(answer.cursor()).send().await;
                    assert_eq!((next.expect(200).try_header("events-reset"), count), (None, count));
                }
            }
        }
    }
}

#[tokio::test]
async fn channels_whose_position_does_not_fit_into_a_head_need_format_page() {
    let hub = Hub::new(MemoryStore::default());
    let server = serve_many(&hub).await;
    hub.publish(&channel("007"), Event::text("x")).await.unwrap();
    for http in BOTH {
        let query = query(65, 3);
        for method in [Method::GET, Method::HEAD] {
            let refused = server.request(method, &format!("/events?{query}wait=0")).over(http).send().await;
            assert_eq!(refused.status, 400);
            if !refused.body.is_empty() {
                assert!(refused.problem(400).contains("format=page"), "{refused}");
            }
        }
        let page =
            server.get(&format!("/events?{query}format=page&after=earliest")).over(http).send().await.expect(200);
        let page = page.json();
        assert_eq!((&page["events"][0]["data"], &page["live"]), (&json!("x"), &json!(true)));
        let url = format!("/events?{query}format=page&wait=0&after={}", page["cursor"].as_str().unwrap());
        let next = server.get(&url).over(http).send().await.expect(200).json();
        assert_eq!((&next["events"], &next["resets"]), (&json!([]), &json!([])));
        // A stream has its position in blocks; its head leaves a long one out.
        for (count, has) in [(64, true), (200, false)] {
            let url = format!("/events?{}transport=sse", self::query(count, 3));
            let head = server.request(Method::HEAD, &url).over(http).send().await.expect(200);
            assert_eq!(head.try_header("last-event-id").is_some(), has);
            assert!(head_bytes(&head) <= MOST, "{head}");
        }
    }
}

#[tokio::test]
async fn a_page_needs_no_header() {
    let app = App::start().await;
    app.publish_many("a", 2).await;
    app.publish_many("b", 1).await;
    app.close("b").await;
    for http in BOTH {
        let get = |query: &str| app.get(&format!("/poll?channel=a&channel=b&format=page&wait=0{query}")).over(http);
        let all = get("&after=earliest").send().await.expect(200);
        for name in ["last-event-id", "link", "events-live", "events-closed", "events-reset", "events-error"] {
            assert_eq!(all.try_header(name), None, "{name}");
        }
        assert_eq!((all.header("content-type"), all.header("cache-control")), ("application/json", "no-store"));
        let page = all.json();
        let names: Vec<_> = page.as_object().unwrap().keys().collect();
        assert_eq!(names, ["closed", "cursor", "events", "live", "resets"]);
        assert_eq!(page["events"].as_array().unwrap().len(), 3);
        assert_eq!((&page["live"], &page["resets"], &page["closed"]), (&json!(true), &json!([]), &json!(["b"])));
        let cursor = page["cursor"].as_str().unwrap();
        // The position in the query, under whatever name, continues from there.
        for name in ["after", "lastEventId"] {
            let next = get(&format!("&{name}={cursor}")).send().await.expect(200).json();
            assert_eq!((&next["events"], &next["resets"]), (&json!([]), &json!([])));
        }
        let part = get("&after=earliest&limit=1").send().await.expect(200).json();
        assert_eq!((part["events"].as_array().unwrap().len(), &part["live"]), (1, &json!(false)));
        let token = Cursors::of([(&channel("a"), app.head("a").await)]).to_string();
        let reset = get("").last_event_id(token).send().await.expect(200).json();
        assert_eq!(reset["resets"], json!([{"channel": "b", "reason": "unknown"}]));
        assert_eq!(reset["events"][0]["data"], "b1");
        // A stream ignores `format=page`.
        let mut stream = app.get("/sse?channel=a&last=1&format=page").over(http).sse().await;
        assert_eq!(stream.next().await.data, "a2");
    }
}

#[tokio::test]
async fn a_channel_that_cannot_be_read_is_reported_with_the_events_of_the_others() {
    for http in BOTH {
        let (store, faults) = FaultStore::new(MemoryStore::default());
        let app = App::on(store).await;
        for name in ["good", "b d", "worse"] {
            app.publish(name, Event::text(name)).await;
        }
        faults.corrupt_channel(&channel("b d"));
        let get = |query: &str| app.get(&format!("/poll?channel=good&channel=b%20d&after=earliest{query}")).over(http);
        let one = get("").send().await.expect(200);
        assert_eq!((one.header("events-error"), one.data()), (r#"corrupt;channel="b%20d""#, vec![json!("good")]));
        assert_eq!((one.try_header("events-live"), one.try_header("events-closed")), (None, None));
        let page = get("&format=page").send().await.expect(200).json();
        assert_eq!(page["errors"], json!([{"channel": "b d", "reason": "corrupt"}]));
        faults.corrupt_channel(&channel("worse"));
        let two = get("&channel=worse").send().await.expect(200);
        assert_eq!((two.header("events-error"), two.data()), ("corrupt", vec![json!("good")]));
        let none = app.get("/poll?channel=b%20d&after=earliest").over(http).send().await;
        assert_eq!((none.problem(503).is_empty(), none.try_header("retry-after")), (false, None));
    }
}

#[tokio::test]
async fn a_drained_page_says_in_milliseconds_when_to_reconnect() {
    for http in BOTH {
        let app = App::start().await;
        let head = app.publish("a", Event::text("x")).await;
        let url = format!("/poll?channel=a&format=page&after={head}");
        let (answer, ()) = tokio::join!(app.get(&url).over(http).send(), async {
            app.wait_for_readers(1).await;
            app.hub.drain(Duration::from_secs(30)).await;
        });
        let late = app.get(&url).over(http).send().await;
        for answer in [answer.expect(200), late.expect(200)] {
            let page: Value = answer.json();
            assert_eq!((&page["events"], &page["cursor"]), (&json!([]), &json!(head)));
            let seconds: u64 = answer.header("retry-after").parse().unwrap();
            assert_eq!(page["retry_ms"].as_u64().unwrap().div_ceil(1_000).max(1), seconds);
        }
        app.into_server().stop().await;
    }
}

#[tokio::test]
async fn the_link_keeps_the_parameters_that_the_service_was_told_to_keep() {
    let hub = Hub::new(MemoryStore::default());
    hub.publish_all(&channel("r 1"), ["1", "2"].map(Event::text)).await.unwrap();
    // The application derives the channel from its own parameter.
    let room = |request: &http::request::Parts| {
        let query = request.uri.query().unwrap_or_default();
        let room = query.split('&').find_map(|pair| pair.strip_prefix("room="));
        let room = room.ok_or(tower_events::Rejection::not_found())?;
        Ok(Channels::from(channel(&format!("r {room}"))))
    };
    let router = axum::Router::new()
        .route_service("/events", EventService::new(hub.clone(), room).keep_parameters(["room"]))
        .route_service("/poll", LongPollService::new(hub.clone(), room).keep_parameters(["room"]))
        .route_service("/default", EventService::new(hub.clone(), room));
    let server = serve(router).await;
    for http in BOTH {
        for path in ["/events", "/poll"] {
            let url = format!("{path}?token=secret&room=1&after=earliest&limit=1");
            let first = server.get(&url).over(http).send().await.expect(200);
            let link = first.header("link");
            assert_eq!(link, format!("<?room=1&limit=1&after={}>; rel=\"next\"", first.cursor()));
            let target = link.strip_prefix('<').and_then(|link| link.strip_suffix(">; rel=\"next\"")).unwrap();
            let second = server.get(&format!("{path}{target}")).over(http).send().await.expect(200);
            assert_eq!((first.data(), second.data()), (vec![json!("1")], vec![json!("2")]));
        }
        let plain = server.get("/default?room=1&after=earliest").over(http).send().await.expect(200);
        assert!(!plain.header("link").contains("room"));
    }
}
