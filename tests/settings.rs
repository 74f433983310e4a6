//! Every setting of the services, as clients see it.
#![allow(clippy::expect_used, clippy::indexing_slicing, reason = "a helper that panics is a failed test")]

mod support;

use std::time::Duration;

use http::Method;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use support::{App, BOTH, Server, channel, serve_in_memory};
use tokio::time::Instant;
use tower_events::{
    Channels, Cursors, Event, EventService, Hub, HubOptions, MemoryStore, SseService, Subscription,
    longpoll::LongPollOptions,
    sse::{Format, Heartbeat, SseOptions},
    store::{Limit, Start},
    testing::FaultStore,
};

fn streams(options: SseOptions) -> (Hub, Server) {
    let hub = Hub::new(MemoryStore::default());
    let service = EventService::new(hub.clone(), Channels::from_query).sse(options);
    (hub, serve_in_memory(service))
}

fn polls(options: LongPollOptions) -> (Hub, Server) {
    let hub = Hub::new(MemoryStore::default());
    let service = EventService::new(hub.clone(), Channels::from_query).long_poll(options);
    (hub, serve_in_memory(service))
}

async fn publish(hub: &Hub, name: &str, text: &str) -> String {
    hub.publish(&channel(name), Event::text(text)).await.expect("published").cursor.to_string()
}

