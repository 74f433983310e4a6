//! `kill -9` at any instant. `TOWER_EVENTS_KILLS` sets how often (20).

use std::time::{Duration, Instant};

use rustix::process::Signal;
use tower_events::{
    Delivery, Hub, StoreError, Subscription,
    store::{Limit, OpenErrorKind, Start, Store as _},
};

use super::{
    child::Child,
    support::{Temporary, append, error_chain, integrity, keeping_all, read_all, repetitions, room, texts},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_publisher_loses_nothing_that_was_acknowledged() {
    let dir = Temporary::new();
    let store = keeping_all().open(dir.file()).unwrap();
    let hub = Hub::new(store.clone());
    let mut subscriber = hub.subscribe(Subscription::new(room()).start(Start::Earliest)).await.unwrap();
    let mut acknowledged: Vec<Vec<String>> = Vec::new();
    let (mut longest, kills) = (Duration::ZERO, repetitions("TOWER_EVENTS_KILLS", 20));
    for round in 0..kills {
        let roles = [format!("publish {round}.0"), format!("publish-synced {round}.1")];
        let mut children = roles.map(|role| Child::start(&role, &dir.file()));
        let mut lines = [0, 1].map(|n| children[n].next_line().into_iter().collect::<Vec<_>>());
        // A random instant.
        std::thread::sleep(Duration::from_micros(fastrand::u64(0..20_000)));
        for (n, child) in children.into_iter().enumerate() {
            lines[n].extend(child.kill());
        }
        let killed = Instant::now();
        append(&store, format!("survivor:{round}")).await.unwrap();
        longest = longest.max(killed.elapsed());
        acknowledged.extend(lines);
        acknowledged.push(vec![format!("survivor:{round}")]);
    }
    assert!(longest < Duration::from_secs(1), "others continued after {longest:?}");
    assert_eq!(integrity(&dir.file()), "ok");
    let entries = read_all(&store).await;
    let kept = texts(&entries);
    let positions: std::collections::HashMap<_, _> = kept.iter().enumerate().map(|(at, text)| (*text, at)).collect();
    assert_eq!(positions.len(), kept.len(), "each is there once");
    let mut events = 0;
    for lines in &acknowledged {
        let at: Vec<_> = lines.iter().map(|text| positions[text.as_str()]).collect();
        assert!(at.is_sorted(), "in the order of their publisher: {lines:?}");
        events += at.len();
    }
    // A subscriber that followed from the start has seen the same.
    let mut followed = Vec::new();
    while followed.len() < entries.len() {
        match subscriber.next().await.unwrap().unwrap() {
            Delivery::Events(events) => followed.extend(events.entries().cloned()),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(followed, entries);
    println!(
        "{kills} rounds, 2 kills each: {events} acknowledged, {} kept; others continued within {longest:?}",
        kept.len()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killing_a_process_releases_its_lock() {
    let dir = Temporary::new();
    let store = keeping_all().open(dir.file()).unwrap();
    append(&store, "before").await.unwrap();
    for round in 0..repetitions("TOWER_EVENTS_KILLS", 20) / 5 {
        let mut child = Child::start("hold-lock", &dir.file());
        assert_eq!(child.next_line().as_deref(), Some("ready"));
        let (waiting, text) = (store.clone(), format!("after {round}"));
        let waiting = tokio::spawn(async move { append(&waiting, text).await });
        assert_eq!(texts(&read_all(&store).await).len() as u64, 1 + round, "reads go on");
        assert!(!waiting.is_finished());
        let killed = Instant::now();
        child.kill();
        waiting.await.unwrap().unwrap();
        assert!(killed.elapsed() < Duration::from_secs(10), "{:?}", killed.elapsed());
    }
    assert_eq!(integrity(&dir.file()), "ok");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_writer_is_named_and_its_transaction_does_not_count() {
    let dir = Temporary::new();
    let patience = Duration::from_millis(200);
    let store = keeping_all().open(dir.file()).unwrap();
    let impatient = keeping_all().timeout(patience).open(dir.file()).unwrap();
    append(&store, "before").await.unwrap();
    let mut child = Child::start("hold-lock", &dir.file());
    assert_eq!(child.next_line().as_deref(), Some("ready"));
    child.signal(Signal::STOP);

    let error = append(&impatient, "never").await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
    let text = error_chain(&error);
    assert!(text.contains(&format!("process {}", child.id())) && text.contains("stopped"), "{text}");
    let error = keeping_all().timeout(patience).open(dir.file()).unwrap_err();
    assert_eq!(error.kind(), &OpenErrorKind::Locked);
    assert!(error.is_retryable());
    assert!(error_chain(&error).contains(&format!("process {}", child.id())), "{}", error_chain(&error));
    let page = store.read(&room(), Start::Earliest, Limit::default()).await.unwrap();
    assert_eq!(texts(&page.entries), ["before"], "reads go on");

    child.kill();
    append(&store, "after").await.unwrap();
    assert_eq!(texts(&read_all(&store).await), ["before", "after"]);
}
