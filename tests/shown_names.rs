//! Channels that clients know under other names.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod support;

use axum::Router;
use http::{Method, request::Parts};
use support::{BOTH, Server, channel, serve};
use tower_events::{
    Channel, Channels, Event, EventService, Grant, Hub, MemoryStore, Rejection, Retention, longpoll::LongPollOptions,
};

/// The channels `user:7:<name>` for those that the query names, shown as they are named there; with `as=<prefix>`, under that
/// prefix.
fn of_user(request: &Parts) -> Result<Grant, Rejection> {
    let named = Channels::from_query(request)?;
    let channels = Channels::new(named.iter().map(|channel| Channel::new(format!("user:7:{channel}")).unwrap()))?;
    let query = request.uri.query().unwrap_or_default();
    let prefix = query.split('&').find_map(|pair| pair.strip_prefix("as=")).unwrap_or_default().to_owned();
    Ok(Grant::new(channels).names(|channel| format!("{prefix}{}", &channel.as_str()["user:7:".len()..])))
}

async fn app() -> (Hub, Server) {
    let hub = Hub::new(MemoryStore::new(Retention::default().events(4)));
    let refusing = EventService::new(hub.clone(), of_user).long_poll(LongPollOptions::default().refuse_resets());
    let routes = Router::new()
        .route_service("/events", EventService::new(hub.clone(), of_user))
        .route_service("/refusing", refusing);
    (hub, serve(routes).await)
}

#[tokio::test]
async fn nothing_that_a_client_gets_has_the_name_that_a_channel_has_inside() {
    let (hub, server) = app().await;
    let inside = |name: &str| channel(&format!("user:7:{name}"));
    let old = server.request(Method::HEAD, "/events?channel=a&channel=b%20c").send().await.expect(200).cursor();
    for text in ["1", "2", "3", "4", "5"] {
        hub.publish(&inside("a"), Event::text(text)).await.unwrap();
    }
    hub.publish(&inside("b c"), Event::text("6")).await.unwrap();
    hub.close(&inside("b c")).await.unwrap();
    for http in BOTH {
        let mut heads = String::new();
        let mut texts = Vec::new();
        for query in ["format=json", "format=page", ""] {
            let answer = server.get(&format!("/events?channel=a&channel=b%20c&{query}")).over(http).last_event_id(&old);
            let answer = answer.send().await.expect(200);
            heads += &format!("{:?}", answer.headers);
            texts.push(answer.text().to_owned());
        }
        let refused = server.get("/refusing?channel=a&channel=b%20c").over(http).last_event_id(&old).send().await;
        heads += &format!("{:?}", refused.headers);
        texts.push(refused.expect(410).text().to_owned());
        for format in ["json", "text"] {
            let url = format!("/events?channel=a&channel=b%20c&format={format}");
            let mut stream = server.get(&url).over(http).last_event_id(&old).sse().await;
            while !stream.text().contains("stream-end") {
                stream.next().await;
            }
            texts.push(stream.text().to_owned());
        }
        assert!(!heads.contains("user") && heads.contains("trimmed;channel=\\\"a\\\""), "{heads}");
        for text in texts {
            assert!(!text.contains("user:7") && text.contains("\"a\""), "{text}");
        }
    }
}

#[tokio::test]
async fn positions_hold_no_names_so_a_client_continues_under_others() {
    let (hub, server) = app().await;
    hub.publish(&channel("user:7:a"), Event::text("1")).await.unwrap();
    let first = server.get("/events?channel=a&after=earliest&as=x-").send().await.expect(200);
    assert_eq!(first.json()[0]["channel"], "x-a");
    hub.publish(&channel("user:7:a"), Event::text("2")).await.unwrap();
    let next = server.get("/events?channel=a&as=y-").last_event_id(first.cursor()).send().await.expect(200);
    assert_eq!((next.json()[0]["channel"].as_str(), next.try_header("events-reset")), (Some("y-a"), None));
    assert_eq!(next.data(), ["2"]);
    // A stream without a filter has the ids that all streams have, whatever its names are.
    let mut stream = server.get("/events?channel=a&as=z-&after=earliest").sse().await;
    assert_eq!(stream.take(2).await[0].id, first.cursor());
}

#[tokio::test]
async fn a_name_may_have_any_characters() {
    let hub = Hub::new(MemoryStore::default());
    let events = EventService::new(hub.clone(), |request: &Parts| {
        Ok(Grant::new(Channels::from_query(request)?).names(|_| "\"<\n\u{2028}"))
    });
    let server = serve(Router::new().route_service("/events", events)).await;
    hub.publish(&channel("a"), Event::text("1")).await.unwrap();
    let answer = server.get("/events?channel=a&after=earliest&format=page").send().await.expect(200);
    assert_eq!(answer.json()["events"][0]["channel"], "\"<\n\u{2028}");
    let message = server.get("/events?channel=a&after=earliest&format=json").sse().await.next().await;
    assert!(message.data.contains(r#""channel":"\"<\n\u2028""#), "{message:?}");
}
