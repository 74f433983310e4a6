//! The services behind tower-http's layers.

use tower_http::{
    compression::{CompressionLayer, predicate::SizeAbove},
    cors::CorsLayer,
    limit::RequestBodyLimitLayer,
    timeout::TimeoutLayer,
    trace::TraceLayer,
};

use super::*;

#[tokio::test]
async fn under_a_trace_layer() {
    let hub = hub();
    let routes = Router::new().route_service("/events", events(&hub)).layer(TraceLayer::new_for_http());
    check(&serve(routes).await, &hub, "/events?channel=a", "a").await;
    check(
        &serve(ServiceBuilder::new().layer(TraceLayer::new_for_http()).service(events(&hub))).await,
        &hub,
        "/?channel=a",
        "a",
    )
    .await;
}

#[tokio::test]
async fn under_a_cors_layer_a_script_from_another_origin_sees_the_cursor() {
    let hub = hub();
    let cors = CorsLayer::new()
        .allow_origin(["http://page.example".parse().unwrap()])
        .allow_methods([Method::GET, Method::POST])
        .allow_headers(tower_events::request::REQUEST_HEADERS.to_vec())
        .expose_headers(tower_events::request::EXPOSED_HEADERS.to_vec());
    let routes = Router::new().route_service("/events", events(&hub)).layer(cors.clone());
    let server = serve(routes).await;
    check(&server, &hub, "/events?channel=a", "a").await;
    check(&serve(ServiceBuilder::new().layer(cors).service(events(&hub))).await, &hub, "/?channel=a", "a").await;
    for http in BOTH {
        let request = server.get("/events?channel=a&wait=0").over(http).header("origin", "http://page.example");
        let answer = request.send().await.expect(200);
        assert_eq!(answer.header("access-control-allow-origin"), "http://page.example");
        let exposed = answer.header("access-control-expose-headers").to_ascii_lowercase();
        let names =
            ["last-event-id", "events-reset", "events-closed", "events-live", "events-error", "link", "retry-after"];
        for name in names {
            assert!(exposed.contains(name), "{exposed}");
        }
        let preflight = server
            .request(Method::OPTIONS, "/events?channel=a")
            .over(http)
            .header("origin", "http://page.example")
            .header("access-control-request-method", "GET")
            .header("access-control-request-headers", "last-event-id,prefer");
        let allowed = preflight.send().await.expect(200).header("access-control-allow-headers").to_ascii_lowercase();
        // Three popular clients send `Cache-Control` unasked; a wildcard would not cover `Authorization`.
        let sent = ["last-event-id", "prefer", "idempotency-key", "events-closed", "content-type", "cache-control"];
        for name in sent.into_iter().chain(["authorization", "x-requested-with"]) {
            assert!(allowed.split(',').any(|one| one.trim() == name), "{name} in {allowed}");
        }
    }
}

#[tokio::test]
async fn under_a_compression_layer_answers_are_compressed_and_streams_are_not() {
    let hub = hub();
    hub.publish(&channel("a"), Event::text("x".repeat(10_000))).await.unwrap();
    let routes = Router::new().route_service("/events", events(&hub)).layer(CompressionLayer::new());
    let server = serve(routes).await;
    check(&server, &hub, "/events?channel=a", "a").await;
    for http in BOTH {
        let mut stream =
            server.get("/events?channel=a&after=earliest").over(http).header("accept-encoding", "gzip").sse().await;
        assert!(!stream.headers.contains_key("content-encoding"));
        assert_eq!(stream.next().await.data.len(), 10_000);
        let request =
            server.get("/events?channel=a&after=earliest&wait=0&limit=1").over(http).header("accept-encoding", "gzip");
        let polled = request.send().await.expect(200);
        assert_eq!(polled.header("content-encoding"), "gzip");
        assert!(polled.body.len() < 1_000);
    }
}

