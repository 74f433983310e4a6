//! Publishing when the store hangs is bounded in number and time; long batches let other tasks run.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod support;

use std::{
    future::Future,
    pin::pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::Full;
use support::{Answer, App, Http, Server, serve, serve_in_memory};
use tokio::time::Instant;
use tower::Service as _;
use tower_events::{
    Channels, Hub, MemoryStore, PublishService, Retention,
    testing::{FaultStore, Faults},
};

/// A service that allows two publishes in flight, and waits three seconds for the store.
fn service() -> (PublishService, Hub, Faults) {
    let (store, faults) = FaultStore::new(MemoryStore::default());
    let hub = Hub::new(store);
    let service = PublishService::new(hub.clone(), Channels::from_query);
    (service.max_in_flight(2).append_timeout(Duration::from_secs(3)), hub, faults)
}

async fn publish(server: &Server, http: Http, key: &str) -> Answer {
    server.post("/?channel=a", "text/plain", "x").over(http).header("idempotency-key", key).send().await
}

#[tokio::test(start_paused = true)]
async fn a_publish_waits_for_a_hanging_store_only_until_the_timeout() {
    let (service, hub, faults) = service();
    let server = serve_in_memory(service);
    let mut appended = 0;
    for http in support::BOTH {
        let hold = faults.hold_appends();
        let started = Instant::now();
        let key = format!("{http:?}");
        let answer = publish(&server, http, &key).await;
        assert!(answer.problem(504).contains("repeat with the same key"), "{answer}");
        assert_eq!(answer.json()["type"], "urn:tower-events:outcome-unknown");
        assert_eq!(started.elapsed().as_secs(), 3);
        drop(hold);
        publish(&server, http, &key).await.expect(200);
        appended += 1;
        let heads = hub.heads(&support::channel("a").into()).await.unwrap();
        assert_eq!(heads[0].cursor.seq, appended);
    }
}

#[tokio::test(start_paused = true)]
async fn the_append_timeout_is_thirty_seconds_by_default() {
    let (store, faults) = FaultStore::new(MemoryStore::default());
    let app = App::in_memory_on(store);
    let _hold = faults.hold_appends();
    let started = Instant::now();
    app.post("/publish?channel=a", "text/plain", "x").send().await.problem(504);
    assert_eq!(started.elapsed().as_secs(), 30);
}

#[tokio::test]
async fn publishes_above_the_limit_in_flight_are_refused_at_once() {
    let (service, _hub, faults) = service();
    let server = serve(service.append_timeout(Duration::from_secs(600))).await;
    for http in support::BOTH {
        let hold = faults.hold_appends();
        let (first, second) = (publish(&server, http, "1"), publish(&server, http, "2"));
        let (first, second, ()) = tokio::join!(first, second, async {
            hold.reached_by(2).await;
            for large in [false, true] {
                let body = vec![b'x'; if large { 200_000 } else { 1 }];
                let refused = server.post("/?channel=a", "text/plain", body).over(http).send().await;
                refused.problem(503);
                assert_eq!(refused.json()["type"], "urn:tower-events:too-many-publishes");
                assert!(refused.header("retry-after").parse::<u64>().unwrap() >= 1);
            }
            drop(hold);
        });
        first.expect(200);
        second.expect(200);
        publish(&server, http, "3").await.expect(200);
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_is_cut_off_frees_its_place_in_flight() {
    let (service, _hub, faults) = service();
    let server = serve_in_memory(service);
    for _ in 0..3 {
        let hold = faults.hold_appends();
        {
            let mut cut =
                pin!(async { tokio::join!(publish(&server, Http::One, "a"), publish(&server, Http::One, "b")) });
            tokio::select! {
                _ = &mut cut => panic!("not held"),
                () = hold.reached_by(2) => {}
            }
        }
        drop(hold);
        // Let the server notice the cut.
        tokio::time::sleep(Duration::from_millis(1)).await;
        publish(&server, Http::One, "c").await.expect(200);
    }
}

#[tokio::test]
async fn a_body_that_arrives_slowly_is_not_counted_as_in_flight() {
    let (service, _hub, _faults) = service();
    let server = serve(service).await;
    let mut slow = Vec::new();
    for _ in 0..4 {
        let mut client = server.http1().await;
        client
            .send("POST /?channel=a HTTP/1.1\r\nhost: a\r\ncontent-type: text/plain\r\ncontent-length: 2\r\n\r\nx")
            .await;
        slow.push(client);
    }
    publish(&server, Http::One, "k").await.expect(200);
    for mut client in slow {
        client.send("y").await;
        client.answer_to("POST").await.unwrap().expect(200);
    }
}

#[tokio::test]
async fn a_long_batch_lets_other_tasks_run() {
    // A store that accepts batches this long.
    let store = MemoryStore::new(Retention::default().events(100_000));
    let mut service = PublishService::new(Hub::new(store), Channels::from_query);
    let long = format!("{{\"data\":\"{}\"}}\n", "x".repeat(50_000));
    // Many short lines, a few long ones, and only empty ones.
    for (body, turns) in [("{\"data\":1}\n".repeat(9_000), 30), (long.repeat(20), 10), ("\n".repeat(900_000), 10)] {
        let request = http::Request::post("/?channel=a").header("content-type", "application/x-ndjson");
        let mut answer = pin!(service.call(request.body(Full::new(Bytes::from(body))).unwrap()));
        let mut waited = 0;
        let answer = loop {
            match answer.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(answer) => break answer.unwrap(),
                Poll::Pending => waited += 1,
            }
            tokio::task::yield_now().await;
        };
        assert_eq!(answer.status(), 200);
        assert!(waited >= turns, "only {waited} turns");
    }
}
