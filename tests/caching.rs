//! No cache may keep an answer and give it to somebody else, or to the same client later: not one with events, and no error
//! that is over by then.
#![allow(clippy::unwrap_used, reason = "a helper that panics is a failed test")]

mod support;

use std::{collections::BTreeSet, time::Duration};

use http::{HeaderMap, Method};
use support::{App, BOTH, Http, Server, serve};
use tower_events::{
    Channels, Event, EventService, Hub, LongPollService, MemoryStore, PublishService, SseService,
    longpoll::LongPollOptions, request::Rejection, testing::FaultStore,
};

type Headers = &'static [(&'static str, &'static str)];

/// Each kind of answer: the method and the path, how the request starts, and the expected status.
const READS: &[(&str, &str, Headers, u16)] = &[
    ("GET", "/events?channel=a&after=earliest", &[], 200),
    ("GET", "/events?channel=a&wait=0", &[], 200),
    ("GET", "/events?channel=a&channel=b&after=earliest", &[], 200),
    ("GET", "/poll?channel=a&after=earliest&format=page", &[], 200),
    ("GET", "/poll?channel=a&wait=0", &[("last-event-id", "nonsense")], 200),
    ("GET", "/poll?channel=closed&after=latest", &[], 200),
    ("GET", "/refusing?channel=a", &[("last-event-id", "nonsense")], 410),
    ("GET", "/sse?channel=closed&after=latest", &[], 204),
    ("HEAD", "/poll?channel=a", &[], 200),
    ("HEAD", "/sse?channel=a", &[], 200),
    ("HEAD", "/events?channel=a", &[("accept", "text/event-stream")], 200),
    ("HEAD", "/events?channel=a", &[("accept", "text/html")], 406),
    ("HEAD", "/events", &[], 400),
    ("OPTIONS", "/events", &[], 204),
    ("OPTIONS", "/publish", &[], 204),
    ("POST", "/events?channel=a", &[], 405),
    ("DELETE", "/sse?channel=a", &[], 405),
    ("GET", "/publish?channel=a", &[], 405),
    ("GET", "/events", &[], 400),
    ("GET", "/poll?channel=a&limit=0", &[], 400),
    ("GET", "/sse?channel=a&after=nonsense", &[], 400),
    ("GET", "/sse?channel=a", &[("accept", "application/json")], 406),
    ("GET", "/poll?channel=a&transport=sse", &[], 406),
    ("GET", "/rejecting?401", &[], 401),
    ("GET", "/rejecting?403", &[], 403),
    ("GET", "/rejecting?404", &[], 404),
    ("GET", "/rejecting?429", &[], 429),
    ("HEAD", "/rejecting?404", &[], 404),
    ("GET", "/rejecting?404", &[("accept", "text/event-stream")], 404),
];

/// Each kind of publish: the query, how the request starts, the body, and the expected status.
const PUBLISHES: &[(&str, Headers, &str, u16)] = &[
    ("channel=p", &[("content-type", "text/plain")], "x", 200),
    ("channel=p", &[("content-type", "application/x-ndjson")], "{\"data\":1}", 200),
    ("channel=p", &[("content-type", "application/json")], "{", 400),
    ("channel=p", &[("content-type", "text/plain"), ("sec-fetch-site", "cross-site")], "x", 403),
    ("channel=closed", &[("content-type", "text/plain")], "x", 409),
    ("channel=p", &[("content-type", "text/html")], "x", 415),
    ("channel=p", &[("content-type", "application/x-ndjson")], "1", 422),
];

#[tokio::test]
async fn nothing_that_a_service_answers_is_cacheable() {
    for http in BOTH {
        let server = server().await;
        let mut statuses = BTreeSet::new();
        for (method, path, headers, status) in READS {
            let request = server.request(method.parse::<Method>().unwrap(), path).over(http);
            let answer =
                headers.iter().fold(request, |request, (name, value)| request.header(name, value)).send().await;
            assert_eq!(answer.status, *status, "{method} {path}: {answer}");
            // The answer to `OPTIONS` is not cacheable in any case (RFC 9110, section 9.3.7).
            if *method != "OPTIONS" {
                check(&answer.headers, &format!("{method} {path}: {answer}"));
            }
            statuses.insert(*status);
        }
        for (query, headers, body, status) in PUBLISHES {
            let request = server.request(Method::POST, &format!("/publish?{query}")).over(http).body(*body);
            let answer =
                headers.iter().fold(request, |request, (name, value)| request.header(name, value)).send().await;
            assert_eq!(answer.status, *status, "{query} {body}: {answer}");
            check(&answer.headers, &format!("{query} {body}: {answer}"));
            statuses.insert(*status);
        }
        let table = [200, 204, 400, 401, 403, 404, 405, 406, 409, 410, 415, 422, 429];
        assert_eq!(statuses, BTreeSet::from(table));
        streams(&server, http).await;
    }
}

