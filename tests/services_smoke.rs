//! The reading services, called directly without a socket: the simple cases. Other tests cover the wire.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests")]

use std::time::Duration;

use http::{HeaderMap, Request, Response};
use http_body::Body as _;
use http_body_util::BodyExt;
use serde_json::Value;
use tower_events::{
    Body, Channel, Channels, Event, EventService, Hub, HubOptions, LongPollService, MemoryStore, Rejection, SseService,
    Subscription,
    longpoll::LongPollOptions,
    sse::{Heartbeat, SseOptions},
    store::Append,
    testing::FaultStore,
};
use tower_service::Service;

fn channel(name: &str) -> Channel {
    Channel::new(name).unwrap()
}

fn hub() -> Hub {
    Hub::new(MemoryStore::default())
}

async fn ask(hub: &Hub, method: &str, uri: &str, headers: &[(&str, &str)]) -> Response<Body> {
    let mut request = Request::builder().method(method).uri(uri);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    EventService::new(hub.clone(), Channels::from_query).call(request.body(()).unwrap()).await.unwrap()
}

async fn json(response: Response<Body>) -> (u16, HeaderMap, Value) {
    let (parts, body) = response.into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    (parts.status.as_u16(), parts.headers, serde_json::from_slice(&bytes).unwrap_or_default())
}

/// What arrives until the stream is silent for ten seconds, or ends.
async fn text(response: &mut Response<Body>) -> String {
    let mut text = String::new();
    while let Ok(Some(frame)) = tokio::time::timeout(Duration::from_secs(10), response.body_mut().frame()).await {
        text += std::str::from_utf8(frame.unwrap().data_ref().unwrap()).unwrap();
    }
    text
}

fn lines_without_retry(text: &str) -> Vec<&str> {
    text.lines().filter(|line| !line.starts_with("retry: ")).collect()
}

const SSE: (&str, &str) = ("accept", "text/event-stream");

#[tokio::test(start_paused = true)]
async fn a_poll_returns_events_and_a_link_to_continue_from() {
    let hub = hub();
    let first = hub.publish(&channel("a"), Event::text("x").named("n").unwrap()).await.unwrap();
    let (status, headers, list) = json(ask(&hub, "GET", "/e?channel=a&after=earliest&token=t", &[]).await).await;
    assert_eq!((status, list[0]["data"].as_str(), list[0]["name"].as_str()), (200, Some("x"), Some("n")));
    assert_eq!(list[0]["id"], first.cursor.to_string());
    assert_eq!(headers["last-event-id"], first.cursor.to_string());
    assert_eq!(headers["link"], format!("<?channel=a&after={}>; rel=\"next\"", first.cursor));
    assert_eq!(
        (&headers["cache-control"], &headers["vary"]),
        (&"no-store".parse().unwrap(), &"Accept".parse().unwrap())
    );

    let next = format!("/e?channel=a&after={}&wait=3", first.cursor);
    let started = tokio::time::Instant::now();
    let (_, headers, list) = json(ask(&hub, "GET", &next, &[("prefer", "wait=9")]).await).await;
    assert_eq!((list, started.elapsed().as_secs()), (Value::Array(vec![]), 3));
    assert!(!headers.contains_key("preference-applied"));
    assert_eq!(headers["last-event-id"], first.cursor.to_string());
    let (_, headers, _) = json(ask(&hub, "GET", "/e?channel=a", &[("prefer", "wait=99")]).await).await;
    assert_eq!(headers["preference-applied"], "wait=55");
}

#[tokio::test(start_paused = true)]
async fn an_event_wakes_a_parked_poll() {
    let hub = hub();
    let poll = tokio::spawn({
        let hub = hub.clone();
        async move { json(ask(&hub, "GET", "/e?channel=a", &[]).await).await }
    });
    while hub.stats().readers == 0 {
        tokio::task::yield_now().await;
    }
    hub.publish(&channel("a"), Event::text("x")).await.unwrap();
    assert_eq!(poll.await.unwrap().2[0]["data"], "x");
    assert_eq!(hub.stats().readers, 0);
}

