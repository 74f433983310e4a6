//! Cuts anywhere in a busy stream: between events and inside them.

use tower_events::Event;

use super::{
    clients::{eventsource_in_node, fetch_in_node, reqwest_in_rust},
    follower::Follower,
    start,
    support::{Proxy, channel},
    with_each_client,
};

with_each_client! { follows }

#[tokio::test]
async fn a_long_poll_with_fetch_in_node() {
    follows(fetch_in_node).await;
}

#[tokio::test]
async fn a_long_poll_with_reqwest_in_rust() {
    follows(reqwest_in_rust).await;
}

/// The scenario of every client.
async fn follows(client: impl FnOnce(String) -> Follower) {
    const EVENTS: usize = 60;
    let (hub, server) = start().await;
    let room = channel("room");
    let publish = async |n: usize| {
        let event = Event::text(format!("event {n}: ключ\nof two lines"));
        let event = if n.is_multiple_of(3) { event.named("said").unwrap() } else { event };
        hub.publish(&room, event).await.unwrap();
    };
    for n in 0..EVENTS / 2 {
        publish(n).await;
    }

    // Cuts during a replay: between events, inside them, and before the first event of a connection.
    let cuts = [600, 700, 450, 333, 1000, 801, 802, 803];
    let proxy = Proxy::start(server.addr(), cuts).await;
    let mut follower = client(proxy.url("/?channel=room&after=earliest&wait=20"));
    for n in 0..EVENTS {
        let seen = follower.next_event().await;
        assert_eq!(text(&seen.data), format!("event {n}: ключ\nof two lines"));
        assert_eq!(seen.name, if n.is_multiple_of(3) { "said" } else { "message" });
        assert_eq!(seen.id.len(), 28, "{seen:?}");
        // Publish while the client is disconnected or replaying; in the middle, cut once more.
        match n + EVENTS / 2 {
            next if next < EVENTS => publish(next).await,
            EVENTS => proxy.cut(),
            _ => {}
        }
    }
    assert!(proxy.accepted() > cuts.len() / 2, "only {} connections", proxy.accepted());

    // A new history: the client receives a reset, then all of it.
    hub.init(&room, vec![Event::text("anew")]).await.unwrap();
    assert_eq!(follower.next_event().await.name, "stream-reset");
    assert_eq!(text(&follower.next_event().await.data), "anew");

    hub.close(&room).await.unwrap();
    assert_eq!(follower.next_event().await.name, "stream-end");
}

/// The text of an event: event streams deliver it as it is, long polls as a JSON string.
fn text(data: &str) -> String {
    serde_json::from_str(data).unwrap_or_else(|_| data.to_owned())
}

#[tokio::test]
async fn event_source_in_node_stops_when_the_channel_has_ended() {
    let (hub, server) = start().await;
    let room = channel("room");
    hub.publish(&room, Event::text("last words")).await.unwrap();
    hub.close(&room).await.unwrap();
    let proxy = Proxy::start(server.addr(), []).await;
    let mut follower = eventsource_in_node(proxy.url("/?channel=room&after=earliest"));
    let mut names = Vec::new();
    while names.len() < 3 {
        names.push(follower.next_event().await.name);
    }
    // It reconnects once, gets a 204, and gives up.
    assert_eq!(names, ["message", "stream-end", "closed"]);
}
