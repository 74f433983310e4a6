//! `Subscriber::updates`: one update at a time, each with the position after it.

use tower_events::{Cursors, SubscribeError, Update, UpdateContent, Updates, store::Start};

use super::*;

async fn subscribe(hub: &Hub, subscription: Subscription) -> Updates {
    hub.subscribe(subscription).await.unwrap().updates()
}

async fn next_update(updates: &mut Updates) -> Result<Update, SubscribeError> {
    let next = tokio::time::timeout(Duration::from_secs(3600), updates.next()).await;
    next.expect("an update within an hour").expect("not ended")
}

fn text(update: &Update) -> String {
    match &update.content {
        UpdateContent::Event(entry) => entry.data.as_text().unwrap().to_owned(),
        UpdateContent::Reset(reset) => format!("{} {}", reset.channel, reset.reason.as_str()),
        UpdateContent::Closed(closed) => format!("{} closed", closed.channel),
        other => panic!("{other:?}"),
    }
}

async fn texts(updates: &mut Updates, count: usize) -> Vec<String> {
    let mut texts = Vec::new();
    for _ in 0..count {
        texts.push(text(&next_update(updates).await.unwrap()));
    }
    texts
}

#[tokio::test(start_paused = true)]
async fn a_reader_resumes_exactly_after_each_update() {
    for names in [&["a"][..], &["a", "b"]] {
        let hub = Hub::new(MemoryStore::default());
        let of_names = Channels::new(names.iter().map(|name| channel(name))).unwrap();
        for name in names {
            hub.publish_all(&channel(name), events((0..3).map(|n| format!("{name}{n}")))).await.unwrap();
            hub.close(&channel(name)).await.unwrap();
        }
        let all = Subscription::new(of_names.clone()).start(Start::Earliest);
        let mut updates = subscribe(&hub, all).await;
        let total = names.len() * 4;
        let mut seen = Vec::new();
        for _ in 0..total {
            let update = next_update(&mut updates).await.unwrap();
            seen.push(text(&update));
            assert_eq!(*updates.cursors(), update.cursors);
            // What the client sends back is a text.
            let cursors: Cursors = update.cursors.to_string().parse().unwrap();
            let rest = subscribe(&hub, Subscription::new(of_names.clone()).resume(&cursors)).await;
            check_rest(rest, &seen, total).await;
        }
        assert!(updates.next().await.is_none());
    }
}

/// That what is left completes what was seen. A close that was seen comes again: a position does not say that it was.
async fn check_rest(mut rest: Updates, seen: &[String], total: usize) {
    let mut all = seen.to_vec();
    while let Some(update) = rest.next().await {
        all.push(text(&update.unwrap()));
    }
    all.sort();
    let closes = all.iter().filter(|text| text.ends_with("closed")).count();
    all.dedup();
    assert_eq!(all.len(), total, "after {seen:?}: {all:?}");
    assert!(closes <= 2 * total / 4, "{all:?}");
}

#[tokio::test(start_paused = true)]
async fn a_position_is_known_before_the_first_update_and_moves_with_a_reset_only_when_it_is_handed_out() {
    let hub = Hub::new(MemoryStore::default());
    publish(&hub, "a", "old").await;
    let mut updates = subscribe(&hub, Subscription::new(channel("a"))).await;
    let start = updates.cursors().clone();
    assert!(tokio::time::timeout(Duration::from_secs(60), updates.next()).await.is_err());
    publish(&hub, "a", "new").await;
    let mut resumed = subscribe(&hub, Subscription::new(channel("a")).resume(&start)).await;
    assert_eq!(texts(&mut resumed, 1).await, ["new"]);

    hub.init(&channel("a"), events(["anew"])).await.unwrap();
    // The ring, which still holds the position, is cleared.
    settle().await;
    let mut reset = subscribe(&hub, Subscription::new(channel("a")).resume(&start)).await;
    assert_eq!(*reset.cursors(), start);
    assert_eq!(texts(&mut reset, 2).await, ["a epoch-changed", "anew"]);
    assert_ne!(*reset.cursors(), start);
}

#[tokio::test(start_paused = true)]
async fn a_signal_ends_them_even_between_the_events_of_a_batch() {
    let hub = Hub::new(MemoryStore::default());
    hub.publish_all(&channel("a"), events(0..3)).await.unwrap();
    let (signal, signalled) = tokio::sync::oneshot::channel::<()>();
    let all = Subscription::new(channel("a")).start(Start::Earliest);
    let mut updates = subscribe(&hub, all).await.until(async { _ = signalled.await });
    assert_eq!(texts(&mut updates, 1).await, ["0"]);
    signal.send(()).unwrap();
    assert!(matches!(updates.next().await, Some(Err(SubscribeError::Ended))));
    assert!(updates.next().await.is_none());
    let rest = Subscription::new(channel("a")).resume(updates.cursors());
    assert_eq!(texts(&mut subscribe(&hub, rest).await, 2).await, ["1", "2"]);

    // While it waits.
    let waiting = subscribe(&hub, Subscription::new(channel("a"))).await;
    let mut waiting = waiting.until(tokio::time::sleep(Duration::from_secs(5)));
    let before = tokio::time::Instant::now();
    assert!(matches!(waiting.next().await, Some(Err(SubscribeError::Ended))));
    assert_eq!(before.elapsed(), Duration::from_secs(5));
}

#[tokio::test(start_paused = true)]
async fn a_drain_and_a_failure_are_errors_that_say_when_to_come_back() {
    let (hub, faults, _) = faulty();
    publish(&hub, "a", 0).await;
    faults.corrupt_channel(&channel("a"));
    let both = Subscription::new(channels(["a", "b"])).start(Start::Earliest);
    let mut updates = subscribe(&hub, both.clone()).await;
    assert!(matches!(next_update(&mut updates).await.unwrap().content, UpdateContent::Failed(_)));
    faults.mend_channel(&channel("a"));

    let mut updates = subscribe(&hub, both).await;
    assert_eq!(texts(&mut updates, 1).await, ["0"]);
    hub.drain(Duration::from_secs(5));
    let Err(drained) = next_update(&mut updates).await else { panic!("drained") };
    assert!(matches!(drained, SubscribeError::Draining { .. }));
    assert!(drained.retry().is_some_and(|retry| (1..=5).contains(&retry.as_secs())), "{drained:?}");
    assert!(updates.next().await.is_none());
}
