//! One unreadable channel among readable ones: it is never mistaken for a closed one, and affects no other channel.

use std::time::Duration;

use tokio::time::{Instant, timeout};
use tower_events::{HubOptions, Listen, StoreError, SubscribeError, Subscription, store::Start};

use super::{logs::Logs, *};

/// Two channels, `a` closed after one event and `b` open, and a subscription that reads both from their earliest event.
async fn one_closed_one_open() -> (Hub, Faults, Subscription) {
    let (hub, faults, _) = faulty();
    publish(&hub, "a", "last").await;
    hub.close(&channel("a")).await.unwrap();
    publish(&hub, "b", "first").await;
    (hub, faults, Subscription::new(channels(["a", "b"])).start(Start::Earliest))
}

#[tokio::test(start_paused = true)]
async fn a_failed_read_is_not_a_closed_channel() {
    for round in 0..20 {
        let (hub, faults, both) = one_closed_one_open().await;
        let poll = Listen::from(both.clone()).wait(Duration::ZERO);
        faults.fail_channel(&channel("b"));
        // Which channel comes first is random.
        for refused in [hub.listen(poll.clone()).await.err(), hub.subscribe(both.clone()).await.err()] {
            assert!(matches!(refused, Some(SubscribeError::Store(StoreError::Unavailable(_)))), "{round}: {refused:?}");
        }
        faults.mend_channel(&channel("b"));
        let seen = hub.listen(poll).await.unwrap();
        assert_eq!((seen.entries().len(), seen.closed, seen.ended), (2, false, vec![channel("a")]));
    }
}

#[tokio::test(start_paused = true)]
async fn events_of_other_channels_come_before_the_failure() {
    for _ in 0..20 {
        let (hub, faults, inner) = faulty();
        hub.publish(&channel("a"), Event::text("old")).await.unwrap();
        let options = HubOptions::default().ring_bytes(1);
        let hub = Hub::with_options(hub.store().clone(), options);
        let mut subscriber = hub.subscribe(Subscription::new(channels(["a", "b"]))).await.unwrap();
        settle().await;
        append(&inner, [1]).await;
        publish(&hub, "b", 1).await;
        publish(&hub, "b", 2).await;
        settle().await;
        faults.fail_channel(&channel("b"));
        assert_eq!(texts(&mut subscriber).await, ["1"]);
        let failed = subscriber.next().await;
        assert!(matches!(failed, Some(Err(SubscribeError::Store(StoreError::Unavailable(_))))), "{failed:?}");
        assert!(subscriber.next().await.is_none());
    }
}

