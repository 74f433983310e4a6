//! A provider that fails, panics or hangs; readers that leave; the drain.

use std::time::Duration;

use tower_events::{Delivery, SubscribeError, Subscription};

use super::*;

fn retry_after(answer: &support::Answer) -> u64 {
    answer.header("retry-after").parse().unwrap()
}

#[tokio::test(start_paused = true)]
async fn without_a_state_nobody_goes_on_and_no_position_moves() {
    for behaviour in [Behaviour::Fail, Behaviour::Panic, Behaviour::Hold] {
        let site = Site::in_memory();
        let old = site.change("a").await;
        site.hub.init(&channel("a"), vec![]).await.unwrap();
        site.application.behaviour.send_replace(behaviour);
        let mut stream = site.get("/sse?channel=a").last_event_id(&old).sse().await;
        let [only] = &stream.remaining().await[..] else { panic!("{}", stream.text()) };
        assert_eq!((only.name.as_str(), &only.id), ("stream-retry", &old), "{behaviour:?}");
        assert!(stream.retry() >= Some(Duration::from_millis(500)));
        let mut fresh = site.get("/sse?channel=a").sse().await;
        fresh.remaining().await;
        assert!(names(&fresh) == ["stream-retry"] && !fresh.text().contains("id:"), "{}", fresh.text());
        for path in ["/poll?channel=a", "/refusing?channel=a&format=page"] {
            let answer = site.get(path).last_event_id(&old).send().await;
            answer.problem(503);
            assert_eq!(answer.json()["type"], "urn:tower-events:no-snapshot");
            assert!(retry_after(&answer) >= 1 && answer.try_header("last-event-id").is_none(), "{answer}");
        }
        site.application.behaviour.send_replace(Behaviour::Answer);
        let answer = site.get("/poll?channel=a").last_event_id(&old).send().await.expect(200);
        assert_eq!(answer.data(), [json!({ "state": 1 })]);
    }
}

#[tokio::test(start_paused = true)]
async fn the_delay_grows_while_the_provider_keeps_failing() {
    let site = Site::in_memory();
    site.application.behaviour.send_replace(Behaviour::Fail);
    let mut delays = Vec::new();
    for _ in 0..8 {
        let answer = site.get("/poll?channel=a").send().await.expect(503);
        delays.push(retry_after(&answer));
        tokio::time::sleep(Duration::from_secs(12)).await;
    }
    assert!(delays[0] <= 3 && (15..=45).contains(&delays[7]), "{delays:?}");
}

#[tokio::test]
async fn a_stream_ends_when_the_state_after_a_reset_cannot_be_had() {
    let site = Site::start().await;
    let mut stream = site.get("/sse?channel=a&channel=b").sse().await;
    let position = stream.live().await.id;
    site.application.behaviour.send_replace(Behaviour::Fail);
    site.hub.init(&channel("a"), vec![]).await.unwrap();
    let last = stream.remaining().await.pop().unwrap();
    assert_eq!((last.name.as_str(), last.id), ("stream-retry", position));
    assert!(!names(&stream).contains(&"stream-reset".into()));
}

#[tokio::test]
async fn a_snapshot_that_is_too_large_is_a_failure() {
    let (hub, application) = (Hub::new(MemoryStore::default()), Application::new());
    let subscription = Subscription::new(channel("a")).snapshots(application.snapshots().max_bytes(10));
    let error = hub.subscribe(subscription).await.unwrap_err();
    let SubscribeError::Snapshot { error, .. } = error else { panic!("{error:?}") };
    assert!(error.to_string().contains("at most 10 are allowed"), "{error}");
}

#[tokio::test]
async fn a_drain_waits_for_no_provider() {
    let site = Site::start().await;
    let mut live = site.get("/sse?channel=a").sse().await;
    let position = live.live().await.id;
    site.application.behaviour.send_replace(Behaviour::Hold);
    site.hub.init(&channel("a"), vec![]).await.unwrap();
    support::eventually("the call runs", || site.application.calls() == 2).await;
    let (stream, poll, _) = tokio::join!(site.get("/sse?channel=b").sse(), site.get("/poll?channel=b").send(), async {
        site.readers(3).await;
        support::eventually("both calls run", || site.application.calls() == 3).await;
        site.hub.drain(Duration::ZERO);
    });
    let mut stream = stream;
    assert_eq!(stream.remaining().await.pop().unwrap().name, "stream-retry");
    poll.problem(503);
    let last = live.remaining().await.pop().unwrap();
    assert_eq!((last.name.as_str(), last.id), ("stream-retry", position));
}

#[tokio::test]
async fn a_call_ends_when_its_last_reader_leaves_and_not_before() {
    let site = Site::start().await;
    site.application.behaviour.send_replace(Behaviour::Hold);
    let subscription = Subscription::new(channel("a")).snapshots(site.application.snapshots());
    let (hub, other) = (site.hub.clone(), subscription.clone());
    let first = tokio::spawn(async move { hub.subscribe(other).await });
    support::eventually("the call runs", || site.application.calls() == 1).await;
    let (hub, other) = (site.hub.clone(), subscription.clone());
    let second = tokio::spawn(async move { hub.subscribe(other).await });
    site.readers(2).await;
    first.abort();
    site.readers(1).await;
    site.application.behaviour.send_replace(Behaviour::Answer);
    let mut subscriber = second.await.unwrap().unwrap();
    assert!(matches!(subscriber.next().await, Some(Ok(Delivery::Snapshot(_)))));
    assert_eq!((site.application.calls(), site.application.running.load(SeqCst)), (1, 0));

    site.application.behaviour.send_replace(Behaviour::Hold);
    let hub = site.hub.clone();
    let of_another = Subscription::new(channel("b")).snapshots(site.application.snapshots());
    let alone = tokio::spawn(async move { hub.subscribe(of_another).await });
    support::eventually("the call runs", || site.application.running.load(SeqCst) == 1).await;
    alone.abort();
    support::eventually("it is dropped", || site.application.running.load(SeqCst) == 0).await;
}
