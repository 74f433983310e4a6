//! Readers share what they can: the bytes of an event, the headers of an answer. Each still gets exactly what it asked for.
#![allow(clippy::indexing_slicing, clippy::unwrap_used, reason = "a helper that panics is a failed test")]

mod support;

use std::{future::poll_fn, pin::Pin};

use bytes::Bytes;
use http::request::Parts;
use http_body::Body as _;
use serde_json::json;
use support::{App, BOTH, Sse, channel, serve};
use tower::ServiceExt as _;
use tower_events::{
    Channels, Cursors, Event, Hub, LongPollService, MemoryStore, Rejection, SseBody, Subscription,
    longpoll::LongPollOptions,
};

/// Reads until `count` events have arrived.
async fn blocks(stream: &mut Sse, count: usize) -> String {
    stream.take(count).await;
    stream.text().to_owned()
}

#[tokio::test]
async fn each_reader_gets_an_event_in_the_encoding_that_it_asked_for() {
    for http in BOTH {
        let app = App::start().await;
        // The second channel stays empty, so that its readers get the same events with other tokens.
        let urls = ["channel=a", "channel=a&format=json", "channel=a&channel=b", "channel=a&channel=b&format=json"];
        let both = Channels::new([channel("a"), channel("b")]).unwrap();
        let start = app.hub.position(&both).await.unwrap();
        let mut streams = Vec::new();
        // Twice each, because the first may create what the second is given.
        for url in urls.iter().chain(&urls) {
            let mut stream = app.get(&format!("/sse?{url}")).over(http).sse().await;
            stream.live().await;
            streams.push((*url, stream));
        }
        let mut expected = [String::new(), String::new(), String::new(), String::new()];
        let (mut objects, mut token) = (Vec::new(), start.clone());
        for text in ["1", "2", "3"] {
            let event = Event::json(&json!([text])).unwrap().named("n").unwrap().at(7).unwrap();
            let id = app.publish("a", event).await;
            token = token.with(&channel("a"), id.parse().unwrap());
            let object = format!(r#"{{"id":"{id}","channel":"a","time":7,"name":"n","data":["{text}"]}}"#);
            expected[0] += &format!("event: n\ndata: [\"{text}\"]\nid: {id}\n\n");
            expected[1] += &format!("data: {object}\nid: {id}\n\n");
            expected[2] += &format!("event: n\ndata: [\"{text}\"]\nid: {token}\n\n");
            expected[3] += &format!("data: {object}\nid: {token}\n\n");
            objects.push(object);
            for (url, stream) in &mut streams {
                let received = blocks(stream, 1).await;
                let encoding = urls.iter().position(|known| known == url).unwrap();
                assert!(received.ends_with(&expected[encoding]), "{url}: {received} and not {}", expected[encoding]);
            }
        }
        // Later readers get all events in one run, each of them encoded before.
        for (url, expected) in urls.iter().zip(&expected) {
            let mut stream = app.get(&format!("/sse?{url}&after={start}")).over(http).sse().await;
            let received = blocks(&mut stream, 3).await;
            let events = received.split_once('\n').unwrap().1;
            assert!(events.starts_with(expected.as_str()), "{url}: {received} and not {expected}");
        }
        for url in ["channel=a", "channel=a&channel=b"] {
            for limit in [1, 3] {
                let poll = app.get(&format!("/poll?{url}&after={start}&limit={limit}")).over(http).send().await;
                assert_eq!(poll.expect(200).text(), format!("[{}]", objects[..limit].join(",")));
            }
        }
    }
}

/// Takes the channels from the application's own header, so that the URLs of all polls are the same.
fn named_by_a_header(request: &Parts) -> Result<Channels, Rejection> {
    let names = request.headers.get("x-rooms").and_then(|names| names.to_str().ok()).unwrap_or_default();
    Ok(Channels::new(names.split(',').map(channel)).unwrap())
}

#[tokio::test]
async fn polls_of_different_channels_answered_by_one_event_get_their_own_positions() {
    for http in BOTH {
        let hub = Hub::new(MemoryStore::default());
        let server = serve(LongPollService::new(hub.clone(), named_by_a_header)).await;
        let poll = async |rooms: &'static str| {
            let answer = server.get("/").over(http).header("x-rooms", rooms).send().await.expect(200);
            assert_eq!(answer.data(), [json!("x")]);
            let cursor = answer.cursor();
            assert!(answer.header("link").contains(&cursor), "{answer}");
            (rooms, cursor)
        };
        let (one, two, three, again, head) = tokio::join!(poll("a"), poll("a,b"), poll("a,c"), poll("a"), async {
            support::eventually("all polls wait", || hub.stats().readers == 4).await;
            hub.publish(&channel("a"), Event::text("x")).await.unwrap().cursor
        });
        for (rooms, cursor) in [one, two, three, again] {
            let channels = Channels::new(rooms.split(',').map(channel)).unwrap();
            let expected = if rooms == "a" { Cursors::from(head) } else { hub.position(&channels).await.unwrap() };
            assert_eq!(cursor, expected.to_string(), "{rooms}");
        }
    }
}

