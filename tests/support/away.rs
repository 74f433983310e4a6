//! What a hub does while the server of its store is away for long.

use std::{fs, time::Duration};

use tokio::{
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use tower_events::{Channel, Delivery, Event, Hub, Store, Subscriber, Subscription};

use super::logs::Logs;

/// Checks that nothing is busy while the server is away, that little is logged, and that readers have events again within
/// seconds of its return. Ten minutes in the long form. The caller's runtime has one thread: its time and logs are measured.
pub(crate) async fn check<T>(
    store: impl Store,
    mut server: T,
    stop: impl FnOnce(&mut T),
    run: impl AsyncFnOnce(&mut T),
) {
    let hub = Hub::new(store);
    let room = Channel::new("room").expect("a name");
    hub.publish(&room, Event::text("before")).await.expect("published");
    let mut waiting = JoinSet::new();
    for _ in 0..READERS {
        let mut subscriber = hub.subscribe(Subscription::new(&room)).await.expect("subscribed");
        waiting.spawn(async move { has_events(&mut subscriber).await });
    }
    let logs = Logs::of_this_thread();
    stop(&mut server);
    let mut coming = JoinSet::new();
    for _ in 0..READERS {
        coming.spawn(keeps_coming(hub.clone(), room.clone()));
    }
    sleep(Duration::from_secs(2)).await;
    let (cpu, memory) = (cpu_time(), resident_bytes());
    let begun = Instant::now();
    while begun.elapsed() < away() {
        let event = Event::text("meanwhile").keyed("meanwhile").expect("a key");
        hub.publish(&room, event).await.expect_err("away");
        sleep(Duration::from_secs(1)).await;
    }
    let used = (cpu_time() - cpu).as_secs_f64() / begun.elapsed().as_secs_f64();
    let lines = logs.seen();
    println!("away {:?}: {:.2} % of a core, {} lines", begun.elapsed(), used * 100.0, lines.len());
    assert!(used < 0.01, "{:.2} % of a core", used * 100.0);
    let minutes = usize::try_from(away().as_secs() / 60).expect("few");
    assert!((1..=LINES_OF_A_CHANGE + minutes).contains(&lines.len()), "{lines:#?}");
    if minutes > 0 {
        // Other tests run at the same time in the short form.
        let grown = resident_bytes().saturating_sub(memory);
        assert!(grown < 4 << 20, "{grown} bytes more");
    }

    let back = Instant::now();
    run(&mut server).await;
    while hub.publish(&room, Event::text("after")).await.is_err() {
        sleep(Duration::from_millis(100)).await;
        assert!(back.elapsed() < Duration::from_secs(40), "not back");
    }
    let all = timeout(Duration::from_secs(20), waiting.join_all()).await;
    assert!(all.expect("events within seconds").into_iter().all(|has| has), "readers stay connected");
    println!("back after {:?}", back.elapsed());
    while !logs.text().contains("the event store answers again") {
        sleep(Duration::from_millis(20)).await;
        assert!(back.elapsed() < Duration::from_secs(60), "not said");
    }
    let mut after = logs.seen().split_off(lines.len());
    // Another matter: the server kept nothing.
    after.retain(|line| !line.contains("a different log than before"));
    assert!(after.len() <= LINES_OF_A_CHANGE, "{after:#?}");
}

/// Whether the next delivery is events, or a reset because the server has lost them.
async fn has_events(subscriber: &mut Subscriber) -> bool {
    matches!(subscriber.next().await, Some(Ok(Delivery::Events(_) | Delivery::Reset(_))))
}

/// A reader that comes while the server is away, as often as it is told to.
async fn keeps_coming(hub: Hub, room: Channel) {
    loop {
        if let Ok(mut subscriber) = hub.subscribe(Subscription::new(&room)).await {
            while has_events(&mut subscriber).await {}
        }
        sleep(hub.failure_backoff()).await;
    }
}

fn away() -> Duration {
    let is_long = std::env::var_os("TOWER_EVENTS_LONG").is_some_and(|long| long != "0");
    Duration::from_secs(if is_long { 600 } else { 4 })
}

/// What this thread has used.
fn cpu_time() -> Duration {
    let all = fs::read_to_string("/proc/thread-self/schedstat").expect("Linux");
    let nanos = all.split(' ').next().and_then(|nanos| nanos.parse().ok());
    Duration::from_nanos(nanos.expect("a number"))
}

fn resident_bytes() -> u64 {
    let all = fs::read_to_string("/proc/self/statm").expect("Linux");
    let pages: u64 = all.split(' ').nth(1).and_then(|pages| pages.parse().ok()).expect("a number");
    pages * 4096
}

const READERS: usize = 50;

/// One of the hub, whose calls fail or succeed again, and one of the store, whose connections are lost or back.
const LINES_OF_A_CHANGE: usize = 2;