#[tokio::test(start_paused = true)]
async fn a_stream_opens_with_a_position_and_resumes() {
    let hub = hub();
    let one = hub.publish(&channel("a"), Event::text("1")).await.unwrap().cursor;
    let mut stream = ask(&hub, "GET", "/e?channel=a", &[SSE]).await;
    assert_eq!(stream.headers()["content-type"], "text/event-stream; charset=utf-8");
    assert_eq!(stream.headers()["cache-control"], "no-cache, no-transform");
    assert_eq!(stream.headers()["x-accel-buffering"], "no");
    let opening = text(&mut stream).await;
    assert!(opening.starts_with("retry: "), "{opening}");
    assert_eq!(lines_without_retry(&opening), ["event: stream-live", "data: {}", &format!("id: {one}"), ""]);
    let two = hub.publish(&channel("a"), Event::text("2\n").named("n").unwrap()).await.unwrap().cursor;
    let live = text(&mut stream).await;
    assert_eq!(live.lines().collect::<Vec<_>>(), ["event: n", "data: 2", "data: ", &format!("id: {two}"), ""]);
    drop(stream);
    assert_eq!(hub.stats().readers, 0);

    let mut resumed = ask(&hub, "GET", "/e?channel=a", &[SSE, ("last-event-id", &one.to_string())]).await;
    let text = text(&mut resumed).await;
    let id = format!("id: {two}");
    let events = ["event: n", "data: 2", "data: ", &id, "", "event: stream-live", "data: {}", &id, ""];
    assert_eq!(lines_without_retry(&text), events);
}

#[tokio::test(start_paused = true)]
async fn silence_is_broken_by_a_comment_or_a_ping() {
    let hub = hub();
    let mut stream = ask(&hub, "GET", "/e?channel=a", &[SSE]).await;
    text(&mut stream).await;
    let heartbeat = stream.body_mut().frame().await.unwrap().unwrap().into_data().unwrap();
    assert_eq!(heartbeat, ":\n");
    let mut stream = ask(&hub, "GET", "/e?channel=a&heartbeat=event", &[SSE]).await;
    let opening = text(&mut stream).await;
    assert!(opening.starts_with("retry: ") && opening.contains("\nevent: stream-ping\ndata: {\"time\":"), "{opening}");
    let heartbeat = stream.body_mut().frame().await.unwrap().unwrap().into_data().unwrap();
    assert!(heartbeat.starts_with(b"event: stream-ping\n"));
}