#[tokio::test]
async fn under_a_compression_layer_set_to_compress_streams_each_event_is_flushed() {
    let hub = hub();
    let layer = CompressionLayer::new().compress_when(SizeAbove::new(0));
    let server = serve(ServiceBuilder::new().layer(layer).service(events(&hub))).await;
    for http in BOTH {
        let request = server.get("/?channel=a").over(http).header("accept-encoding", "gzip");
        let mut opened = request.header("accept", "text/event-stream").open().await;
        assert_eq!(opened.headers["content-encoding"], "gzip");
        // The opening block, then a chunk for each event as soon as it is published.
        assert!(opened.body.chunk().await.unwrap().is_some());
        for _ in 0..3 {
            hub.publish(&channel("a"), Event::text("x")).await.unwrap();
            assert!(opened.body.chunk().await.unwrap().is_some());
        }
    }
}

#[tokio::test]
async fn under_a_timeout_layer_that_allows_the_wait() {
    let hub = hub();
    let layer = TimeoutLayer::with_status_code(StatusCode::SERVICE_UNAVAILABLE, Duration::from_secs(60));
    let routes = Router::new().route_service("/events", events(&hub)).layer(layer);
    check(&serve(routes).await, &hub, "/events?channel=a", "a").await;
}

#[tokio::test]
async fn a_timeout_layer_leaves_streams_open_and_frees_the_polls_that_it_ends() {
    let hub = hub();
    let layer = TimeoutLayer::with_status_code(StatusCode::SERVICE_UNAVAILABLE, Duration::from_millis(30));
    let server = serve(ServiceBuilder::new().layer(layer).service(events(&hub))).await;
    for http in BOTH {
        let mut stream = server.get("/?channel=a").over(http).sse().await;
        assert_eq!(server.get("/?channel=a").over(http).send().await.status, 503);
        support::eventually("the poll is gone", || hub.stats().readers == 1).await;
        hub.publish(&channel("a"), Event::text("x")).await.unwrap();
        assert_eq!(stream.next().await.data, "x");
    }
}

#[tokio::test]
async fn under_a_body_limit_layer() {
    let hub = hub();
    let publish = PublishService::new(hub.clone(), Channels::from_query);
    let routes = Router::new().route_service("/events", events(&hub)).route_service("/publish", publish.clone());
    let limited = RequestBodyLimitLayer::new(100);
    let server = serve(routes.layer(limited)).await;
    check(&server, &hub, "/events?channel=a", "a").await;
    let plain = serve(ServiceBuilder::new().layer(limited).service(publish)).await;
    for http in BOTH {
        for (server, path) in [(&server, "/publish?channel=a"), (&plain, "/?channel=a")] {
            server.post(path, "text/plain", "x".repeat(100)).over(http).send().await.expect(200);
            assert_eq!(server.post(path, "text/plain", "x".repeat(101)).over(http).send().await.status, 413);
        }
    }
    // A body whose length is not announced is counted while it is read.
    let mut raw = server.http1().await;
    let head =
        "POST /publish?channel=a HTTP/1.1\r\nhost: a\r\ncontent-type: text/plain\r\ntransfer-encoding: chunked\r\n\r\n";
    raw.send(format!("{head}c8\r\n{}\r\n0\r\n\r\n", "x".repeat(200))).await;
    raw.answer_to("POST").await.unwrap().problem(413);
}

#[tokio::test]
async fn under_a_typical_stack_of_layers() {
    let hub = hub();
    let routes = Router::new()
        .route_service("/events", events(&hub))
        .layer(TimeoutLayer::with_status_code(StatusCode::SERVICE_UNAVAILABLE, Duration::from_secs(60)))
        .layer(RequestBodyLimitLayer::new(1 << 20))
        .layer(CompressionLayer::new())
        .layer(CorsLayer::permissive())
        .layer(TraceLayer::new_for_http());
    check(&serve(routes).await, &hub, "/events?channel=a", "a").await;
}
