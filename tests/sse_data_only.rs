//! Streams with nothing but data, for front ends that know neither names nor marks.

mod support;

use std::time::Duration;

use support::{App, BOTH, channel};
use tower_events::{
    Channels, Delivery, Event, Hub, HubOptions, MemoryStore, Retention, RunOutcome, Runs, SseService, sse::SseOptions,
};

/// Words for what is not an event, so that tests see where they come.
fn texts(delivery: &Delivery) -> Vec<String> {
    match delivery {
        Delivery::Events(events) => events.entries().map(|entry| entry.data.as_shown().to_owned()).collect(),
        Delivery::Closed(closed) => vec![format!("{} is closed", closed.channel)],
        Delivery::Reset(reset) => vec![format!("reset: {:?}", reset.reason)],
        Delivery::Drained { .. } => vec!["come back".into()],
        _ => Vec::new(),
    }
}

async fn serve(hub: &Hub, options: SseOptions) -> support::Server {
    let service = SseService::new(hub.clone(), Channels::from_query).options(options.data_only(texts));
    support::serve(axum::Router::new().route_service("/sse", service)).await
}

#[tokio::test]
async fn a_stream_of_data_only_has_no_other_fields_and_ends_with_its_channels() {
    let app = App::start().await;
    let server = serve(&app.hub, SseOptions::default()).await;
    app.hub.publish(&channel("a"), Event::text("two\nlines").named("named").unwrap()).await.unwrap();
    app.hub.publish(&channel("a"), Event::json(&[1]).unwrap()).await.unwrap();
    app.close("a").await;
    for http in BOTH {
        for parameters in ["", "&format=json", "&heartbeat=event"] {
            let url = format!("/sse?channel=a&after=beginning{parameters}");
            let answer = server.get(&url).over(http).send().await.expect(200);
            assert_eq!(answer.header("content-type"), "text/event-stream; charset=utf-8");
            assert_eq!(answer.text(), "data: two\ndata: lines\n\ndata: [1]\n\ndata: a is closed\n\n", "{url}");
        }
    }
    // With several channels each is closed on its own, and the stream ends with the last.
    let mut stream = server.get("/sse?channel=a&channel=b&after=beginning").sse().await;
    while !stream.text().contains("a is closed") {
        assert!(stream.read_more().await.unwrap());
    }
    app.publish("b", Event::text("later")).await;
    app.close("b").await;
    while stream.read_more().await.unwrap() {}
    assert!(stream.text().ends_with("data: later\n\ndata: b is closed\n\n"), "{}", stream.text());
}

#[tokio::test]
async fn what_is_missing_and_every_early_end_is_up_to_the_application() {
    let hub = Hub::new(MemoryStore::new(Retention::default().events(2)));
    let server = serve(&hub, SseOptions::default()).await;
    for n in 0..6 {
        hub.publish(&channel("a"), Event::text(n.to_string())).await.unwrap();
    }
    for http in BOTH {
        let mut stream = server.get("/sse?channel=a&after=beginning").over(http).sse().await;
        while !stream.text().ends_with("data: 5\n\n") {
            assert!(stream.read_more().await.unwrap());
        }
        assert!(stream.text().starts_with("data: reset: Trimmed\n\n"), "{}", stream.text());
    }
    let aged = serve(&hub, SseOptions::default().max_age(Duration::from_millis(20))).await;
    assert_eq!(aged.get("/sse?channel=b").send().await.expect(200).text(), "data: come back\n\n");

    let mut stream = server.get("/sse?channel=b").sse().await;
    support::eventually("the stream is a reader", || hub.stats().readers == 1).await;
    hub.drain(Duration::from_secs(1));
    while stream.read_more().await.unwrap() {}
    assert_eq!(stream.text(), "data: come back\n\n");
    // Such a client looks at the status, so it gets one.
    let refused = server.get("/sse?channel=b").send().await.expect(503);
    assert!(!refused.header("retry-after").is_empty(), "{refused:?}");
}

#[tokio::test]
async fn heartbeats_are_comments() {
    let hub = Hub::with_options(MemoryStore::default(), HubOptions::default());
    let server = serve(&hub, SseOptions::default().heartbeat(Duration::from_millis(2))).await;
    let mut stream = server.get("/sse?channel=a&heartbeat=event").sse().await;
    while stream.text().len() < 6 {
        assert!(stream.read_more().await.unwrap());
    }
    assert_eq!(stream.text().replace(":\n", ""), "");
}

#[tokio::test]
async fn the_last_event_of_a_run_says_its_outcome() {
    let hub = Hub::new(MemoryStore::default());
    let runs = Runs::new(hub.clone());
    let outcomes = |delivery: &Delivery| match delivery {
        Delivery::Events(events) => events.entries().map(|entry| format!("{:?}", RunOutcome::of(entry))).collect(),
        _ => Vec::new(),
    };
    let service = SseService::new(hub, Channels::from_query).options(SseOptions::default().data_only(outcomes));
    let server = support::serve(axum::Router::new().route_service("/sse", service)).await;
    let run = |run: tower_events::Run| async move { run.publish(Event::text(r#"{"outcome":"finished"}"#)).await };
    runs.start(&channel("run:1"), run).await.unwrap().over().await;
    let answer = server.get("/sse?channel=run:1&after=beginning").send().await.expect(200);
    assert_eq!(answer.text(), "data: None\n\ndata: None\n\ndata: Some(Finished)\n\n");
}
