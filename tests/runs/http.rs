//! Runs as HTTP clients see them.

use tower_events::{Channels, Event, EventService, Hub, MemoryStore, PublishService, Run, Runs};

use super::{
    channel, idle,
    support::{Server, serve},
};

async fn server() -> (Server, Runs) {
    let hub = Hub::new(MemoryStore::default());
    let runs = Runs::new(hub.clone());
    let app = axum::Router::new()
        .route_service("/events", EventService::new(hub.clone(), Channels::from_query))
        .route_service("/publish", PublishService::new(hub, Channels::from_query));
    (serve(app).await, runs)
}

#[tokio::test]
async fn both_transports_carry_a_run_from_its_start_to_its_end() {
    let (server, runs) = server().await;
    let work = |run: Run| async move { run.publish(Event::text("token")).await };
    let run = runs.start(&channel("1"), work).await.unwrap();
    let target = "/events?channel=run:1&after=beginning";
    let mut stream = server.get(target).sse().await;
    let seen = stream.remaining().await;
    let names: Vec<_> = seen.iter().map(|message| message.name.as_str()).collect();
    assert_eq!(names, ["stream-run-start", "message", "stream-run-end", "stream-end"]);
    let owner: serde_json::Value = serde_json::from_str(&seen[0].data).unwrap();
    assert_eq!(owner["run"], run.id());
    assert_eq!((seen[1].data.as_str(), seen[2].data.as_str()), ("token", r#"{"outcome":"finished"}"#));

    let page = server.get(&format!("{target}&transport=longpoll")).send().await.expect(200);
    assert_eq!(page.header("events-closed"), "true");
    let names: Vec<_> = page.json().as_array().unwrap().iter().map(|event| event["name"].clone()).collect();
    assert_eq!(names, [Some("stream-run-start"), None, Some("stream-run-end")].map(serde_json::Value::from));
}

#[tokio::test]
async fn nobody_publishes_to_the_channel_of_a_run() {
    let (server, runs) = server().await;
    runs.start(&channel("1"), idle).await.unwrap();
    for (target, status) in [("run:1", 403), ("run:2", 403), ("room", 200)] {
        let request = server.post(&format!("/publish?channel={target}"), "text/plain", "x");
        request.send().await.expect(status);
    }
}
