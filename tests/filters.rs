//! Readers with a filter: what they get, and where they resume.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod support;

use std::time::Duration;

use axum::Router;
use http::{Method, request::Parts};
use support::{Message, Server, channel, serve_in_memory};
use tower_events::{
    Channels, Event, EventService, Filter, Grant, Hub, Listen, MemoryStore, PublishService, Rejection, Retention,
    Subscription,
    longpoll::LongPollOptions,
    sse::SseOptions,
    store::{Reason, Start},
};

/// Shows the events of one name: `only=<name>` of the query.
fn by_query(request: &Parts) -> Result<Grant, Rejection> {
    let grant = Grant::new(Channels::from_query(request)?);
    let only = request.uri.query().and_then(|query| query.split('&').find_map(|pair| pair.strip_prefix("only=")));
    Ok(match only {
        Some(name) => grant.filter(named(name)),
        None => grant,
    })
}

fn named(name: &str) -> Filter {
    let shown = name.to_owned();
    Filter::new(format!("named:{name}"), move |entry| entry.name.as_ref().is_some_and(|name| name.as_str() == shown))
}

struct App {
    hub: Hub,
    server: Server,
}

fn app() -> App {
    let hub = Hub::new(MemoryStore::new(Retention::default().events(100_000).bytes(64 << 20)));
    let options = SseOptions::default().heartbeat(Duration::from_secs(5));
    let refusing = EventService::new(hub.clone(), by_query).long_poll(LongPollOptions::default().refuse_resets());
    let routes = Router::new()
        .route_service("/events", EventService::new(hub.clone(), by_query).sse(options))
        .route_service("/refusing", refusing)
        .route_service("/publish", PublishService::new(hub.clone(), by_query));
    App { server: serve_in_memory(routes), hub }
}