#[tokio::test(start_paused = true)]
async fn a_reset_comes_before_any_id() {
    let hub = hub();
    let one = hub.publish(&channel("a"), Event::text("1")).await.unwrap().cursor;
    let nonsense = ("last-event-id", "42");
    for query in ["", "&heartbeat=event"] {
        let mut stream = ask(&hub, "GET", &format!("/e?channel=a{query}"), &[SSE, nonsense]).await;
        let text = text(&mut stream).await;
        let lines = lines_without_retry(&text);
        assert!(text.starts_with("retry: "), "{text}");
        assert_eq!(lines[0], "event: stream-reset");
        assert!(lines[1].starts_with(r#"data: {"channel":"a","reason":"unknown","earliest":""#), "{text}");
        let live = format!("event: stream-live\ndata: {{}}\nid: {one}\n\n");
        assert!(text.ends_with(&format!("data: 1\nid: {one}\n\n{live}")), "{text}");
    }
    let (status, headers, list) = json(ask(&hub, "GET", "/e?channel=a", &[nonsense]).await).await;
    assert_eq!(
        (status, &headers["events-reset"], list[0]["data"].as_str()),
        (200, &"unknown".parse().unwrap(), Some("1"))
    );
    let (_, headers, _) = json(ask(&hub, "GET", "/e?channel=a&channel=b%20c", &[nonsense]).await).await;
    assert_eq!(headers.get_all("events-reset").iter().collect::<Vec<_>>(), ["unknown"]);
}

#[tokio::test(start_paused = true)]
async fn a_service_can_refuse_resets() {
    let hub = hub();
    hub.publish(&channel("a"), Event::text("1")).await.unwrap();
    let options = LongPollOptions::default().refuse_resets();
    let mut service = LongPollService::new(hub, Channels::from_query).options(options);
    for uri in ["/?channel=a", "/?channel=a&channel=b"] {
        let request = Request::builder().uri(uri).header("last-event-id", "42").body(()).unwrap();
        let (status, headers, problem) = json(service.call(request).await.unwrap()).await;
        assert_eq!((status, problem["status"].as_u64()), (410, Some(410)));
        assert!(headers.contains_key("events-reset"));
        let earliest = problem["earliest"].as_str().unwrap();
        let latest = problem["latest"].as_str().unwrap();
        let again = |after: &str| Request::builder().uri(format!("{uri}&wait=0&after={after}")).body(()).unwrap();
        let (status, headers, list) = json(service.call(again(earliest)).await.unwrap()).await;
        assert_eq!((status, list[0]["data"].as_str(), headers.get("events-reset")), (200, Some("1"), None));
        let (_, headers, list) = json(service.call(again(latest)).await.unwrap()).await;
        assert_eq!((list, headers.get("events-reset")), (Value::Array(vec![]), None));
    }
}

#[tokio::test(start_paused = true)]
async fn several_channels_share_one_token() {
    let hub = hub();
    let uri = "/e?channel=a&channel=b";
    hub.publish(&channel("a"), Event::text("a1")).await.unwrap();
    hub.publish(&channel("b"), Event::text("b1")).await.unwrap();
    hub.publish(&channel("b"), Event::text("x".repeat(100_000))).await.unwrap();
    let mut stream = ask(&hub, "GET", &format!("{uri}&after=earliest"), &[SSE]).await;
    let all = text(&mut stream).await;
    let ids: Vec<_> = all.lines().filter_map(|line| line.strip_prefix("id: ")).collect();
    // The last one is the live mark's.
    assert_eq!((ids.len(), ids[3]), (4, ids[2]), "{ids:?}");
    for (at, left) in [(0, 2), (1, 1), (2, 0)] {
        let resumed = format!("{uri}&wait=0&after={}", ids[at]);
        let (_, headers, list) = json(ask(&hub, "GET", &resumed, &[]).await).await;
        assert_eq!((list.as_array().unwrap().len(), headers.get("events-reset")), (left, None));
    }
    let mut stream = ask(&hub, "GET", &format!("{uri}&format=json&after={}", ids[1]), &[SSE]).await;
    let last = text(&mut stream).await;
    let data: Value = serde_json::from_str(last.lines().find_map(|line| line.strip_prefix("data: ")).unwrap()).unwrap();
    assert!(["a", "b"].contains(&data["channel"].as_str().unwrap()));
    assert_eq!(last.matches("event: ").count(), 1, "{last}");
}

#[tokio::test(start_paused = true)]
async fn a_closed_channel_ends_both_transports() {
    let hub = hub();
    let mut stream = ask(&hub, "GET", "/e?channel=a", &[SSE]).await;
    text(&mut stream).await;
    let head = hub.append(&channel("a"), Append::new([Event::text("last")]).closing()).await.unwrap().head.cursor;
    let end = text(&mut stream).await;
    assert!(
        end.ends_with(&format!(
            "id: {head}\n\nevent: stream-end\ndata: {{\"channel\":\"a\",\"left\":[]}}\nid: {head}\n\n"
        )),
        "{end}"
    );
    assert!(stream.body_mut().frame().await.is_none());
    let again = ask(&hub, "GET", "/e?channel=a", &[SSE, ("last-event-id", &head.to_string())]).await;
    assert_eq!((again.status().as_u16(), &again.headers()["events-closed"]), (204, &"true".parse().unwrap()));
    let (status, headers, list) = json(ask(&hub, "GET", "/e?channel=a&after=earliest", &[]).await).await;
    assert_eq!((status, list.as_array().unwrap().len(), &headers["events-closed"]), (200, 1, &"true".parse().unwrap()));
}

#[tokio::test(start_paused = true)]
async fn a_drain_ends_streams_and_polls_with_a_retry_hint() {
    let hub = hub();
    let one = hub.publish(&channel("a"), Event::text("1")).await.unwrap().cursor;
    let mut stream = ask(&hub, "GET", "/e?channel=a", &[SSE]).await;
    text(&mut stream).await;
    let poll = tokio::spawn({
        let hub = hub.clone();
        async move { json(ask(&hub, "GET", "/e?channel=a", &[]).await).await }
    });
    while hub.stats().readers < 2 {
        tokio::task::yield_now().await;
    }
    let drained = hub.drain(Duration::from_secs(5));
    let (status, headers, list) = poll.await.unwrap();
    assert_eq!((status, list), (200, Value::Array(vec![])));
    assert_eq!(headers["last-event-id"], one.to_string());
    assert!((1..=5).contains(&headers["retry-after"].to_str().unwrap().parse::<u64>().unwrap()));
    let end = text(&mut stream).await;
    let last = ["event: stream-retry", "data: {}", &format!("id: {one}"), ""];
    assert!(end.starts_with("retry: "), "{end}");
    assert_eq!(lines_without_retry(&end), last);
    drop(stream);
    drained.await;

    let id = one.to_string();
    let late = ask(&hub, "GET", "/e?channel=a", &[SSE, ("last-event-id", &id)]).await;
    assert_eq!(late.status(), 200);
    let late = late.into_body().collect().await.unwrap().to_bytes();
    assert!(late.starts_with(b"retry: "), "{late:?}");
    assert_eq!(lines_without_retry(std::str::from_utf8(&late).unwrap()), last);
    let (status, headers, list) = json(ask(&hub, "GET", &format!("/e?channel=a&after={id}"), &[]).await).await;
    assert_eq!((status, &headers["last-event-id"], list), (200, &id.parse().unwrap(), Value::Array(vec![])));
    let (status, headers, _) = json(ask(&hub, "GET", "/e?channel=a", &[]).await).await;
    assert_eq!((status, headers.contains_key("retry-after")), (503, true));
}

#[tokio::test(start_paused = true)]
async fn a_head_request_is_answered_at_once_with_the_head_cursor() {
    let hub = hub();
    let one = hub.publish(&channel("a"), Event::text("1")).await.unwrap().cursor;
    for accept in ["application/json", "text/event-stream"] {
        let response = ask(&hub, "HEAD", "/e?channel=a", &[("accept", accept)]).await;
        assert_eq!(
            (response.status().as_u16(), &response.headers()["last-event-id"]),
            (200, &one.to_string().parse().unwrap())
        );
        assert!(response.headers()["content-type"].to_str().unwrap().starts_with(accept));
        assert!(response.into_body().collect().await.unwrap().to_bytes().is_empty());
    }
    assert_eq!(ask(&hub, "OPTIONS", "/e", &[]).await.headers()["allow"], "GET, HEAD, OPTIONS");
    assert_eq!(ask(&hub, "PUT", "/e", &[]).await.status(), 405);
    let refused = ask(&hub, "HEAD", "/e?limit=0&channel=a", &[]).await;
    assert_eq!((refused.status().as_u16(), http_body::Body::size_hint(refused.body()).exact()), (400, Some(0)));
}

#[tokio::test(start_paused = true)]
async fn a_temporary_reason_never_stops_an_event_source() {
    let too_many = |_: &http::request::Parts| Err::<Channels, _>(Rejection::too_many(Duration::from_secs(4)));
    let mut service = EventService::new(hub(), too_many);
    let request = |accept: &str| Request::builder().uri("/").header("accept", accept).body(()).unwrap();
    let stream = service.call(request("text/event-stream")).await.unwrap();
    assert_eq!(
        (stream.status().as_u16(), &stream.headers()["content-type"]),
        (200, &"text/event-stream; charset=utf-8".parse().unwrap())
    );
    let body = stream.into_body().collect().await.unwrap().to_bytes();
    let sent = std::str::from_utf8(&body).unwrap();
    assert_eq!(lines_without_retry(sent), ["event: stream-retry", "data: {}", ""], "{sent}");
    let retry: u64 = sent.lines().next().unwrap().strip_prefix("retry: ").unwrap().parse().unwrap();
    assert!((4_000..=6_000).contains(&retry), "never less than the application asked for: {retry}");
    let (status, headers, _) = json(service.call(request("application/json")).await.unwrap()).await;
    assert_eq!((status, &headers["retry-after"]), (429, &"4".parse().unwrap()));
    let mut forbidden = EventService::new(hub(), |_| Err::<Channels, _>(Rejection::forbidden()));
    assert_eq!(forbidden.call(request("text/event-stream")).await.unwrap().status(), 403);
}

#[tokio::test(start_paused = true)]
async fn a_failing_store_is_reported_in_the_way_of_each_transport() {
    let (store, faults) = FaultStore::new(MemoryStore::default());
    let hub = Hub::new(store);
    let one = hub.publish(&channel("a"), Event::text("1")).await.unwrap().cursor;
    let id = one.to_string();
    faults.fail_next_reads(usize::MAX);
    faults.fail_next_heads(usize::MAX);
    let mut stream = ask(&hub, "GET", "/e?channel=a", &[SSE, ("last-event-id", &id)]).await;
    assert_eq!(stream.status(), 200);
    let sent = text(&mut stream).await;
    assert!(sent.starts_with("retry: ") && sent.ends_with(&format!("\nid: {id}\n\n")), "{sent}");
    let mut stream = ask(&hub, "GET", "/e?channel=a", &[SSE, ("last-event-id", "nonsense")]).await;
    assert!(!text(&mut stream).await.contains("id:"));
    for (method, uri) in [("GET", "/e?channel=a&after=earliest"), ("HEAD", "/e?channel=a")] {
        let (status, headers, _) = json(ask(&hub, method, uri, &[]).await).await;
        assert_eq!((status, headers.contains_key("retry-after")), (503, true), "{method}");
    }
    let head = ask(&hub, "HEAD", "/e?channel=a", &[SSE]).await;
    assert_eq!((head.status().as_u16(), head.headers().contains_key("retry-after")), (503, true));
}

#[tokio::test(start_paused = true)]
async fn a_store_that_fails_mid_stream_ends_it_at_a_position_to_resume_from() {
    let (store, faults) = FaultStore::new(MemoryStore::default());
    let hub = Hub::with_options(store, HubOptions::default().ring_bytes(100));
    let mut stream = ask(&hub, "GET", "/e?channel=a", &[SSE]).await;
    let one = hub.publish(&channel("a"), Event::text("1")).await.unwrap().cursor;
    assert!(text(&mut stream).await.ends_with(&format!("data: 1\nid: {one}\n\n")));
    faults.fail_next_reads(usize::MAX);
    for _ in 0..3 {
        hub.publish(&channel("a"), Event::text("x".repeat(100_000))).await.unwrap();
    }
    let sent = text(&mut stream).await;
    assert!(sent.starts_with("retry: ") && sent.ends_with(&format!("\nid: {one}\n\n")), "{sent}");
    assert!(stream.body().is_end_stream());
    faults.fail_next_reads(0);
    let mut resumed = ask(&hub, "GET", "/e?channel=a", &[SSE, ("last-event-id", &one.to_string())]).await;
    let mut chunks = Vec::new();
    while let Ok(frame) = tokio::time::timeout(Duration::from_secs(10), resumed.body_mut().frame()).await {
        chunks.push(frame.unwrap().unwrap().into_data().unwrap());
    }
    assert!(chunks.iter().all(|chunk| chunk.len() <= 64 << 10));
    assert!((300_000..301_100).contains(&chunks.iter().map(|chunk| chunk.len()).sum::<usize>()));
}

#[tokio::test(start_paused = true)]
async fn a_handler_can_respond_and_stream() {
    let hub = hub();
    let events = EventService::without_resolver(hub.clone());
    let request = Request::builder().uri("/?wait=0").body("ignored").unwrap();
    assert_eq!(events.respond(request, channel("a")).await.status(), 200);
    let mut response = hub.sse(Subscription::new(channel("a"))).await.unwrap().into_response();
    assert!(text(&mut response).await.contains("id: "));
    let options =
        SseOptions::default().without_live_mark().heartbeat_as(Heartbeat::Comment).max_age(Duration::from_secs(8));
    let body = hub.sse_with(Subscription::new(channel("a")), &options).await.unwrap();
    let body = body.collect().await.unwrap().to_bytes();
    let sent = std::str::from_utf8(&body).unwrap();
    assert_eq!(lines_without_retry(sent)[..2], ["event: stream-retry", "data: {}"], "{sent}");
}

#[test]
fn services_are_clone_send_and_sync_and_their_futures_send() {
    fn service<T: Clone + Send + Sync + 'static>(service: T) -> T {
        service
    }
    fn send<T: Send + 'static>(_: T) {}
    fn send_and_sync<T: Send + Sync + Unpin + 'static>() {}
    /// Neither `Send` nor `Sync`: reading services have no bounds on the request's body.
    type Unbounded = std::rc::Rc<()>;
    let request = || Request::new(Unbounded::default());
    let reader = |_: &http::request::Parts| Ok(Channels::from(Channel::new("a")?));
    send(service(EventService::new(hub(), reader)).call(request()));
    send(service(SseService::new(Hub::typed(MemoryStore::default()), reader)).call(request()));
    send(service(LongPollService::new(hub(), reader)).call(request()));
    send(EventService::new(hub(), reader).respond(request(), channel("a")));
    send_and_sync::<Body>();
    send_and_sync::<tower_events::SseBody>();
}
