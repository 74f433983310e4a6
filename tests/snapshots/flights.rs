//! How readers share calls of the provider.

use std::time::{Duration, Instant};

use tower_events::{Delivery, SubscribeError, Subscriber, Subscription, store::Start};

use super::*;

async fn snapshot(subscriber: &mut Subscriber) -> tower_events::Snapshot {
    loop {
        match subscriber.next().await.unwrap().unwrap() {
            Delivery::Snapshot(snapshot) => return snapshot,
            Delivery::Reset(reset) => assert!(reset.snapshot_follows),
            other => panic!("{other:?}"),
        }
    }
}

fn state(snapshot: &tower_events::Snapshot) -> &str {
    snapshot.entry().data.as_shown()
}

#[tokio::test]
async fn ten_thousand_readers_that_are_reset_at_once_share_a_few_calls() {
    const READERS: usize = 10_000;
    let site = Site::start().await;
    let snapshots = site.application.snapshots();
    let mut readers = Vec::with_capacity(READERS);
    for _ in 0..READERS {
        let subscription = Subscription::new(channel("a")).start(Start::Latest).snapshots(snapshots.clone());
        readers.push(site.hub.subscribe(subscription).await.unwrap());
    }
    assert_eq!(site.application.calls(), 0);
    let reset: Vec<_> = readers
        .into_iter()
        .map(|mut reader| tokio::spawn(async move { (snapshot(&mut reader).await.cursor(), reader) }))
        .collect();
    tokio::task::yield_now().await;
    let (began, before) = (Instant::now(), cpu_and_memory());
    let head = site.hub.init(&channel("a"), vec![]).await.unwrap().cursor;
    let mut kept = Vec::new();
    for reader in reset {
        let (cursor, reader) = reader.await.unwrap();
        assert_eq!(cursor, head);
        kept.push(reader);
    }
    let (took, after) = (began.elapsed(), cpu_and_memory());
    let calls = site.application.calls();
    println!(
        "{READERS} readers: {calls} calls, {took:?}, {} ms of CPU time, {} kB more resident",
        after.0 - before.0,
        after.1.saturating_sub(before.1)
    );
    assert!(calls <= 5, "{calls} calls");
}

/// Milliseconds of CPU time that this process used, and its resident kilobytes.
fn cpu_and_memory() -> (u64, u64) {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<_> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    (ticks * 10, resident.split_whitespace().next().unwrap().parse().unwrap())
}

#[tokio::test]
async fn after_a_reset_a_call_that_began_before_it_does_not_count() {
    let site = Site::start().await;
    let snapshots = site.application.snapshots();
    let live = Subscription::new(channel("a")).start(Start::Latest).snapshots(snapshots.clone());
    let mut live = site.hub.subscribe(live).await.unwrap();
    site.application.behaviour.send_replace(Behaviour::Hold);
    let fresh = Subscription::new(channel("a")).snapshots(snapshots);
    let (hub, again) = (site.hub.clone(), fresh.clone());
    let fresh_reader = tokio::spawn(async move { hub.subscribe(again).await });
    support::eventually("the first call runs", || site.application.calls() == 1).await;
    // The log is made anew while the call runs: its head is of the old one.
    site.hub.init(&channel("a"), vec![]).await.unwrap();
    let reset = tokio::spawn(async move { (snapshot(&mut live).await, live) });
    tokio::task::yield_now().await;
    site.application.commit(1);
    site.application.behaviour.send_replace(Behaviour::Answer);
    let (of_reset, _) = reset.await.unwrap();
    let head = site.hub.heads(&channel("a").into()).await.unwrap()[0].cursor;
    assert_eq!((of_reset.cursor(), site.application.calls()), (head, 2));
    // The fresh reader has the state with the old head, and is reset from there.
    let mut fresh_reader = fresh_reader.await.unwrap().unwrap();
    assert_ne!(snapshot(&mut fresh_reader).await.cursor(), head);
    assert_eq!(snapshot(&mut fresh_reader).await.cursor(), head);
    assert_eq!(site.application.calls(), 3, "the second call began before that reset was decided");
}

