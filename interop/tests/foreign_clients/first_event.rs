//! A line that is cut before the first event: a client has a position from the beginning, and is handed nothing empty
//! to get it.

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
    publish(&hub, 0).await; // what was said before it came is nothing to it
    let proxy = Proxy::start(server.addr(), []).await;
    let mut follower = client(proxy.url("/?channel=room"));
    let mark = follower.next().await;
    assert_eq!((&*mark.name, &*mark.data), ("stream-live", "{}"), "the first block gives a position: {mark:?}");
    assert_eq!(mark.id.len(), 28, "{mark:?}");

    for n in 1..=5 {
        proxy.hold();
        proxy.cut();
        publish(&hub, n).await;
        proxy.release();
        let seen = follower.next_event().await;
        assert_eq!((seen.name.as_str(), json(&seen.data)), ("message", said(n)));
    }
    // Nothing came twice, and nothing else came.
    publish(&hub, 6).await;
    assert_eq!(json(&follower.next_event().await.data), said(6));
    assert_eq!(proxy.accepted(), 6, "one connection at first, and one after each cut");
}

/// Line separators that some take for an end of line, a letter of which the second byte is one in Latin-1, and others.
fn said(n: usize) -> Value {
    json!({ "n": n, "text": "Å\u{85}b\u{2028}c\u{2029}ключ 🦀" })
}

async fn publish(hub: &Hub, n: usize) {
    hub.publish(&channel("room"), Event::json(&said(n)).unwrap()).await.unwrap();
}

#[track_caller]
fn json(data: &str) -> Value {
    serde_json::from_str(data).unwrap_or_else(|error| panic!("{error}: {data:?}"))
}