#[tokio::test(start_paused = true)]
async fn a_corrupt_channel_is_reported_once_and_the_others_go_on() {
    let (hub, faults, _) = faulty();
    publish(&hub, "b", 1).await;
    faults.corrupt_channel(&channel("b"));
    let both = Subscription::new(channels(["a", "b"])).start(Start::Earliest);
    let mut subscriber = hub.subscribe(both.clone()).await.unwrap();
    let Delivery::Failed(failed) = next(&mut subscriber).await else { panic!("a failure is expected") };
    assert_eq!(failed.channel, channel("b"));
    assert!(matches!(*failed.error, StoreError::Corrupt(_)));
    for text in ["1", "2"] {
        publish(&hub, "a", text).await;
        assert_eq!(texts(&mut subscriber).await, [text]);
    }
    let seen = hub.listen(both.clone()).await.unwrap();
    assert_eq!((seen.entries().len(), seen.live, seen.closed), (2, false, false));
    assert_eq!(seen.failed.iter().map(|failed| failed.channel.as_str()).collect::<Vec<_>>(), ["b"]);
    hub.close(&channel("a")).await.unwrap();
    assert!(matches!(next(&mut subscriber).await, Delivery::Closed(_)));
    let end = subscriber.next().await;
    assert!(
        matches!(end, Some(Err(SubscribeError::Store(StoreError::Corrupt(_))))),
        "an error rather than the end: {end:?}"
    );
    assert!(subscriber.next().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_poll_reports_every_corrupt_channel() {
    let (hub, faults, _) = faulty();
    let names = channels(["a", "b", "c"]);
    publish(&hub, "a", 1).await;
    for name in ["b", "c"] {
        faults.corrupt_channel(&channel(name));
    }
    let seen = hub.listen(Subscription::new(names).start(Start::Earliest)).await.unwrap();
    let mut failed: Vec<_> = seen.failed.iter().map(|failed| failed.channel.as_str()).collect();
    failed.sort_unstable();
    assert_eq!((seen.entries().len(), failed), (1, vec!["b", "c"]));
}

#[tokio::test(start_paused = true)]
async fn a_subscription_of_corrupt_channels_only_is_refused_at_once() {
    let (hub, faults, _) = faulty();
    faults.corrupt_channel(&channel("b"));
    let start = Instant::now();
    for only in [channels(["b"]), channels(["b", "b"])] {
        let only = Subscription::new(only).start(Start::Earliest);
        for refused in [hub.listen(only.clone()).await.err(), hub.subscribe(only).await.err()] {
            assert!(matches!(refused, Some(SubscribeError::Store(StoreError::Corrupt(_)))), "{refused:?}");
        }
    }
    assert_eq!(start.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_poll_that_resumes_in_corrupt_channels_only_fails_at_once() {
    let (hub, faults, _) = faulty();
    let names = channels(["a", "b"]);
    for name in &names {
        publish(&hub, name.as_str(), 1).await;
    }
    let from = hub.position(&names).await.unwrap();
    for name in &names {
        publish(&hub, name.as_str(), 2).await;
        faults.corrupt_channel(name);
    }
    let start = Instant::now();
    let poll = || Listen::from(Subscription::new(names.clone()).resume(&from)).wait(Duration::from_secs(20));
    let refused = hub.listen(poll()).await;
    assert!(matches!(refused, Err(SubscribeError::Store(StoreError::Corrupt(_)))), "{refused:?}");
    assert_eq!(start.elapsed(), Duration::ZERO);

    // If one channel can be read, each corrupt one is reported once.
    faults.mend_channel(&channel("a"));
    let seen = hub.listen(poll()).await.unwrap();
    assert_eq!((seen.entries().len(), seen.failed.len(), &seen.failed[0].channel), (1, 1, &channel("b")));
}

#[tokio::test(start_paused = true)]
async fn one_unreadable_channel_does_not_stop_the_comparison_of_other_heads() {
    for corrupt in [true, false] {
        let (hub, faults, inner) = faulty();
        let mut readers = Vec::new();
        for name in ["b", "a", "c"] {
            readers.push(hub.subscribe(Subscription::new(channel(name))).await.unwrap());
        }
        settle().await;
        match corrupt {
            true => faults.corrupt_channel(&channel("b")),
            false => faults.fail_channel(&channel("b")),
        }
        faults.lose_hints(usize::MAX);
        append(&inner, ["found by a comparison only"]).await;
        let seen = timeout(crate::CHECK_EVERY * 2, texts(&mut readers[1])).await;
        assert_eq!(seen.expect("the comparison continues"), ["found by a comparison only"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_fails_altogether_is_not_called_for_each_channel() {
    let (hub, faults, _) = faulty();
    let names: Vec<_> = (0..200).map(|n| n.to_string()).collect();
    let mut readers = Vec::new();
    for name in &names {
        readers.push(hub.subscribe(Subscription::new(channel(name))).await.unwrap());
    }
    settle().await;
    faults.fail_next_heads(usize::MAX);
    let before = faults.heads();
    tokio::time::sleep(crate::CHECK_EVERY * 10).await;
    assert!(faults.heads() - before <= 60, "{} calls in 10 comparisons", faults.heads() - before);
}

#[tokio::test(start_paused = true)]
async fn an_unreadable_channel_is_not_mistaken_for_a_failing_store() {
    let (hub, faults, inner) = faulty();
    let mut live = hub.subscribe(Subscription::new(channel("a"))).await.unwrap();
    faults.fail_channel(&channel("b"));
    // A request for this channel alone, so that the whole call fails.
    assert!(hub.subscribe(Subscription::new(channel("b"))).await.is_err());
    settle().await;
    faults.lose_hints(usize::MAX);
    append(&inner, ["found by a comparison only"]).await;
    let seen = timeout(crate::CHECK_EVERY * 2, texts(&mut live)).await;
    assert_eq!(seen.expect("the comparison continues"), ["found by a comparison only"]);
}

#[tokio::test(start_paused = true)]
async fn a_call_for_heads_that_hangs_is_repeated_once_at_most() {
    let (hub, faults, _) = faulty();
    let names = Channels::new((0..32).map(|n| channel(&n.to_string()))).unwrap();
    let _held = faults.hold_heads();
    let start = Instant::now();
    assert!(hub.heads(&names).await.is_err());
    assert!(start.elapsed() <= crate::READ_TIMEOUT * 2, "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_channel_that_cannot_be_followed_is_logged_once_until_it_can() {
    let (hub, faults, _) = faulty();
    let _live = hub.subscribe(Subscription::new(channel("a"))).await.unwrap();
    let logs = Logs::of_this_thread();
    for times in 1..=2 {
        faults.corrupt_channel(&channel("a"));
        tokio::time::sleep(crate::CHECK_EVERY * 3).await;
        assert_eq!(logs.text().matches("a channel cannot be followed").count(), times);
        faults.mend_channel(&channel("a"));
        tokio::time::sleep(crate::CHECK_EVERY * 2).await;
    }
}