#[tokio::test]
async fn polls_that_are_answered_by_the_same_events_share_their_bytes() {
    let hub = Hub::new(MemoryStore::default());
    let start = hub.position(&channel("a").into()).await.unwrap();
    let _live = hub.subscribe(Subscription::new(channel("a"))).await.unwrap();
    hub.publish_all(&channel("a"), ["1", "2"].map(Event::text)).await.unwrap();
    let service = LongPollService::new(hub.clone(), Channels::from_query);
    let poll = async |start: &str| {
        let request = http::Request::get(format!("/?channel=a&{start}")).body(()).unwrap();
        let response = service.clone().oneshot(request).await.unwrap();
        let (head, mut body) = response.into_parts();
        let frame = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await;
        (head.headers, frame.unwrap().unwrap().into_data().unwrap())
    };
    // Those by time are sorted, each for itself.
    for (start, is_shared) in [(format!("after={start}"), true), ("time=0".to_owned(), false)] {
        let ((one_head, one), (other_head, other)) = (poll(&start).await, poll(&start).await);
        assert_eq!((&one_head, &one), (&other_head, &other), "{start}");
        assert_eq!(one.as_ptr() == other.as_ptr(), is_shared, "{start}");
    }
}

/// The next chunks, until they have `bytes` bytes in total.
async fn chunks(body: &mut SseBody, bytes: usize) -> Vec<Bytes> {
    let mut chunks = Vec::new();
    while chunks.iter().map(Bytes::len).sum::<usize>() < bytes {
        let frame = poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await;
        chunks.push(frame.unwrap().unwrap().into_data().unwrap());
    }
    chunks
}

#[tokio::test]
async fn readers_of_several_channels_share_the_bytes_of_large_events_and_get_small_ones_in_one_chunk() {
    let hub = Hub::new(MemoryStore::default());
    let both = Channels::new([channel("a"), channel("b")]).unwrap();
    let mut bodies = [
        hub.sse(Subscription::new(both.clone())).await.unwrap(),
        hub.sse(Subscription::new(both.clone())).await.unwrap(),
    ];
    for body in &mut bodies {
        let live = chunks(body, 1).await;
        assert!(live[0].ends_with(b"\n\n"));
    }
    let token = hub.position(&both).await.unwrap().to_string().len();
    // The bytes around each text: `data: ` and a line feed, and its id. The table has texts and chunks by their lengths.
    let (line, id) = ("data: \n".len(), "id: \n\n".len() + token);
    let large = 8_192;
    let table: [(Vec<usize>, Vec<usize>); 6] = [
        (vec![1, 2, 3], vec![1 + 2 + 3 + 3 * (line + id)]),
        (vec![large - line], vec![large + id]),
        (vec![large - line + 1], vec![large + 1, id]),
        (vec![1, 100_000, 1, 1], vec![1 + line + id, 65_536, 100_000 + line - 65_536, id, 2 * (1 + line + id)]),
        (vec![1, 10_000, 1], vec![1 + line + id, 10_000 + line, id, 1 + line + id]),
        // A chunk ends once it is larger than 8 KiB.
        (vec![large - line - id, 1, 1], vec![large + 1 + line + id, 1 + line + id]),
    ];
    for (texts, lengths) in table {
        hub.publish_all(&channel("a"), texts.iter().map(|length| Event::text("x".repeat(*length)))).await.unwrap();
        let [one, other] = &mut bodies;
        let bytes = lengths.iter().sum();
        let (one, other) = (chunks(one, bytes).await, chunks(other, bytes).await);
        assert_eq!(one.iter().map(Bytes::len).collect::<Vec<_>>(), lengths, "{texts:?}");
        for (one, other) in one.iter().zip(&other) {
            let has_id = one.ends_with(b"\n\n");
            assert_eq!((one, one.as_ptr() == other.as_ptr()), (other, !has_id), "{texts:?}");
        }
    }
}

#[tokio::test]
async fn polls_with_the_same_events_and_different_limits_differ_in_events_live() {
    for http in BOTH {
        let hub = Hub::new(MemoryStore::default());
        let service = |limit| {
            let options = LongPollOptions::default().limit(limit);
            LongPollService::new(hub.clone(), Channels::from_query).options(options)
        };
        let router = axum::Router::new().route_service("/two", service(2)).route_service("/all", service(100));
        let server = serve(router).await;
        let poll = async |path: &str| server.get(&format!("{path}?channel=a")).over(http).send().await.expect(200);
        let (one, two, three, four, ()) = tokio::join!(poll("/two"), poll("/all"), poll("/two"), poll("/all"), async {
            support::eventually("all polls wait", || hub.stats().readers == 4).await;
            hub.publish_all(&channel("a"), ["1", "2"].map(Event::text)).await.unwrap();
        });
        for (answer, live) in [(one, None), (two, Some("true")), (three, None), (four, Some("true"))] {
            assert_eq!((answer.data().len(), answer.try_header("events-live")), (2, live));
        }
    }
}