async fn streams(server: &Server, http: Http) {
    for path in ["/sse?channel=a&after=earliest", "/events?channel=a", "/rejecting?429"] {
        let stream = server.get(path).over(http).sse().await;
        check(&stream.headers, path);
    }
}

#[tokio::test]
async fn nothing_that_a_failing_store_causes_is_cacheable() {
    let (store, faults) = FaultStore::new(MemoryStore::default());
    let app = App::on(store).await;
    for (http, channel) in BOTH.into_iter().zip(["a", "b"]) {
        faults.fail_next_reads(100);
        faults.fail_next_heads(100);
        faults.fail_next_appends(1);
        for method in [Method::GET, Method::HEAD] {
            let answer =
                app.request(method, &format!("/poll?channel={channel}&after=earliest")).over(http).send().await;
            check(&answer.expect(503).headers, "503");
        }
        let stream = app.get(&format!("/sse?channel={channel}&after=earliest")).over(http).sse().await;
        check(&stream.headers, "stream-retry");
        let publish = || app.post("/publish?channel=p", "text/plain", "x").over(http).send();
        check(&publish().await.expect(503).headers, "503 to a publish");
        faults.lose_next_answers(1);
        check(&publish().await.expect(504).headers, "504 to a publish");
        faults.fail_next_reads(0);
        faults.fail_next_heads(0);
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_that_a_drain_causes_is_cacheable() {
    let app = App::in_memory();
    let drained = app.hub.drain(Duration::from_secs(1));
    for path in ["/poll?channel=a", "/sse?channel=a", "/events?channel=a"] {
        let opened = app.get(path).open().await;
        check(&opened.headers, path);
    }
    let head = app.request(Method::HEAD, "/poll?channel=a").send().await;
    check(&head.headers, "HEAD");
    drop(drained);
}

/// Panics unless the answer says that it must not be reused. Without a directive a cache may keep even a 404, a 405 or a 410
/// for as long as it likes (RFC 9110, section 15.1).
#[track_caller]
fn check(headers: &HeaderMap, what: &str) {
    let values: Vec<_> = headers.get_all("cache-control").iter().map(|value| value.to_str().unwrap()).collect();
    let is_stream = headers.get("content-type").is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"));
    let expected = if is_stream { "no-cache, no-transform" } else { "no-store" };
    assert_eq!(values, [expected], "{what}");
    // What a cache could revalidate with, or count its age from.
    for name in ["etag", "last-modified", "expires", "age"] {
        assert!(!headers.contains_key(name), "{what}");
    }
}

async fn server() -> Server {
    let hub = Hub::new(MemoryStore::default());
    hub.publish(&support::channel("a"), Event::text("x")).await.unwrap();
    hub.close(&support::channel("closed")).await.unwrap();
    let refusing = LongPollOptions::default().refuse_resets();
    let rejecting = |request: &http::request::Parts| -> Result<Channels, Rejection> {
        Err(match request.uri.query() {
            Some("401") => Rejection::unauthorized("Bearer"),
            Some("403") => Rejection::forbidden(),
            Some("404") => Rejection::not_found(),
            _ => Rejection::too_many(Duration::from_secs(7)),
        })
    };
    let routes = axum::Router::new()
        .route_service("/events", EventService::new(hub.clone(), Channels::from_query))
        .route_service("/sse", SseService::new(hub.clone(), Channels::from_query))
        .route_service("/poll", LongPollService::new(hub.clone(), Channels::from_query))
        .route_service("/refusing", LongPollService::new(hub.clone(), Channels::from_query).options(refusing))
        .route_service("/rejecting", EventService::new(hub.clone(), rejecting))
        .route_service("/publish", PublishService::new(hub, Channels::from_query));
    serve(routes).await
}