#[tokio::test(start_paused = true)]
async fn the_interval_and_kind_of_heartbeats_can_be_set_and_a_request_can_choose_the_kind() {
    let (hub, server) = streams(SseOptions::default().heartbeat(Duration::from_secs(4)).heartbeat_as(Heartbeat::Event));
    let head = publish(&hub, "a", "x").await;
    for http in BOTH {
        let mut stream = server.get("/?channel=a").over(http).sse().await;
        let started = Instant::now();
        for millis in [0..=0, 3_000..=4_002, 6_000..=8_004] {
            let ping = stream.next().await;
            assert_eq!((ping.name.as_str(), ping.id == head), ("stream-ping", true));
            assert!(millis.contains(&started.elapsed().as_millis()), "{:?}", started.elapsed());
        }
        let mut stream = server.get("/?channel=a&heartbeat=comment").over(http).sse().await;
        stream.stays_silent(Duration::from_millis(8_900)).await;
        assert_eq!(stream.parser().comments.len(), 2);
    }
    let (_hub, server) = streams(SseOptions::default().without_heartbeat());
    let mut stream = server.get("/?channel=a").sse().await;
    stream.stays_silent(Duration::from_secs(3600)).await;
    assert_eq!(stream.parser().comments.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_stream_ends_at_its_maximum_age_and_can_be_resumed() {
    let (hub, server) = streams(SseOptions::default().max_age(Duration::from_secs(100)));
    for http in BOTH {
        let started = Instant::now();
        let mut stream = server.get("/?channel=a").over(http).sse().await;
        let id = publish(&hub, "a", "x").await;
        assert_eq!(stream.next().await.id, id);
        let end = stream.remaining().await;
        assert_eq!((end.len(), end[0].name.as_str(), end[0].id == id), (1, "stream-retry", true));
        assert!((75..=100).contains(&started.elapsed().as_secs()), "{:?}", started.elapsed());
        assert_eq!(stream.last_event_id(), id);
        publish(&hub, "a", "meanwhile").await;
        let mut again = server.get("/?channel=a").over(http).last_event_id(id).sse().await;
        assert_eq!(again.next().await.data, "meanwhile");
    }
}

#[tokio::test(start_paused = true)]
async fn heartbeats_are_at_least_a_millisecond_apart() {
    let hub = Hub::new(MemoryStore::default());
    let options = SseOptions::default().heartbeat(Duration::ZERO).without_live_mark();
    let mut body = hub.sse_with(Subscription::new(channel("a")), &options).await.expect("a stream");
    let started = Instant::now();
    for _ in 0..10 {
        body.frame().await.expect("a heartbeat").expect("no error");
    }
    assert!((10..=15).contains(&started.elapsed().as_millis()), "{:?}", started.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_stream_with_more_to_send_still_ends_at_its_maximum_age() {
    let page = Limit::default().events(1);
    let hub = Hub::with_options(MemoryStore::default(), HubOptions::default().page(page));
    hub.publish_all(&channel("a"), vec![Event::text("x".repeat(50_000)); 20]).await.expect("published");
    let options = SseOptions::default().max_age(Duration::from_secs(100));
    let mut body =
        hub.sse_with(Subscription::new(channel("a")).start(Start::Earliest), &options).await.expect("a stream");
    let mut chunks = 0;
    while let Some(frame) = body.frame().await {
        let chunk = frame.expect("no error").into_data().expect("bytes");
        chunks += 1;
        assert!(chunks < 10, "{} bytes more", chunk.len());
        tokio::time::advance(Duration::from_secs(50)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn streams_that_end_together_are_told_to_reconnect_at_different_times() {
    let options = SseOptions::default().retry(Duration::from_secs(8));
    for fails in [false, true] {
        let (store, faults) = FaultStore::new(MemoryStore::default());
        let hub = Hub::with_options(store, HubOptions::default().ring_bytes(1));
        let options = if fails { options.clone() } else { options.clone().max_age(Duration::from_secs(100)) };
        let service = SseService::new(hub.clone(), Channels::from_query).options(options);
        let server = serve_in_memory(service);
        let mut streams = Vec::new();
        for _ in 0..100 {
            let mut stream = server.get("/?channel=a").sse().await;
            stream.live().await;
            streams.push(stream);
        }
        if fails {
            // More than the ring holds, so that every stream has to read the store.
            faults.fail_channel(&channel("a"));
            hub.publish_all(&channel("a"), ["1", "2", "3"].map(Event::text)).await.expect("published");
        }
        let mut halves = [0, 0];
        for mut stream in streams {
            assert_eq!(stream.next().await.name, "stream-retry");
            let retry = stream.retry().unwrap();
            assert!((Duration::from_secs(4)..=Duration::from_secs(12)).contains(&retry), "{retry:?}");
            halves[usize::from(retry > Duration::from_secs(8))] += 1;
        }
        assert!(halves.iter().all(|half| *half > 20), "{halves:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_live_mark_can_be_left_out_and_retry_is_still_sent() {
    let (hub, server) = streams(SseOptions::default().without_live_mark().retry(Duration::from_millis(100)));
    for http in BOTH {
        let mut stream = server.get("/?channel=a").over(http).sse().await;
        stream.stays_silent(Duration::from_secs(1)).await;
        assert!(stream.raw().is_empty(), "{:?}", stream.text());
        publish(&hub, "a", "x").await;
        assert_eq!(stream.next().await.data, "x");
        assert_eq!((stream.parser().silent_blocks, stream.marks()), (0, 0));
        let retry = stream.retry().expect("in the first block with data");
        assert!((Duration::from_millis(50)..=Duration::from_millis(150)).contains(&retry), "{retry:?}");
    }
}

#[tokio::test]
async fn a_stream_asks_to_be_forwarded_incrementally_only_when_told_to() {
    for (options, asks) in [(SseOptions::default(), false), (SseOptions::default().incremental(), true)] {
        let (_hub, server) = streams(options);
        for http in BOTH {
            let stream = server.get("/?channel=a").over(http).sse().await;
            let head = server.request(Method::HEAD, "/?channel=a&transport=sse").over(http).send().await.expect(200);
            for headers in [&stream.headers, &head.headers] {
                let incremental = headers.get("incremental").map(http::HeaderValue::as_bytes);
                assert_eq!(incremental, asks.then_some(&b"?1"[..]));
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_format_can_be_set_and_a_request_can_choose_another() {
    let (hub, server) = streams(SseOptions::default().format(Format::Json));
    publish(&hub, "a", "x").await;
    for http in BOTH {
        let object = server.get("/?channel=a&last=1").over(http).sse().await.next().await.data;
        assert_eq!(serde_json::from_str::<Value>(&object).expect("an object")["data"], "x");
        assert_eq!(server.get("/?channel=a&last=1&format=text").over(http).sse().await.next().await.data, "x");
    }
}

#[tokio::test(start_paused = true)]
async fn waits_and_limits_of_polls_can_be_set() {
    let options = LongPollOptions::default().wait(Duration::from_secs(3)).max_wait(Duration::from_secs(7)).limit(2);
    let (hub, server) = polls(options);
    let head = publish(&hub, "a", "1").await;
    for http in BOTH {
        for (query, least, most) in [("", 2_700, 3_001), ("&wait=5", 5_000, 5_001), ("&wait=50", 7_000, 7_001)] {
            let started = Instant::now();
            let url = format!("/?channel=a&after={head}{query}");
            assert_eq!(server.get(&url).over(http).send().await.expect(200).text(), "[]");
            let millis = started.elapsed().as_millis();
            assert!((least..=most).contains(&millis), "{query}: {millis} ms");
        }
    }
    publish(&hub, "a", "2").await;
    publish(&hub, "a", "3").await;
    for http in BOTH {
        for query in ["", "&limit=3", "&limit=2"] {
            let answer = server.get(&format!("/?channel=a&after=earliest{query}")).over(http).send().await.expect(200);
            assert_eq!(json!(answer.data()), json!(["1", "2"]));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn resets_can_be_refused_with_the_positions_to_choose_from() {
    let (hub, server) = polls(LongPollOptions::default().refuse_resets());
    publish(&hub, "a", "1").await;
    let latest = publish(&hub, "a", "2").await;
    for http in BOTH {
        let gone = server.get("/?channel=a").over(http).last_event_id("nonsense").send().await;
        gone.problem(410);
        assert_eq!(gone.header("events-reset"), "unknown");
        let document = gone.json();
        assert_eq!(document["latest"], json!(latest));
        let earliest = document["earliest"].as_str().expect("a cursor");
        let again = server.get(&format!("/?channel=a&after={earliest}")).over(http).send().await.expect(200);
        assert_eq!(json!(again.data()), json!(["1", "2"]));
        // Other starts are not resumes.
        assert_eq!(server.get("/?channel=a&after=earliest").over(http).send().await.expect(200).data().len(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn refused_resets_of_several_channels_keep_the_positions_of_the_others() {
    let (hub, server) = polls(LongPollOptions::default().refuse_resets());
    let both = server.request(Method::HEAD, "/?channel=a&channel=b").send().await.expect(200).cursor();
    let position_of_b = both.parse::<Cursors>().expect("a token").position(&channel("b"));
    publish(&hub, "b", "b1").await;
    hub.init(&channel("a"), vec![Event::text("anew")]).await.expect("initialised");
    for http in BOTH {
        let gone = server.get("/?channel=a&channel=b").over(http).last_event_id(&both).send().await;
        gone.problem(410);
        assert_eq!(gone.header("events-reset"), r#"epoch-changed;channel="a""#);
        let document = gone.json();
        for (position, expected) in [("earliest", vec!["anew", "b1"]), ("latest", vec!["b1"])] {
            let token = document[position].as_str().expect("a token");
            let token_of_b = token.parse::<Cursors>().expect("a token").position(&channel("b"));
            assert_eq!(token_of_b, position_of_b, "{position}");
            let answer =
                server.get(&format!("/?channel=a&channel=b&after={token}")).over(http).send().await.expect(200);
            let mut data = answer.data();
            data.sort_by_key(ToString::to_string);
            assert_eq!(json!(data), json!(expected), "{position}");
        }
    }
}

#[tokio::test]
async fn the_number_of_channels_can_be_bounded() {
    let service = || EventService::new(Hub::new(MemoryStore::default()), Channels::from_query);
    for (service, most) in [(service().max_channels(2), 2), (service(), 32)] {
        let server = support::serve(service).await;
        let query = |count| (0..count).map(|n| format!("channel={n}&")).collect::<String>();
        for http in BOTH {
            server.get(&format!("/?{}channel=0&wait=0", query(most))).over(http).send().await.expect(200);
            let refused = server.get(&format!("/?{}wait=0", query(most + 1))).over(http).send().await;
            assert!(refused.problem(400).contains("channel"), "{refused}");
        }
    }
}

#[tokio::test]
async fn the_number_of_readers_can_be_bounded() {
    let hub = Hub::with_options(MemoryStore::default(), HubOptions::default().max_readers(1));
    let server = support::serve(EventService::new(hub.clone(), Channels::from_query)).await;
    for http in BOTH {
        let mut first = server.get("/?channel=a").over(http).sse().await;
        first.first_block().await;
        let poll = server.get("/?channel=a").over(http).send().await;
        poll.problem(503);
        assert!(poll.header("retry-after").parse::<u64>().is_ok());
        // An `EventSource` would never reconnect after a 503.
        let id = first.last_event_id().to_owned();
        let mut second = server.get("/?channel=a").over(http).last_event_id(&id).sse().await;
        assert_eq!(second.next().await.name, "stream-retry");
        assert!(second.remaining().await.is_empty());
        assert_eq!((second.last_event_id(), second.retry().is_some()), (id.as_str(), true));
        // A HEAD request is not a reader, and publishing continues.
        server.request(Method::HEAD, "/?channel=a").over(http).send().await.expect(200);
        publish(&hub, "a", "x").await;
        assert_eq!(first.next().await.data, "x");
        drop(first);
        support::eventually("no readers", || hub.stats().readers == 0).await;
    }
}

#[tokio::test]
async fn the_number_of_followed_channels_can_be_bounded() {
    let options = HubOptions::default().max_followed_channels(2);
    let hub = Hub::with_options(MemoryStore::default(), options);
    let server = support::serve(EventService::new(hub.clone(), Channels::from_query)).await;
    for http in BOTH {
        let mut first = server.get("/?channel=a&channel=b").over(http).sse().await;
        first.live().await;
        // Further readers of channels that are followed are welcome.
        server.get("/?channel=a&wait=0").over(http).send().await.expect(200);
        let poll = server.get("/?channel=c").over(http).send().await;
        poll.problem(503);
        assert_eq!(poll.json()["type"], "urn:tower-events:too-many-channels");
        assert!(poll.header("retry-after").parse::<u64>().is_ok());
        let mut second = server.get("/?channel=a&channel=c").over(http).sse().await;
        assert_eq!(second.next().await.name, "stream-retry");
        assert!(second.remaining().await.is_empty());
        drop(first);
        support::eventually("no readers", || hub.stats().readers == 0).await;
        // Channels without readers make room, though they would be followed for another 30 s.
        assert_eq!(hub.stats().followed_channels, 2);
        let mut third = server.get("/?channel=c&channel=d").over(http).sse().await;
        third.live().await;
        assert_eq!(hub.stats().followed_channels, 2);
        drop(third);
        support::eventually("no readers", || hub.stats().readers == 0).await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_rate_of_catching_up_can_be_bounded() {
    let (hub, server) = streams(SseOptions::default().max_catch_up_rate(100 << 10));
    let events = vec![Event::text("x".repeat(10 << 10)); 100];
    hub.publish_all(&channel("a"), events).await.expect("published");
    for http in BOTH {
        let started = Instant::now();
        let mut stream = server.get("/?channel=a&after=earliest").over(http).sse().await;
        stream.take(100).await;
        let took = started.elapsed().as_millis();
        assert!((9_000..=10_500).contains(&took), "1 000 KiB at 100 KiB/s took {took} ms");
        // A stream that keeps up is not slowed down.
        stream.live().await;
        let started = Instant::now();
        for _ in 0..50 {
            hub.publish(&channel("b"), Event::text("x".repeat(10 << 10))).await.expect("published");
        }
        let mut live = server.get("/?channel=b").over(http).sse().await;
        live.live().await;
        for _ in 0..50 {
            hub.publish(&channel("b"), Event::text("x".repeat(10 << 10))).await.expect("published");
            live.next().await;
        }
        assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
    }
    // The least: 64 KiB a second. A drain does not wait for it.
    let (hub, server) = streams(SseOptions::default().max_catch_up_rate(0));
    hub.publish_all(&channel("a"), vec![Event::text("x".repeat(10 << 10)); 100]).await.expect("published");
    let mut stream = server.get("/?channel=a&after=earliest").sse().await;
    stream.take(20).await;
    let drained = Instant::now();
    drop(hub.drain(Duration::from_secs(5)));
    assert_eq!(stream.remaining().await.last().expect("an end").name, "stream-retry");
    assert!(drained.elapsed() < Duration::from_millis(10), "{:?}", drained.elapsed());
}

#[tokio::test]
async fn a_head_request_for_several_channels_returns_their_token() {
    let app = App::start().await;
    app.publish("a", Event::text("x")).await;
    for http in BOTH {
        for accept in ["application/json", "text/event-stream"] {
            let head = app.request(Method::HEAD, "/events?channel=a&channel=b").over(http).header("accept", accept);
            let token: Cursors = head.send().await.expect(200).cursor().parse().expect("a token");
            assert_eq!(token.position(&channel("a")), Some(app.head("a").await));
            assert_eq!(token.position(&channel("b")), Some(app.head("b").await));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_retry_that_is_the_only_block_has_the_position() {
    for names in [&["a"][..], &["a", "b"]] {
        let (hub, server) = streams(SseOptions::default().without_live_mark());
        publish(&hub, "a", "x").await;
        let channels = Channels::new(names.iter().map(|name| channel(name))).expect("channels");
        let position = hub.position(&channels).await.expect("heads").to_string();
        let query: String = names.iter().map(|name| format!("channel={name}&")).collect();
        let mut stream = server.get(&format!("/?{query}")).sse().await;
        while hub.stats().readers == 0 {
            tokio::task::yield_now().await;
        }
        drop(hub.drain(Duration::from_secs(5)));
        let last = stream.next().await;
        assert_eq!((last.name.as_str(), last.id), ("stream-retry", position));
        assert!(stream.remaining().await.is_empty());
    }
}
