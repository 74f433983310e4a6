//! The marks of a stream, as clients see them: where history ends, which channel cannot be read or has ended, and when to
//! reconnect. Every block has data: for a block without, some clients dispatch an empty event, and others ignore its id.

mod support;

use std::time::Duration;

use serde_json::{Value, json};
use support::{App, BOTH, Message, Sse, channel};
use tower_events::{
    Channels, Cursors, Event, Hub, MemoryStore, Retention, SseService, Subscription, sse::SseOptions, store::Append,
    testing::FaultStore,
};

/// The names and data of all messages received so far, marks included.
fn received(stream: &Sse) -> Vec<(String, String)> {
    let mut parser = support::Parser::default();
    let messages = parser.push(stream.raw());
    assert_eq!(parser.silent_blocks, 0, "a block without data: {:?}", stream.text());
    messages.into_iter().map(|Message { name, data, .. }| (name, data)).collect()
}

fn names(stream: &Sse) -> Vec<String> {
    received(stream).into_iter().map(|(name, _)| name).collect()
}

#[tokio::test]
async fn an_idle_channel_is_live_at_once_and_the_mark_has_a_position() {
    let app = App::start().await;
    for http in BOTH {
        for start in ["", "&after=earliest", "&last=5", "&after=beginning"] {
            let name = format!("{http:?}{start}").replace(['&', '='], "");
            let mut stream = app.get(&format!("/sse?channel={name}{start}")).over(http).sse().await;
            let mark = stream.live().await;
            assert_eq!((mark.name.as_str(), mark.data.as_str()), ("stream-live", "{}"));
            assert!(stream.retry().is_some());
            // A client that is cut off before the first event misses nothing.
            drop(stream);
            app.publish(&name, Event::text("meanwhile")).await;
            let mut again =
                app.get(&format!("/sse?channel={name}{start}")).over(http).last_event_id(&mark.id).sse().await;
            assert_eq!(again.next().await.data, "meanwhile");
        }
    }
}

#[tokio::test]
async fn the_live_mark_comes_after_history_and_before_new_events() {
    let app = App::start().await;
    for (http, name) in BOTH.into_iter().zip(["a", "b"]) {
        let old = app.publish_many(name, 3).await;
        let mut stream = app.get(&format!("/sse?channel={name}&after=earliest")).over(http).sse().await;
        let history = stream.data(3).await;
        assert_eq!(stream.live().await.id, old[2]);
        assert_eq!(history, ["1", "2", "3"].map(|n| format!("{name}{n}")));
        for text in ["new", "newer"] {
            app.publish(name, Event::text(text)).await;
            assert_eq!(stream.next().await.data, text);
        }
        assert_eq!(names(&stream), ["message", "message", "message", "stream-live", "message", "message"]);
        app.hub.init(&channel(name), ["1", "2", "3"].map(Event::text).into()).await.unwrap();
        // A reset starts the history over.
        assert_eq!(stream.next().await.name, "stream-reset");
        assert_eq!(stream.data(3).await, ["1", "2", "3"]);
        stream.live().await;
        assert_eq!(names(&stream)[6..], ["stream-reset", "message", "message", "message", "stream-live"]);
    }
}

#[tokio::test]
async fn no_mark_and_no_position_comes_before_a_reset() {
    let app = App::on(MemoryStore::new(Retention::default().events(2))).await;
    let first = app.publish("a", Event::text("first")).await;
    for n in 0..6 {
        app.publish("a", Event::text(n.to_string())).await;
    }
    for http in BOTH {
        for id in [first.as_str(), "nonsense"] {
            for heartbeat in ["comment", "event"] {
                let url = format!("/sse?channel=a&channel=b&heartbeat={heartbeat}");
                let mut stream = app.get(&url).over(http).last_event_id(id).sse().await;
                stream.live().await;
                let names = names(&stream);
                let reset = names.iter().rposition(|name| name == "stream-reset").unwrap();
                assert!(names.iter().position(|name| name == "stream-live").unwrap() > reset, "{names:?}");
            }
        }
        // The same for `after=beginning`, when events were dropped.
        let mut stream = app.get("/sse?channel=a&after=beginning").over(http).sse().await;
        stream.live().await;
        assert_eq!(received(&stream)[0].0, "stream-reset");
        assert!(received(&stream)[0].1.contains("\"trimmed\""));
        let mut earliest = app.get("/sse?channel=a&after=earliest").over(http).sse().await;
        earliest.live().await;
        assert!(!names(&earliest).contains(&"stream-reset".into()));
    }
}

