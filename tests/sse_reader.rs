//! `testing::SseReader` reads what the tests' own parser reads, which shares no code with it, and works in front of a router.
#![allow(clippy::expect_used, reason = "a helper that panics is a failed test")]

#[allow(dead_code, unreachable_pub)]
#[path = "support/stream_parser.rs"]
mod stream_parser;

use std::convert::Infallible;

use axum::{Router, body::Body};
use bytes::Bytes;
use http::Request;
use http_body::Frame;
use http_body_util::StreamBody;
use proptest::{collection::vec, prelude::*};
use stream_parser::{Message, Parser};
use tower::ServiceExt as _;
use tower_events::{Channel, Channels, Event, EventService, Hub, MemoryStore, testing::SseReader};

/// Events, the last id and the reconnection delay.
type Read = (Vec<Message>, String, Option<u64>);

async fn read(chunks: Vec<Vec<u8>>) -> Read {
    let frames = chunks.into_iter().map(|chunk| Ok::<_, Infallible>(Frame::data(Bytes::from(chunk))));
    let mut reader = SseReader::new(StreamBody::new(tokio_stream::iter(frames)));
    let mut events = Vec::new();
    while let Some(event) = reader.next().await.expect("no error") {
        events.push(Message { name: event.name, data: event.data, id: event.id });
    }
    let retry = reader.retry().map(|retry| u64::try_from(retry.as_millis()).expect("as it was given"));
    (events, reader.last_event_id().to_owned(), retry)
}

fn parsed(chunks: &[Vec<u8>]) -> Read {
    let mut parser = Parser::default();
    let events = chunks.iter().flat_map(|chunk| parser.push(chunk)).collect();
    (events, parser.last_event_id, parser.retry)
}

/// Pieces of streams in all combinations, and any bytes.
fn chunk() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => "((data|id|event|retry|x|)(: ?|)[a-z0-9\u{0}\u{feff}\u{e9}]{0,3}(\r\n|\n|\r|)){0,6}(\n|\r|\r\n|)".prop_map(String::into_bytes),
        1 => vec(any::<u8>(), 0..20),
    ]
}

proptest! {
    #[test]
    fn the_reader_and_an_independent_parser_agree_on_any_bytes(chunks in vec(chunk(), 0..8)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let expected = parsed(&chunks);
        prop_assert_eq!(runtime.block_on(read(chunks)), expected);
    }
}

#[tokio::test]
async fn a_router_can_be_tested_without_a_server() {
    let (hub, news) = (Hub::new(MemoryStore::default()), Channel::new("news").expect("a channel"));
    let app: Router = Router::new().route_service("/events", EventService::new(hub.clone(), Channels::from_query));
    let cursor = hub.publish(&news, Event::text("1\n2")).await.expect("published").cursor.to_string();
    let request = Request::get("/events?channel=news&after=beginning").header("accept", "text/event-stream");
    let response = app.oneshot(request.body(Body::empty()).expect("a request")).await.expect("infallible");

    let mut reader = SseReader::new(response.into_body());
    let event = reader.next().await.expect("no error").expect("an event");
    assert_eq!((event.name.as_str(), event.data.as_str(), event.id.as_str()), ("message", "1\n2", cursor.as_str()));
    assert!(event.retry.is_some(), "the first block sets the reconnection delay");
    assert_eq!((reader.last_event_id(), reader.retry()), (cursor.as_str(), event.retry));
}
