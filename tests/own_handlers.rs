//! Handlers that read from the hub themselves and take from a request what it asks for.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

#[path = "support/deadline.rs"]
mod deadline;

use std::time::Duration;

use http::{HeaderMap, Request, Response, request::Parts};
use http_body_util::BodyExt as _;
use tokio::time::Instant;
use tower_events::{
    Body, Channel, Delivery, Event, Hub, Listen, MemoryStore, Rejection, Subscriber, Subscription,
    longpoll::LongPollOptions, store::Reason,
};

fn news() -> Channel {
    deadline::arm();
    Channel::new("news").unwrap()
}

fn request(query: &str, (name, value): (&str, &str)) -> Parts {
    Request::builder().uri(format!("/news?{query}")).header(name, value).body(()).unwrap().into_parts().0
}

/// No header of this crate.
const NONE: (&str, &str) = ("accept", "*/*");

/// The next delivery. Takes no real time on a paused clock.
async fn next(subscriber: &mut Subscriber) -> Delivery {
    let next = tokio::time::timeout(Duration::from_secs(3600), subscriber.next()).await;
    next.expect("a delivery within an hour").expect("not ended").expect("no failure")
}

async fn hub_with(events: usize) -> Hub {
    let hub = Hub::new(MemoryStore::default());
    let events: Vec<_> = (0..events).map(|n| Event::text(n.to_string())).collect();
    hub.publish_all(&news(), events).await.unwrap();
    hub
}

#[tokio::test(start_paused = true)]
async fn a_subscription_starts_where_its_request_says() {
    let hub = hub_with(0).await;
    let first = hub.publish(&news(), Event::text("first")).await.unwrap().cursor.to_string();
    hub.publish(&news(), Event::text("second")).await.unwrap();
    for (query, header, text) in [
        ("after=earliest", NONE, "first"),
        ("last=1", NONE, "second"),
        ("", ("last-event-id", first.as_str()), "second"),
        ("after=earliest", ("last-event-id", first.as_str()), "second"),
        (&format!("lastEventId={first}"), NONE, "second"),
    ] {
        let subscription = Subscription::from_request(&request(query, header), news()).unwrap();
        let mut subscriber = hub.subscribe(subscription).await.unwrap();
        let Delivery::Events(events) = next(&mut subscriber).await else { panic!("events expected: {query}") };
        assert_eq!(events.entries().next().unwrap().data.as_text(), Some(text), "{query} {header:?}");
    }
    let unreadable = Subscription::from_request(&request("", ("last-event-id", "42")), news()).unwrap();
    let mut subscriber = hub.subscribe(unreadable).await.unwrap();
    let Delivery::Reset(reset) = next(&mut subscriber).await else { panic!("a reset expected") };
    assert_eq!(reset.reason, Reason::Unknown);
}

#[tokio::test(start_paused = true)]
async fn a_wait_is_as_long_as_its_request_says_within_the_options() {
    let hub = hub_with(1).await;
    let (default, short) = (LongPollOptions::default(), LongPollOptions::default().max_wait(Duration::from_secs(3)));
    let tenth_less = |seconds: u64| Duration::from_secs(seconds).mul_f64(0.9)..=Duration::from_secs(seconds);
    let exactly = |seconds| Duration::from_secs(seconds)..=Duration::from_secs(seconds);
    for (query, header, options, elapsed) in [
        ("", NONE, &default, tenth_less(25)),
        ("wait=0", NONE, &default, exactly(0)),
        ("wait=7", NONE, &default, exactly(7)),
        ("wait=99", NONE, &default, exactly(55)),
        ("", ("prefer", "wait=9"), &default, exactly(9)),
        ("wait=7", NONE, &short, exactly(3)),
        ("", NONE, &short, tenth_less(3)),
    ] {
        let listen = Listen::from_request(&request(query, header), news(), options).unwrap();
        let start = Instant::now();
        assert!(hub.listen(listen).await.unwrap().entries().is_empty());
        assert!(elapsed.contains(&start.elapsed()), "{query} {header:?}: {:?}, not {elapsed:?}", start.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_gets_as_many_events_as_it_says_within_the_options() {
    let hub = hub_with(150).await;
    let (default, many) = (LongPollOptions::default(), LongPollOptions::default().limit(120));
    for (query, options, count) in [
        ("after=earliest", &default, 100),
        ("after=earliest&limit=7", &default, 7),
        ("after=earliest&limit=1000", &default, 100),
        ("after=earliest&limit=1000", &many, 120),
        ("last=5&limit=7", &many, 5),
    ] {
        let listen = Listen::from_request(&request(query, NONE), news(), options).unwrap();
        assert_eq!(hub.listen(listen).await.unwrap().entries().len(), count, "{query}");
    }
}

#[test]
fn a_malformed_request_is_rejected_in_the_name_of_its_parameter() {
    let refused = |request: &Parts| -> [Rejection; 2] {
        let listen = Listen::from_request(request, news(), &LongPollOptions::default());
        [Subscription::from_request(request, news()).unwrap_err(), listen.unwrap_err()]
    };
    for (query, text) in [("after=x", "`after`: "), ("limit=0", "`limit`: "), ("cursor=x", "`cursor`: ")] {
        for rejection in refused(&request(query, NONE)) {
            assert!(rejection.to_string().starts_with(text), "{rejection}");
            let response: Response<Body> = rejection.into();
            assert_eq!(response.status(), 400);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_handler_streams_from_the_position_of_its_client() {
    async fn stream(hub: &Hub, request: &Parts) -> Result<Response<Body>, Response<Body>> {
        Ok(hub.sse(Subscription::from_request(request, news())?).await?.into_response())
    }
    let hub = hub_with(3).await;
    let mut response = stream(&hub, &request("last=2", NONE)).await.unwrap();
    let mut sent = String::new();
    while !sent.contains("data: 2\n") {
        let chunk = response.body_mut().frame().await.unwrap().unwrap().into_data().unwrap();
        sent.push_str(std::str::from_utf8(&chunk).unwrap());
    }
    assert!(sent.contains("data: 1\n") && !sent.contains("data: 0\n"), "{sent}");
    let refused = stream(&hub, &request("last=two", NONE)).await.unwrap_err();
    let headers: &HeaderMap = refused.headers();
    assert_eq!(
        (refused.status().as_u16(), &headers["content-type"]),
        (400, &"application/problem+json".parse().unwrap())
    );
}
