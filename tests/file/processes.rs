//! Several processes on one file, started and ended in any order.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
    time::{Duration, Instant},
};

use futures_core::Stream;
use tower_events::{
    Delivery, Hub, Store as _, Subscription,
    store::{Change, Expect},
};

use super::{
    child::Child,
    support::{Temporary, append, keeping_all, read_all, room, texts, with_suffix},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn publishers_and_listeners_come_and_go() {
    let dir = Temporary::new();
    // The file does not exist: all of them create it at once.
    let mut first = Child::start("listen", &dir.file());
    let mut publishers: Vec<_> =
        ["a", "b", "c"].map(|name| Child::start(&format!("publish {name}"), &dir.file())).into();
    let mut acknowledged: Vec<_> = publishers.iter_mut().map(|child| next_lines(child, 50)).collect();
    let mut second = Child::start("listen", &dir.file());
    acknowledged.push(publishers.remove(0).kill());
    publishers.push(Child::start("publish d", &dir.file()));
    for child in &mut publishers {
        acknowledged.push(next_lines(child, 50));
    }
    acknowledged.extend(publishers.into_iter().map(Child::kill));

    let entries = read_all(&keeping_all().open(dir.file()).unwrap()).await;
    let kept = texts(&entries);
    for text in acknowledged.iter().flatten() {
        assert_eq!(kept.iter().filter(|kept| *kept == text).count(), 1, "{text}");
    }
    for listener in [&mut first, &mut second] {
        assert_eq!(listener.next_line().as_deref(), Some("ready"));
        assert_eq!(next_lines(listener, kept.len()), kept);
    }
    let mut third = Child::start("listen", &dir.file());
    assert_eq!(third.next_line().as_deref(), Some("ready"));
    assert_eq!(next_lines(&mut third, kept.len()), kept);
}

fn next_lines(child: &mut Child, lines: usize) -> Vec<String> {
    (0..lines).map(|_| child.next_line().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listener_notices_closes_inits_and_deletes_of_other_processes() {
    let dir = Temporary::new();
    let (here, there) = (keeping_all().open(dir.file()).unwrap(), keeping_all().open(dir.file()).unwrap());
    let mut child = Child::start("listen", &dir.file());
    assert_eq!(child.next_line().as_deref(), Some("ready"));
    append(&here, "1").await.unwrap();
    assert_eq!(child.next_line().as_deref(), Some("1"));
    let event = tower_events::Event::text("2");
    there.init(&room(), vec![event], Expect::Any).await.unwrap();
    assert!(child.next_line().unwrap().contains("EpochChanged"));
    assert_eq!(child.next_line().as_deref(), Some("2"));
    here.delete(&room()).await.unwrap();
    assert!(child.next_line().unwrap().contains("Reset"));
    append(&there, "3").await.unwrap();
    assert_eq!(child.next_line().as_deref(), Some("3"));
    there.append(&room(), tower_events::store::Append::new([]).closing()).await.unwrap();
    assert!(child.next_line().unwrap().contains("Closed"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_inotify_events_arrive_later() {
    let dir = Temporary::new();
    let store = keeping_all().open(dir.file()).unwrap();
    let mut child = Child::start("listen-without-inotify", &dir.file());
    assert_eq!(child.next_line().as_deref(), Some("ready"));
    for n in 0..20 {
        let sent = Instant::now();
        append(&store, n.to_string()).await.unwrap();
        assert_eq!(child.next_line(), Some(n.to_string()));
        assert!(sent.elapsed() < Duration::from_secs(10), "{:?}", sent.elapsed());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_notify_file_events_arrive_later() {
    let dir = Temporary::new();
    let hub = Hub::new(keeping_all().open(dir.file()).unwrap());
    let mut subscriber = hub.subscribe(Subscription::new(room())).await.unwrap();
    let other = keeping_all().open(dir.file()).unwrap();
    let notify_file = with_suffix(&dir.file(), "-bell");
    for n in 0..8 {
        match n % 4 {
            1 => std::fs::remove_file(&notify_file).unwrap(),
            2 => std::fs::write(&notify_file, "x").unwrap(),
            3 => std::fs::write(&notify_file, vec![0xff; 100_000]).unwrap(),
            _ => {}
        }
        let sent = Instant::now();
        append(&other, n.to_string()).await.unwrap();
        match subscriber.next().await.unwrap().unwrap() {
            Delivery::Events(events) => {
                assert_eq!(events.entries().map(|entry| entry.data.as_shown()).collect::<Vec<_>>(), [n.to_string()]);
            }
            other => panic!("{other:?}"),
        }
        assert!(sent.elapsed() < Duration::from_secs(10), "{n}: {:?}", sent.elapsed());
    }
}

/// Wakes the waiting thread.
struct Unpark(std::thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

type Changes = Pin<Box<dyn Stream<Item = Change> + Send>>;

fn next(changes: &mut Changes) -> Change {
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    loop {
        match changes.as_mut().poll_next(&mut Context::from_waker(&waker)) {
            Poll::Ready(change) => return change.unwrap(),
            Poll::Pending => std::thread::park(),
        }
    }
}

/// Waits for a change with this event, or for a resync.
fn wait_for_event(text: &str, changes: &mut Changes) {
    while !match next(changes) {
        Change::Entries(entries) => texts(&entries).contains(&text),
        Change::Resync => true,
        Change::Head(..) => false,
    } {}
}

#[test]
fn a_watcher_works_without_a_runtime_and_after_its_runtime_is_dropped() {
    let dir = Temporary::new();
    let (here, there) = (keeping_all().open(dir.file()).unwrap(), keeping_all().open(dir.file()).unwrap());
    let (its_own, others) = (tokio::runtime::Runtime::new().unwrap(), tokio::runtime::Runtime::new().unwrap());
    let publish = |text: &str| _ = others.block_on(append(&there, text)).unwrap();
    let mut without: Changes = Box::pin(here.changes());
    let mut within: Changes = its_own.block_on(async { Box::pin(here.changes()) as Changes });
    for changes in [&mut without, &mut within] {
        assert!(matches!(next(changes), Change::Resync));
    }
    for text in ["1", "2", "3"] {
        publish(text);
        wait_for_event(text, &mut without);
        wait_for_event(text, &mut within);
    }
    drop(its_own);
    publish("4");
    wait_for_event("4", &mut within);
    drop(within);
    publish("5");
    wait_for_event("5", &mut without);
}