impl App {
    /// Publishes texts with names, given as `name:text`.
    async fn publish(&self, to: &str, events: &[&str]) {
        let events = events.iter().map(|event| {
            let (name, text) = event.split_once(':').unwrap();
            Event::text(text).named(name).unwrap()
        });
        self.hub.publish_all(&channel(to), events).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_reader_gets_what_its_filter_keeps_and_resumes_from_every_position() {
    let app = app();
    app.publish("a", &["x:1", "y:2", "x:3", "y:4", "y:5", "x:6"]).await;
    app.publish("b", &["y:7", "x:8"]).await;
    for channels in ["channel=a", "channel=a&channel=b"] {
        for format in ["", "&format=json"] {
            let url = format!("/events?{channels}&only=x{format}");
            let mut stream = app.server.get(&format!("{url}&after=earliest")).sse().await;
            let expected = if channels == "channel=a" { 3 } else { 4 };
            let all = stream.take(expected).await;
            stream.live().await;
            for (at, message) in all.iter().enumerate() {
                let mut resumed = app.server.get(&url).last_event_id(&message.id).sse().await;
                let rest = resumed.take(expected - at - 1).await;
                // The order is that of each channel.
                let sorted = |messages: &[Message]| {
                    let mut data: Vec<_> = messages.iter().map(|message| message.data.clone()).collect();
                    data.sort();
                    data
                };
                assert_eq!(sorted(&rest), sorted(&all[at + 1..]), "{url} after {at}");
                resumed.live().await;
            }
            app.publish("a", &["y:hidden", "x:live"]).await;
            let live = stream.next().await;
            assert!(live.data.contains("live"), "{live:?}");
            let id = live.data.split('"').nth(3).filter(|_| !format.is_empty());
            let mut from_object = app.server.get(&url).last_event_id(id.unwrap_or(&live.id)).sse().await;
            match channels {
                "channel=a" => assert!(from_object.live().await.id == live.id),
                // The id in an object is the position in its own channel alone.
                _ => drop(from_object),
            }
            app.hub.delete(&channel("a")).await.unwrap();
            app.publish("a", &["x:1", "y:2", "x:3", "y:4", "y:5", "x:6"]).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_poll_gets_what_its_filter_keeps_and_its_positions_continue() {
    let app = app();
    app.publish("a", &["x:1", "y:2", "x:3", "y:4", "x:5", "y:6"]).await;
    let first = app.server.get("/events?channel=a&only=x&after=earliest&limit=1").send().await.expect(200);
    assert_eq!(first.data(), ["1"]);
    let next = format!("/events?channel=a&only=x&after={}", first.cursor());
    let second = app.server.get(&format!("{next}&limit=2")).send().await.expect(200);
    assert_eq!((second.data(), second.try_header("events-reset")), (vec!["3".into(), "5".into()], None));
    // An object's id continues as well, and so does the position after a hidden entry.
    let id = second.json()[0]["id"].as_str().unwrap().to_owned();
    let third =
        app.server.get(&format!("/events?channel=a&only=x&after={id}&format=page&wait=0")).send().await.expect(200);
    let page = third.json();
    assert_eq!((page["events"][0]["data"].as_str(), page["resets"].as_array().unwrap().len()), (Some("5"), 0));
    let cursor = page["cursor"].as_str().unwrap();
    let last = app.server.get(&format!("/events?channel=a&only=x&after={cursor}&wait=1")).send().await.expect(200);
    assert_eq!((last.data().len(), last.try_header("events-reset")), (0, None));
    for position in
        [last.cursor(), app.server.request(Method::HEAD, "/events?channel=a&only=x").send().await.expect(200).cursor()]
    {
        let url = format!("/events?channel=a&only=x&after={position}&wait=0");
        assert_eq!(app.server.get(&url).send().await.expect(200).try_header("events-reset"), None);
    }
}

#[tokio::test(start_paused = true)]
async fn a_position_of_another_filter_is_reset_and_never_skipped_over() {
    let app = app();
    app.publish("a", &["x:1", "y:2", "x:3"]).await;
    let position = async |filter: &str| {
        app.server.request(Method::HEAD, &format!("/events?channel=a{filter}")).send().await.cursor()
    };
    let filters = ["", "&only=x", "&only=y"];
    for before in filters {
        for now in filters {
            let at = position(before).await;
            let url = format!("/events?channel=a{now}&wait=0");
            let poll = app.server.get(&url).last_event_id(&at).send().await.expect(200);
            let expected = (before != now).then_some("filter-changed");
            assert_eq!(poll.try_header("events-reset"), expected, "{before} then {now}");
            assert_eq!(poll.data().is_empty(), before == now, "what is left follows the reset");
            let refused = app.server.get(&url.replace("events", "refusing")).last_event_id(&at).send().await;
            assert_eq!(refused.status, if before == now { 200 } else { 410 });
            if before != now {
                // The positions to choose from are valid for the filter that the request has.
                let latest = refused.json()["latest"].as_str().unwrap().to_owned();
                let chosen = app.server.get(&url).last_event_id(&latest).send().await.expect(200);
                assert_eq!((chosen.try_header("events-reset"), chosen.data().len()), (None, 0));
                let mut stream = app.server.get(&url).last_event_id(&at).sse().await;
                let reset = stream.next().await;
                assert!(reset.name == "stream-reset" && reset.data.contains("filter-changed"), "{reset:?}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_only_skips_learns_its_position_with_the_next_heartbeat() {
    let app = app();
    let mut stream = app.server.get("/events?channel=a&only=x").sse().await;
    let start = stream.live().await.id;
    app.publish("a", &["y:1", "y:2"]).await;
    let ping = stream.next().await;
    assert!(ping.name == "stream-ping" && ping.id != start, "{ping:?}");
    assert_eq!(app.server.request(Method::HEAD, "/events?channel=a&only=x").send().await.cursor(), ping.id);
    // Nothing was skipped since: the heartbeat is a comment again.
    stream.stays_silent(Duration::from_secs(20)).await;
    app.publish("a", &["y:3", "x:4"]).await;
    assert_eq!(stream.next().await.data, "4");
    stream.stays_silent(Duration::from_secs(20)).await;
}

#[tokio::test(start_paused = true)]
async fn a_poll_looks_at_a_bounded_number_of_entries_and_returns_its_new_position() {
    let app = app();
    for _ in 0..3 {
        let hidden = (0..9_000).map(|_| Event::text("").named("y").unwrap());
        app.hub.publish_all(&channel("a"), hidden).await.unwrap();
    }
    app.publish("a", &["x:found"]).await;
    let (mut url, mut polls) = ("/events?channel=a&only=x&after=earliest&wait=0".to_owned(), 0);
    loop {
        let answer = app.server.get(&url).send().await.expect(200);
        assert_eq!(answer.try_header("events-reset"), None);
        match answer.data().as_slice() {
            [] => assert_eq!(answer.try_header("events-live"), None),
            found => break assert_eq!(found, ["found"]),
        }
        let before = std::mem::replace(&mut url, format!("/events?channel=a&only=x&after={}&wait=0", answer.cursor()));
        assert_ne!(before, url, "the position moves");
        polls += 1;
    }
    assert_eq!(polls, 2, "27 000 entries, at most 10 000 and a page for each poll");
}

#[tokio::test(start_paused = true)]
async fn what_a_publisher_with_a_filter_gets_is_a_position_of_that_filter() {
    let app = app();
    let publish = app.server.post("/publish?channel=a&only=x", "text/plain", "hello");
    let receipt = publish.send().await.expect(200);
    assert_eq!(receipt.json()["id"], receipt.cursor());
    let url = format!("/events?channel=a&only=x&wait=0&after={}", receipt.cursor());
    assert_eq!(app.server.get(&url).send().await.expect(200).try_header("events-reset"), None);
}

#[tokio::test(start_paused = true)]
async fn within_the_process_a_filter_hides_and_positions_are_checked() {
    let hub = Hub::new(MemoryStore::default());
    let a = channel("a");
    for (name, text) in [("x", "1"), ("y", "2"), ("x", "3")] {
        hub.publish(&a, Event::text(text).named(name).unwrap()).await.unwrap();
    }
    let read = Subscription::new(&a).filter(named("x")).start(Start::Earliest);
    let listened = hub.listen(read.clone()).await.unwrap();
    assert_eq!(listened.entries().len(), 2);
    let other =
        hub.listen(Listen::from(read.clone().resume(&hub.position(&(&a).into()).await.unwrap()))).await.unwrap();
    assert_eq!(other.resets[0].reason, Reason::FilterChanged);
    // A position that a page was rendered at.
    let at = named("x").cursors(hub.position(&(&a).into()).await.unwrap());
    let same = hub.listen(Listen::from(read.resume(&at)).wait(Duration::ZERO)).await.unwrap();
    assert!(same.resets.is_empty() && same.events.is_empty() && same.live);
}
