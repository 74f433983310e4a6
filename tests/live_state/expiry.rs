//! Grants that end while events come: at an event boundary, and the next token goes on where the last one was.

use std::time::{Duration, SystemTime};

use http::request::Parts;
use tower_events::{Event, EventService, Grant, Hub};

use super::{
    place::Place,
    support::{BOTH, Http, Server, channel, serve},
};

const EVENTS: usize = 150;

pub(crate) async fn streams_and_polls_end_and_resume(place: Place) {
    let hub = Hub::new(place.open().await);
    let of_a_token = |_: &Parts| {
        let until = SystemTime::now() + Duration::from_millis(200);
        Ok(Grant::new(channel("inbox")).subject("ann").until(until))
    };
    let server = serve(EventService::new(hub, of_a_token)).await;
    let publisher = Hub::new(place.open().await);
    let publishing = tokio::spawn(async move {
        for n in 0..EVENTS {
            publisher.publish(&channel("inbox"), Event::text(n.to_string())).await.unwrap();
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    let server = &server;
    let [one, two] = BOTH.map(|http| async move { tokio::join!(by_streams(server, http), by_polls(server, http)) });
    tokio::join!(one, two);
    publishing.await.unwrap();
}

/// Reads all events, with another grant whenever one ends, until some have ended.
async fn by_streams(server: &Server, http: Http) {
    let (mut next, mut ended, mut id) = (0, 0, None::<String>);
    while next < EVENTS || ended < 3 {
        let request = server.get("/?after=earliest").over(http);
        let request = if let Some(id) = &id { request.last_event_id(id) } else { request };
        let mut stream = request.sse().await;
        while let Some(message) = stream.next_or_end().await {
            if message.name == "stream-retry" {
                assert!(stream.next_or_end().await.is_none(), "nothing follows");
                ended += 1;
                break;
            }
            assert_eq!(message.data, next.to_string(), "nothing is missing or comes twice");
            next += 1;
        }
        assert!(next == EVENTS || stream.text().ends_with("\n\n"), "the end of an event");
        id = Some(stream.last_event_id().to_owned()).filter(|id| !id.is_empty());
    }
}

/// As [`by_streams`], until some polls have waited for nothing.
async fn by_polls(server: &Server, http: Http) {
    let (mut next, mut in_vain, mut after) = (0, 0, "earliest".to_owned());
    while next < EVENTS || in_vain < 3 {
        let answer = server.get(&format!("/?after={after}&wait=20")).over(http).send().await.expect(200);
        for data in answer.data() {
            assert_eq!(data, next.to_string(), "nothing is missing or comes twice");
            next += 1;
        }
        if answer.data().is_empty() && after != "earliest" {
            assert_eq!(answer.cursor(), after, "its own position");
            in_vain += 1;
        }
        after = answer.cursor();
    }
}
