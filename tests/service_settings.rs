//! The settings of reading services, as clients see them.
#![allow(clippy::indexing_slicing, clippy::unwrap_used, reason = "a helper that panics is a failed test")]

mod support;

use axum::Router;
use support::{BOTH, Server, channel, serve};
use tower_events::{
    Channels, Event, EventService, Hub, Listen, LongPollService, MemoryStore, SseService, Subscription, store::Start,
};

/// A hub with three events in the channel `a`.
async fn hub() -> Hub {
    let hub = Hub::new(MemoryStore::default());
    hub.publish_all(&channel("a"), ["1", "2", "3"].map(Event::text)).await.unwrap();
    hub
}

async fn serve_from(hub: &Hub, start: Start) -> Server {
    let router = Router::new()
        .route_service("/events", EventService::new(hub.clone(), Channels::from_query).start(start))
        .route_service("/sse", SseService::new(hub.clone(), Channels::from_query).start(start))
        .route_service("/poll", LongPollService::new(hub.clone(), Channels::from_query).start(start));
    serve(router).await
}

#[tokio::test]
async fn a_service_starts_where_it_was_told_unless_the_request_names_a_position() {
    let hub = hub().await;
    let server = serve_from(&hub, Start::Last(2)).await;
    let earliest = Subscription::new(channel("a")).start(Start::Earliest);
    let first = hub.listen(Listen::from(earliest).limit(1)).await.unwrap();
    for http in BOTH {
        for (query, data) in [
            (String::new(), &["2", "3"][..]),
            ("&after=".into(), &["2", "3"]),
            ("&after=earliest".into(), &["1", "2", "3"]),
            (format!("&lastEventId={}", first.cursors), &["2", "3"]),
            ("&last=1".into(), &["3"]),
        ] {
            for path in ["/events", "/sse"] {
                let mut stream = server.get(&format!("{path}?channel=a{query}")).over(http).sse().await;
                assert_eq!(stream.data(data.len()).await, data, "{path} {query}");
            }
            for path in ["/events", "/poll"] {
                let answer = server.get(&format!("{path}?channel=a{query}")).over(http).send().await.expect(200);
                assert_eq!(answer.data(), data, "{path} {query}");
            }
        }
    }
}

#[tokio::test]
async fn a_service_that_starts_at_the_beginning_sends_everything() {
    let hub = hub().await;
    let server = serve_from(&hub, Start::Beginning).await;
    for http in BOTH {
        let mut stream = server.get("/events?channel=a").over(http).sse().await;
        assert_eq!(stream.data(3).await, ["1", "2", "3"]);
    }
}