#[tokio::test]
async fn the_first_ping_comes_once_and_after_a_reset_with_its_position() {
    for http in BOTH {
        for (from, expected) in [
            (None, &["stream-reset", "stream-ping", "message", "message", "stream-live"][..]),
            (Some(0), &["stream-ping", "message", "stream-live"]),
            (Some(1), &["stream-ping", "stream-live"]),
        ] {
            let app = App::start().await;
            let ids = app.publish_many("a", 2).await;
            let id = from.map_or("nonsense", |from: usize| ids[from].as_str());
            let mut stream = app.get("/sse?channel=a&heartbeat=event").over(http).last_event_id(id).sse().await;
            stream.live().await;
            assert_eq!(names(&stream), expected, "{id}");
            let first = stream.next().await;
            let ping = if from.is_some() { first } else { stream.next().await };
            assert_eq!((ping.name.as_str(), ping.id == id), ("stream-ping", from.is_some()));
            assert!(stream.text().starts_with("retry:") && stream.text().matches("retry:").count() == 1);
            // Another reset sends no further first ping, but a live mark.
            app.hub.init(&channel("a"), vec![Event::text("anew")]).await.unwrap();
            stream.live().await;
            assert_eq!(names(&stream)[expected.len()..], ["stream-reset", "message", "stream-live"]);
        }
    }
}

#[tokio::test]
async fn the_first_block_always_has_retry() {
    let (store, faults) = FaultStore::new(MemoryStore::default());
    let hub = Hub::new(store);
    let without = SseOptions::default().without_live_mark();
    let router = axum::Router::new()
        .route_service("/sse", SseService::new(hub.clone(), Channels::from_query))
        .route_service("/without", SseService::new(hub.clone(), Channels::from_query).options(without));
    let server = support::serve(router).await;
    for name in ["a", "b", "bad"] {
        hub.publish(&channel(name), Event::text("x")).await.unwrap();
    }
    faults.corrupt_channel(&channel("bad"));
    for http in BOTH {
        for (url, id, first) in [
            ("/sse?channel=a", "", "stream-live"),
            ("/sse?channel=a&heartbeat=event", "", "stream-ping"),
            ("/sse?channel=a&channel=b&after=earliest&heartbeat=event", "", "stream-ping"),
            ("/sse?channel=a&after=earliest", "", "message"),
            ("/sse?channel=a&channel=b&after=earliest", "", "message"),
            ("/sse?channel=a", "nonsense", "stream-reset"),
            ("/without?channel=a", "nonsense", "stream-reset"),
            ("/without?channel=bad&channel=a", "", "stream-error"),
            ("/without?channel=a&channel=ends", "", "stream-end"),
        ] {
            let mut stream = server.get(url).over(http).last_event_id(id).sse().await;
            if first == "stream-end" {
                support::eventually("the stream is a reader", || hub.stats().readers == 1).await;
                hub.append(&channel("ends"), Append::new([]).closing()).await.unwrap();
            }
            stream.first_block().await;
            assert_eq!(names(&stream)[0], first, "{url}");
            assert!(stream.text().starts_with("retry: "), "{url}: {}", stream.text());
            assert_eq!(stream.text().matches("retry: ").count(), 1, "{url}: {}", stream.text());
            drop(stream);
            support::eventually("the stream is gone", || hub.stats().readers == 0).await;
        }
        // The live mark comes before the end of a channel.
        let mut stream = server.get("/sse?channel=ends&channel=a&heartbeat=event").over(http).sse().await;
        while !names(&stream).contains(&"stream-end".into()) {
            assert!(stream.read_more().await.unwrap());
        }
        assert_eq!(names(&stream), ["stream-ping", "stream-live", "stream-end"]);
        drop(stream);
        // The first ping comes after the error of a channel that cannot be read.
        let mut stream = server.get("/sse?channel=bad&channel=a&heartbeat=event").over(http).sse().await;
        stream.live().await;
        assert_eq!(names(&stream), ["stream-error", "stream-ping", "stream-live"]);
        drop(stream);
        support::eventually("the stream is gone", || hub.stats().readers == 0).await;
    }
}

/// Also where events of several channels are there at once, because another reader keeps them in memory.
#[tokio::test]
async fn the_first_ping_comes_before_events_that_need_no_read() {
    let app = App::start().await;
    let both = Channels::new(["a", "b"].map(channel)).unwrap();
    let _reader = app.hub.subscribe(Subscription::new(both.clone())).await.unwrap();
    let before = app.hub.position(&both).await.unwrap().to_string();
    app.publish("a", Event::text("x")).await;
    for http in BOTH {
        let url = "/sse?channel=a&channel=b&heartbeat=event";
        let mut stream = app.get(url).over(http).last_event_id(&before).sse().await;
        stream.live().await;
        assert_eq!(names(&stream), ["stream-ping", "message", "stream-live"]);
    }
}

#[tokio::test]
async fn the_live_mark_waits_for_all_channels() {
    let app = App::start().await;
    app.publish_many("a", 3).await;
    app.publish_many("b", 3).await;
    app.close("shut").await;
    for http in BOTH {
        let url = "/sse?channel=a&channel=b&channel=shut&after=earliest&format=json";
        let mut stream = app.get(url).over(http).sse().await;
        let mark = stream.live().await;
        let names = names(&stream);
        assert_eq!(names.iter().filter(|name| *name == "message").count(), 6, "{names:?}");
        let token: Cursors = mark.id.parse().unwrap();
        assert_eq!(token.position(&channel("b")), Some(app.head("b").await));
        assert_eq!(stream.marks(), 0);
    }
}

