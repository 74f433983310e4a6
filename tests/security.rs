//! The threats of SECURITY.md that no other test shows, and that each test which it names exists.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a helper that panics is a failed test")]

mod support;

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
};

use http::{Method, Request};
use support::{BOTH, Server, channel, serve};
use tower_events::{Channels, Cursor, Event, EventService, Hub, MemoryStore, PublishService, request::Rejection};

/// Serves the channels whose names begin with `public`, and others while `open`.
async fn server(hub: &Hub, open: &'static AtomicBool) -> Server {
    let resolver = |request: &http::request::Parts| -> Result<Channels, Rejection> {
        Channels::from_query(request)?.all_allowed(|name| name.as_str().starts_with("public") || open.load(Relaxed))
    };
    let routes = axum::Router::new()
        .route_service("/events", EventService::new(hub.clone(), resolver))
        .route_service("/publish", PublishService::new(hub.clone(), resolver));
    serve(routes).await
}

#[tokio::test]
async fn a_position_grants_nothing_and_every_request_is_decided_again() {
    static OPEN: AtomicBool = AtomicBool::new(true);
    let hub = Hub::new(MemoryStore::default());
    let server = server(&hub, &OPEN).await;
    for http in BOTH {
        OPEN.store(true, Relaxed);
        hub.publish(&channel("secret"), Event::text("s")).await.unwrap();
        let one = server.get("/events?channel=secret&wait=0").over(http).send().await.expect(200).cursor();
        let both =
            server.get("/events?channel=public&channel=secret&wait=0").over(http).send().await.expect(200).cursor();
        OPEN.store(false, Relaxed);
        for (query, cursor) in [("channel=secret", &one), ("channel=public&channel=secret", &both)] {
            for method in [Method::GET, Method::HEAD] {
                let request = server.request(method, &format!("/events?{query}")).over(http).last_event_id(cursor);
                request.send().await.expect(403);
            }
            let request = server.get(&format!("/events?{query}")).over(http).last_event_id(cursor);
            request.header("accept", "text/event-stream").send().await.problem(403);
            server.post(&format!("/publish?{query}"), "text/plain", "x").over(http).send().await.expect(403);
        }
        // A token that names more channels than the request adds none.
        let polled =
            server.get("/events?channel=public&wait=0").over(http).last_event_id(&both).send().await.expect(200);
        assert!(!polled.text().contains("secret"), "{polled}");
        assert!(polled.cursor().parse::<Cursor>().is_ok(), "the position of one channel: {polled}");
    }
}

#[tokio::test]
async fn permission_to_read_does_not_permit_publishing() {
    let hub = Hub::new(MemoryStore::default());
    let refuse = |_: &http::request::Parts| -> Result<Channels, Rejection> { Err(Rejection::forbidden()) };
    let granted = Channels::from(channel("a"));
    // As a layer in front does that lets a client read.
    let grant = tower::util::MapRequestLayer::new(move |mut request: Request<_>| {
        request.extensions_mut().insert(granted.clone());
        request
    });
    let routes = axum::Router::new()
        .route_service("/events", EventService::new(hub.clone(), refuse))
        .route_service("/publish", PublishService::new(hub.clone(), refuse))
        .layer(grant);
    let server = serve(routes).await;
    for http in BOTH {
        server.get("/events?wait=0").over(http).send().await.expect(200);
        server.post("/publish", "text/plain", "x").over(http).send().await.problem(403);
    }
    assert_eq!(hub.heads(&channel("a").into()).await.unwrap()[0].cursor.seq, 0);
}

#[test]
fn each_test_that_the_threat_model_names_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(root.join("SECURITY.md")).unwrap();
    let mut sources = String::new();
    for folder in ["src", "tests"] {
        collect(&root.join(folder), &mut sources);
    }
    let mut named = BTreeSet::new();
    for row in text.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| threat")) {
        let shown_by = row.trim_end_matches(['|', ' ']).rsplit_once(" | ").unwrap().1;
        let names: Vec<_> = shown_by.split('`').skip(1).step_by(2).collect();
        assert!(!names.is_empty(), "no test shows what is done: {row}");
        named.extend(names);
    }
    assert!(named.len() > 20, "{named:?}");
    let exists = |name: &str| {
        let quoted = name.replace('\'', "\\'");
        sources.contains(&format!("fn {name}(")) || sources.contains(&format!("test('{quoted}'"))
    };
    let missing: Vec<_> = named.iter().filter(|name| !exists(name)).collect();
    assert!(missing.is_empty(), "no such tests: {missing:?}");
}

/// Adds the text of all source files under `folder`.
fn collect(folder: &Path, sources: &mut String) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("node_modules") {
            collect(&path, sources);
        } else if path.extension().is_some_and(|extension| extension == "rs" || extension == "js") {
            sources.push_str(&fs::read_to_string(&path).unwrap());
        }
    }
}