#[tokio::test]
async fn a_late_joiner_gets_everything_that_its_state_lacks() {
    // With everything retained, and with what was published meanwhile trimmed.
    for (events, site) in [(3, Site::start().await), (9, Site::trimming().await)] {
        site.change("a").await;
        let subscription = Subscription::new(channel("a")).snapshots(site.application.snapshots());
        site.application.behaviour.send_replace(Behaviour::Hold);
        let (hub, again) = (site.hub.clone(), subscription.clone());
        let first = tokio::spawn(async move { hub.subscribe(again).await.unwrap() });
        support::eventually("the call runs", || site.application.calls() == 1).await;
        // Committed after the provider was called: the state lacks nothing at or below the head.
        let mut last = String::new();
        for _ in 0..events {
            last = site.change("a").await;
        }
        let hub = site.hub.clone();
        let late = tokio::spawn(async move { hub.subscribe(subscription).await.unwrap() });
        site.readers(2).await;
        site.application.behaviour.send_replace(Behaviour::Answer);
        for mut reader in [first.await.unwrap(), late.await.unwrap()] {
            snapshot(&mut reader).await;
            while reader.cursors().to_string() != last {
                match reader.next().await.unwrap().unwrap() {
                    Delivery::Events(_) | Delivery::Snapshot(_) => {}
                    Delivery::Reset(reset) => assert!(events > 3 && reset.snapshot_follows),
                    other => panic!("{other:?}"),
                }
            }
        }
        assert_eq!(site.application.calls() > 1, events > 3);
    }
}

#[tokio::test]
async fn a_reader_keeps_its_position_until_its_state_is_handed_out() {
    let site = Site::trimming().await;
    let old = site.change("a").await;
    let head = site.changes("a", 9).await.pop().unwrap();
    let resume = Subscription::new(channel("a")).resume(&old.parse().unwrap());
    let mut reader = site.hub.subscribe(resume.snapshots(site.application.snapshots())).await.unwrap();
    assert!(matches!(reader.next().await, Some(Ok(Delivery::Reset(_)))));
    assert_eq!(reader.cursors().to_string(), old);
    assert_eq!(snapshot(&mut reader).await.cursor().to_string(), head);
    assert_eq!((reader.cursors().to_string(), site.hub.stats().totals.resets.sum()), (head, 1));
}

