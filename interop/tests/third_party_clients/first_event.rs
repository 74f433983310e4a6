//! Connections that are cut before the first event: a client has a position from the start, and gets no empty message with it.

use serde_json::{Value, json};
use tower_events::{Event, Hub};

use super::{
    follower::Follower,
    start,
    support::{Proxy, channel},
    with_each_client,
};

with_each_client! { resumes_before_its_first_event }

async fn resumes_before_its_first_event(client: impl FnOnce(String) -> Follower) {
    let (hub, server) = start().await;
    publish(&hub, 0).await; // published before the client connects, so not received
    let proxy = Proxy::start(server.addr(), []).await;
    let mut follower = client(proxy.url("/?channel=room"));
    let mark = follower.next().await;
    assert_eq!((&*mark.name, &*mark.data), ("stream-live", "{}"), "the first block has a position: {mark:?}");
    assert_eq!(mark.id.len(), 28, "{mark:?}");

    for n in 1..=5 {
        proxy.hold();
        proxy.cut();
        publish(&hub, n).await;
        proxy.release();
        let seen = follower.next_event().await;
        assert_eq!((seen.name.as_str(), json(&seen.data)), ("message", datum(n)));
    }
    // Nothing was delivered twice, and nothing else was delivered.
    publish(&hub, 6).await;
    assert_eq!(json(&follower.next_event().await.data), datum(6));
    assert_eq!(proxy.accepted(), 6, "one connection at first, and one after each cut");
}

/// Contains line separators that some clients take for a line end, a letter whose second byte is one in Latin-1, and other
/// multi-byte characters.
fn datum(n: usize) -> Value {
    json!({ "n": n, "text": "Å\u{85}b\u{2028}c\u{2029}ключ 🦀" })
}

async fn publish(hub: &Hub, n: usize) {
    hub.publish(&channel("room"), Event::json(&datum(n)).unwrap()).await.unwrap();
}

#[track_caller]
fn json(data: &str) -> Value {
    serde_json::from_str(data).unwrap_or_else(|error| panic!("{error}: {data:?}"))
}