#[tokio::test]
async fn the_live_mark_of_a_closed_channel_comes_before_its_end() {
    let app = App::start().await;
    app.hub.append(&channel("a"), Append::new([Event::text("last")]).closing()).await.unwrap();
    for http in BOTH {
        let mut stream = app.get("/sse?channel=a&after=earliest").over(http).sse().await;
        stream.remaining().await;
        assert_eq!(names(&stream), ["message", "stream-live", "stream-end"]);
        assert_eq!(received(&stream)[2].1, r#"{"channel":"a","left":[]}"#);
    }
}

#[tokio::test]
async fn a_corrupt_channel_is_reported_and_the_others_continue() {
    for http in BOTH {
        let (store, faults) = FaultStore::new(MemoryStore::default());
        let app = App::on(store).await;
        app.publish("good", Event::text("1")).await;
        app.publish("bad", Event::text("lost")).await;
        faults.corrupt_channel(&channel("bad"));
        let mut stream = app.get("/sse?channel=good&channel=bad&after=earliest").over(http).sse().await;
        let (first, second) = (stream.next().await, stream.next().await);
        let (error, event) = if first.name == "stream-error" { (first, second) } else { (second, first) };
        assert_eq!((error.name.as_str(), event.data.as_str()), ("stream-error", "1"));
        assert_eq!(serde_json::from_str::<Value>(&error.data).unwrap(), json!({"channel": "bad", "reason": "corrupt"}));
        stream.live().await;
        app.publish("good", Event::text("2")).await;
        assert_eq!(stream.next().await.data, "2");
        assert_eq!(names(&stream).iter().filter(|name| *name == "stream-error").count(), 1);
        // On its own the channel is an error without `Retry-After`: an operator has to repair it, and retrying would not help.
        let alone = app.get("/sse?channel=bad&after=earliest").over(http).send().await;
        alone.problem(503);
        assert_eq!(alone.try_header("retry-after"), None);
    }
}

#[tokio::test]
async fn line_breaks_that_only_some_clients_recognise_are_escaped_in_json_only() {
    let app = App::start().await;
    let breaks = "a\u{2028}b\u{2029}c\u{85}d";
    app.publish("a", Event::json(&json!({"text": breaks})).unwrap()).await;
    app.publish("a", Event::text(breaks)).await;
    for http in BOTH {
        let mut text = app.get("/sse?channel=a&after=earliest").over(http).sse().await;
        assert_eq!(text.data(2).await, [r#"{"text":"a\u2028b\u2029c\u0085d"}"#, breaks]);
        let mut objects = app.get("/sse?channel=a&after=earliest&format=json").over(http).sse().await;
        let poll = app.get("/poll?channel=a&after=earliest").over(http).send().await.expect(200);
        assert_eq!(poll.data(), [json!({"text": breaks}), json!(breaks)]);
        let objects = objects.data(2).await.concat();
        for raw in ['\u{2028}', '\u{2029}', '\u{85}'] {
            assert!(!objects.contains(raw) && !poll.text().contains(raw), "{raw:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn retry_hints_grow_while_the_store_fails() {
    let (store, faults) = FaultStore::new(MemoryStore::default());
    let app = App::in_memory_on(store);
    let head = app.publish("a", Event::text("x")).await;
    let retry_after = async || {
        let mut stream = app.get("/sse?channel=b").last_event_id(&head).sse().await;
        assert_eq!(stream.next().await.name, "stream-retry");
        assert_eq!(stream.last_event_id(), head);
        stream.retry().unwrap()
    };
    faults.fail_next_reads(usize::MAX);
    faults.fail_next_heads(usize::MAX);
    let first = retry_after().await;
    assert!((Duration::from_secs(1)..=Duration::from_secs(3)).contains(&first), "{first:?}");
    tokio::time::advance(Duration::from_secs(20)).await;
    let later = retry_after().await;
    assert!((Duration::from_secs(10)..=Duration::from_secs(31)).contains(&later), "{later:?}");
    let poll = app.get("/poll?channel=b&wait=0&after=earliest").send().await;
    poll.problem(503);
    assert!((10..=31).contains(&poll.header("retry-after").parse().unwrap()), "{poll}");
}

#[tokio::test(start_paused = true)]
async fn the_heartbeats_of_streams_that_got_an_event_together_are_spread() {
    let app = App::in_memory();
    let mut streams = Vec::new();
    for _ in 0..60 {
        let mut stream = app.get("/sse?channel=a").sse().await;
        stream.live().await;
        streams.push(stream);
    }
    app.publish("a", Event::text("x")).await;
    let published = tokio::time::Instant::now();
    let mut waits = Vec::new();
    for stream in &mut streams {
        stream.next().await;
    }
    let mut heartbeats = tokio::task::JoinSet::new();
    for mut stream in streams {
        heartbeats.spawn(async move {
            stream.read_more().await.unwrap();
            (published.elapsed().as_millis(), stream)
        });
    }
    while let Some(heartbeat) = heartbeats.join_next().await {
        waits.push(heartbeat.unwrap().0);
    }
    waits.sort_unstable();
    assert!(waits[0] >= 11_250 && waits[59] <= 15_001, "{waits:?}");
    assert!(waits[59] - waits[0] > 2_000, "{waits:?}");
}