#[tokio::test]
async fn a_reader_that_shares_an_older_state_is_live_once_it_has_what_came_since() {
    let site = Site::of(Hub::with_options(MemoryStore::default(), HubOptions::default().ring_bytes(0))).await;
    site.change("a").await;
    site.get("/poll?channel=a").send().await.expect(200);
    site.change("a").await;
    let (mut data, mut url) = (Vec::new(), "/poll?channel=a".to_owned());
    loop {
        let answer = site.get(&url).send().await.expect(200);
        data.extend(answer.data());
        if answer.try_header("events-live").is_some() {
            break;
        }
        url = format!("/poll?channel=a&after={}", answer.cursor());
    }
    assert_eq!(data, [json!({ "state": 1 }), json!({ "change": 2 })]);
    let mut stream = site.get("/sse?channel=a").sse().await;
    stream.live().await;
    assert_eq!(names(&stream), ["state", "message", "stream-live"]);
    assert_eq!(site.application.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_channel_that_is_trimmed_faster_than_it_is_read_costs_few_calls() {
    let (hub, application) = (trimming_hub(), Application::new());
    let trims = {
        let (hub, calls) = (hub.clone(), application.calls.clone());
        // Every call is overtaken by more events than are retained.
        Snapshots::new(move |_| {
            let (hub, calls) = (hub.clone(), calls.clone());
            async move {
                calls.fetch_add(1, SeqCst);
                for _ in 0..6 {
                    hub.publish(&channel("a"), Event::text("x")).await?;
                }
                Ok::<_, tower_events::StoreError>(Event::text("state"))
            }
        })
    };
    let mut reader = hub.subscribe(Subscription::new(channel("a")).snapshots(trims)).await.unwrap();
    let minute = tokio::time::timeout(Duration::from_secs(60), async {
        loop {
            snapshot(&mut reader).await;
        }
    });
    assert!(minute.await.is_err());
    assert!((6..=14).contains(&application.calls()), "{}", application.calls());
}

#[tokio::test(start_paused = true)]
async fn resets_that_follow_one_another_cost_a_call_every_100_ms_at_most() {
    let (hub, application) = (Hub::new(MemoryStore::default()), Application::new());
    let (snapshots, began) = (application.snapshots(), tokio::time::Instant::now());
    for _ in 0..10 {
        let late = Subscription::new(channel("a")).start(Start::Latest).snapshots(snapshots.clone());
        let mut reader = hub.subscribe(late).await.unwrap();
        hub.init(&channel("a"), vec![]).await.unwrap();
        snapshot(&mut reader).await;
    }
    assert_eq!(application.calls(), 10);
    assert!(began.elapsed() >= Duration::from_millis(900), "{:?}", began.elapsed());
}

#[tokio::test]
async fn calls_are_bounded_in_number_and_those_that_wait_too() {
    let (hub, application) = (Hub::new(MemoryStore::default()), Application::new());
    application.behaviour.send_replace(Behaviour::Hold);
    let snapshots = application.snapshots().max_concurrent(2);
    let mut waiting = tokio::task::JoinSet::new();
    for n in 0..1_030 {
        let subscription = Subscription::new(channel(&format!("c{n}"))).snapshots(snapshots.clone());
        let hub = hub.clone();
        waiting.spawn(async move { hub.subscribe(subscription).await });
    }
    for _ in 0..1_030 - 2 - 1_024 {
        let refused = waiting.join_next().await.unwrap().unwrap();
        assert!(matches!(refused, Err(SubscribeError::Overloaded { .. })), "{refused:?}");
    }
    support::eventually("two calls run", || application.running.load(SeqCst) == 2).await;
    assert_eq!(application.calls(), 2);
    application.behaviour.send_replace(Behaviour::Answer);
    while let Some(subscribed) = waiting.join_next().await {
        subscribed.unwrap().unwrap();
    }
    assert_eq!(application.calls(), 1_026);
}

#[tokio::test]
async fn streams_share_the_bytes_of_a_snapshot() {
    use http_body::Body as _;
    use std::{future::poll_fn, pin::Pin};

    let hub = Hub::new(MemoryStore::default());
    let snapshots = Snapshots::new(|_| async { Ok::<_, tower_events::InvalidEvent>(Event::text("x".repeat(20_000))) });
    let mut chunks = Vec::new();
    for _ in 0..2 {
        let mut body = hub.sse(Subscription::new(channel("a")).snapshots(snapshots.clone())).await.unwrap();
        let mut largest = bytes::Bytes::new();
        while largest.len() < 20_000 {
            largest = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await.unwrap().unwrap().into_data().unwrap();
        }
        chunks.push(largest);
    }
    assert_eq!(chunks[0], chunks[1]);
    assert_eq!(chunks[0].as_ptr(), chunks[1].as_ptr());
}

#[tokio::test]
async fn hubs_that_share_a_provider_do_not_share_positions() {
    let application = Application::new();
    let snapshots = application.snapshots();
    for _ in 0..2 {
        let hub = Hub::new(MemoryStore::default());
        hub.publish(&channel("a"), Event::text("x")).await.unwrap();
        let mut reader = hub.subscribe(Subscription::new(channel("a")).snapshots(snapshots.clone())).await.unwrap();
        let snapshot = snapshot(&mut reader).await;
        assert_eq!(snapshot.cursor(), hub.heads(&channel("a").into()).await.unwrap()[0].cursor);
        assert_eq!(state(&snapshot), r#"{"state":0}"#);
    }
    assert_eq!(application.calls(), 2);
}

#[tokio::test]
async fn a_provider_that_reads_both_at_once_sets_the_position() {
    let hub = Hub::new(MemoryStore::default());
    let first = hub.publish(&channel("a"), Event::text("1")).await.unwrap().cursor;
    let both = hub.clone();
    let snapshots = Snapshots::with_positions(move |request| {
        let hub = both.clone();
        async move {
            // Published after the head was read, and contained in the state.
            let position = hub.publish(&request.channel, Event::text("2")).await?.cursor;
            Ok::<_, tower_events::StoreError>((Event::text("1, 2"), position))
        }
    });
    let mut reader = hub.subscribe(Subscription::new(channel("a")).snapshots(snapshots)).await.unwrap();
    let snapshot = snapshot(&mut reader).await;
    assert_eq!((snapshot.cursor().seq, state(&snapshot)), (first.seq + 1, "1, 2"));
    let third = hub.publish(&channel("a"), Event::text("3")).await.unwrap().cursor;
    let Some(Ok(Delivery::Events(events))) = reader.next().await else { panic!() };
    assert_eq!((events.len(), events.next()), (1, third), "2 does not come again");
}
