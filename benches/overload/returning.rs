//! After a restart, 10 000 readers of one channel resume within a second, each from its own position.

use std::time::{Duration, Instant};

use tokio::{runtime::Builder, task::JoinSet, time::sleep};
use tower_events::{
    Channel, Delivery, Event, FileStore, Hub, HubOptions, Store, Subscription,
    store::{Append, Limit, Start},
    testing::FaultStore,
};

const READERS: usize = 10_000;

pub(crate) fn run() {
    println!("{:>8} {:>8} {:>8} {:>10} {:>10}", "events", "bytes", "pages", "reads", "seconds");
    for (events, bytes) in [(1_000, 100), (1_000, 1_000), (1_000, 4_000)] {
        Builder::new_current_thread().enable_all().build().unwrap().block_on(come_back(events, bytes));
    }
}

/// The default of [`HubOptions::page`].
const PAGE_BYTES: usize = 256 << 10;

async fn come_back(events: usize, bytes: usize) {
    let directory = std::env::temp_dir().join(format!("tower-events-returning-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let channel = Channel::new("a").unwrap();
    let store = FileStore::open(directory.join("events")).unwrap();
    for _ in 0..events / 100 {
        let batch = (0..100).map(|_| Event::text("x".repeat(bytes)));
        store.append(&channel, Append::new(batch)).await.unwrap();
    }
    let whole = Limit::new(events, usize::MAX);
    let entries = store.read(&channel, Start::Earliest, whole).await.unwrap().entries;
    let size: usize = entries.iter().map(|entry| entry.size()).sum();
    let cursors: Vec<_> = entries.iter().map(|entry| entry.cursor).collect();
    let (store, faults) = FaultStore::new(store);
    let hub = Hub::with_options(store, HubOptions::default().page(Limit::new(1_000, PAGE_BYTES)));
    let (start, mut readers) = (Instant::now(), JoinSet::new());
    for n in 0..READERS {
        let (hub, from) = (hub.clone(), fastrand::usize(..events - 1));
        let resume = Subscription::new(&channel).resume(&cursors[from].into());
        readers.spawn(async move {
            sleep(Duration::from_micros(n as u64 * 100)).await;
            let mut reader = hub.subscribe(resume).await.unwrap();
            let mut left = events - 1 - from;
            while left > 0 {
                let Some(Ok(Delivery::Events(events))) = reader.next().await else {
                    panic!("the resume was not continued")
                };
                left -= events.len();
            }
        });
    }
    readers.join_all().await;
    let (pages, seconds) = (size.div_ceil(PAGE_BYTES), start.elapsed().as_secs_f64());
    println!("{events:>8} {bytes:>8} {pages:>8} {:>10} {seconds:>10.2}", faults.reads());
    drop(hub);
    drop(std::fs::remove_dir_all(directory));
}
